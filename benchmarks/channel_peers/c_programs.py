"""C programs that make blocking system calls on System V objects: nothing on these can be faster."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import aioipc
from benchmarks.case import Unable

from .base import Invitation, LocalPeer
from .sysv_ipc_threads import SysvIpcThreads

QUEUES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <time.h>

struct message { long type; char text[8192]; } message = {1};
static int in, out, size;

static void put(void) { if (msgsnd(out, &message, size, 0)) exit(1); }
static void get(void) { if (msgrcv(in, &message, sizeof message.text, 0, 0) < 0) exit(1); }
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* converse|answer|pour|drain IN OUT COUNT SIZE; converse prints the seconds of each time */
int main(int argc, char **argv)
{
    int count = atoi(argv[4]);
    in = atoi(argv[2]), out = atoi(argv[3]), size = atoi(argv[5]);
    for (; count; count--) {
        double started = now();
        if (!strcmp(argv[1], "converse")) { put(); get(); printf("%.9f\n", now() - started); }
        else if (!strcmp(argv[1], "answer")) { get(); put(); }
        else if (!strcmp(argv[1], "pour")) put();
        else get();
    }
    return 0;
}
"""

SEMAPHORE = r"""
#include <stdlib.h>
#include <sys/sem.h>

/* ID COUNT */
int main(int argc, char **argv)
{
    struct sembuf take = {0, -1, SEM_UNDO}, give = {0, 1, SEM_UNDO};
    int id = atoi(argv[1]);
    for (int count = atoi(argv[2]); count; count--)
        if (semop(id, &take, 1) || semop(id, &give, 1)) return 1;
    return 0;
}
"""


def compiled(source: str) -> str:
    """Compile a program; return its path, in a directory that goes with the measurement."""
    if shutil.which("gcc") is None:
        raise Unable("there is no gcc here")
    path = Path(tempfile.mkdtemp(), "program")
    subprocess.run(["gcc", "-O2", "-o", path, "-x", "c", "-"], input=source, text=True, check=True)
    return str(path)


class CSysVQueue(SysvIpcThreads):
    """Two queues; each side runs the program."""

    share = 1.0
    largest = 8192

    async def invite(self) -> Invitation:
        self._program = compiled(QUEUES)
        return Invitation(f"{(await super().invite()).address},{self._program}")

    async def join(self, address: str) -> None:
        queues, _, self._program = address.rpartition(",")
        await super().join(queues)

    async def converse(self, count: int, message: bytes) -> list[float]:
        return [float(line) for line in self._run("converse", count, len(message)).split()]

    async def answer(self, count: int, message: bytes) -> None:
        self._run("answer", count, len(message))

    async def pour(self, count: int, message: bytes) -> None:
        self._run("pour", count, len(message))

    async def drain(self, count: int, size: int) -> None:
        self._run("drain", count, size)

    def _run(self, what: str, count: int, size: int) -> str:
        command = [self._program, what, self._in.id, self._out.id, count, size]
        return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True).stdout


class CSemaphore(LocalPeer):
    async def take_and_give(self, count: int) -> None:
        if not hasattr(self, "_program"):
            self._program = compiled(SEMAPHORE)
            self._semaphores = aioipc.SysVSemaphoreSet.create(None, [1])
        subprocess.run([self._program, str(self._semaphores.id), str(count)], check=True)  # noqa: ASYNC221

    async def stop(self) -> None:
        self._semaphores.close()
