"""What the fault tests have workers do. Importable, so that any test, script and worker can name it.

A task tells that it runs by a line in a journal (one O_APPEND write, so lines of many processes do not mix), and
waits at a gate: a FIFO that the test keeps open for writing until the task may go on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn


class Journal:
    """A file of lines that tasks write. Workers know it by its path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    def lines(self) -> list[str]:
        """What was written so far."""
        return Path(self.path).read_text().splitlines()

    def counts(self) -> Counter[int]:
        """How often each number was written."""
        return Counter(map(int, self.lines()))


class Gate:
    """Where tasks wait until `open`. Workers know it by its path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._held: int | None = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open(self) -> None:
        """Let everybody through, now and later."""
        if self._held is not None:
            Path(f"{self.path}.open").touch()
            os.replace(f"{self.path}.open", self.path)
            os.close(self._held)
            self._held = None


def note(journal: str, text: object) -> None:
    """Write a line."""
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def wait_at(gate: str) -> None:
    """Block until the gate is open, without holding the GIL."""
    with open(gate, "rb", buffering=0) as file:
        file.read()


# -- tasks that are well ---------------------------------------------------------------------------------------


def noted(journal: str, number: int) -> int:
    note(journal, number)
    return number


async def noted_async(journal: str, number: int) -> int:
    note(journal, number)
    await asyncio.sleep(0)
    return number


def held(journal: str, gate: str, number: int) -> int:
    note(journal, number)
    wait_at(gate)
    return number


async def held_async(journal: str, gate: str, number: int) -> int:
    note(journal, number)
    await asyncio.to_thread(wait_at, gate)
    return number


def sleeping(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def sleeping_async(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def failing(number: int) -> NoReturn:
    raise LookupError(number)


def large(journal: str, number: int) -> bytes:
    note(journal, number)
    return number.to_bytes(4, "little") * 150_000


def held_large(journal: str, gate: str, number: int) -> bytes:
    held(journal, gate, number)
    return number.to_bytes(4, "little") * 150_000


# -- tasks that do harm ----------------------------------------------------------------------------------------


def die(how: str) -> NoReturn:
    """End this process: by the signal of that name, by ``exit`` or by ``abort``."""
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.Signals[how])
    signal.pause()
    raise AssertionError("unreachable")


def die_at_first(how: str, journal: str, number: int) -> int:
    """End the process the first time, return the second time."""
    note(journal, number)
    if Path(journal).read_text().splitlines().count(str(number)) == 1:
        die(how)
    return number


async def die_async(how: str, journal: str, number: int) -> NoReturn:
    note(journal, number)
    die(how)


def die_at_number(journal: str, number: int, fatal: int) -> int:
    """Quick and harmless for all numbers but one."""
    note(journal, number)
    if number == fatal:
        die("SIGKILL")
    return number


def stop_here(journal: str) -> None:
    note(journal, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def hold_the_gil(journal: str, seconds: int = 100) -> None:
    """Sleep in C with the GIL held: no thread of this process runs meanwhile."""
    note(journal, os.getpid())
    ctypes.PyDLL(None).sleep(seconds)


async def block_the_loop(journal: str, seconds: float = 100) -> None:
    note(journal, os.getpid())
    time.sleep(seconds)  # noqa: ASYNC251 - that is the fault


def eat_memory(more: int) -> int:
    """Allocate without end under a limit of ``more`` bytes on top of what is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def worker_sockets() -> list[int]:
    """The descriptors of this process's sockets: the link for data, then the one for control."""
    links = {int(name): os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")}
    found = []
    for fd, link in sorted(links.items()):
        try:
            if os.readlink(link).startswith("socket:"):
                found.append(fd)
        except FileNotFoundError:  # the one that listed the directory
            pass
    return found


def write_to_socket(which: int, data: bytes, gate: str) -> str:
    os.write(worker_sockets()[which], data)
    wait_at(gate)
    return "survived"


def lose_sockets(how: str, gate: str) -> str:
    """Close or shut down the sockets of this worker and go on as if nothing were."""
    data, control = worker_sockets()
    if how == "close data":
        os.close(data)
    elif how == "close control":
        os.close(control)
    elif how == "shut data":
        _shut(data)
    elif how == "shut control":
        _shut(control)
    elif how == "close all":
        with open(gate, "rb", buffering=0):
            os.closerange(3, 256)
        wait_at(gate)
    wait_at(gate)
    return "survived"


def _shut(fd: int) -> None:
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


# -- tasks with processes of their own -------------------------------------------------------------------------


def start_sleep(journal: str, new_session: bool) -> int:
    """Start a subprocess that outlives the task; returns its pid."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=new_session)
    note(journal, child.pid)
    child.returncode = 0  # nobody waits for it: no warning either
    return child.pid


def start_sleep_and_wait(journal: str, gate: str, new_session: bool) -> None:
    start_sleep(journal, new_session)
    wait_at(gate)


def fork_child(new_session: bool) -> int:
    """Fork a child that goes on after the task; returns its pid."""
    child = os.fork()
    if child == 0:
        if new_session:
            os.setsid()
        signal.pause()
        os._exit(0)
    return child


def fork_child_and_kill_it(signum: int) -> int:
    """Fork a child, kill it; returns its wait status as an exit code."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    os.kill(child, signum)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_return_twice(journal: str) -> int:
    """Fork and let the child return from the task too."""
    child = os.fork()
    if child:
        note(journal, child)
        return os.getpid()
    return 0


async def fork_in_the_loop() -> int:
    """Fork in an event loop; the child ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    return os.getpid()


# -- tasks that are cancelled ----------------------------------------------------------------------------------


def tidy(journal: str, gate: str) -> None:
    """Wait for ever, and say so when asked to stop."""
    note(journal, "started")
    try:
        wait_at(gate)
    finally:
        note(journal, "finally")


async def tidy_async(journal: str) -> None:
    note(journal, "started")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        note(journal, "finally")


def stubborn(journal: str, gate: str) -> str:
    """Take no notice of being asked to stop."""
    note(journal, "started")
    while True:
        try:
            wait_at(gate)
        except KeyboardInterrupt:
            note(journal, "ignored")
        else:
            return "ended by itself"


async def stubborn_async(journal: str) -> None:
    note(journal, "started")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note(journal, "ignored")


def surroundings() -> dict[str, Any]:
    """Where and how this process runs."""
    import sys

    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "pid": os.getpid(),
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "umask": umask,
        "path": list(sys.path),
        "argv": list(sys.argv),
        "sid": os.getsid(0),
        "pgid": os.getpgrp(),
    }


def stubborn_held(journal: str, gate: str, number: int) -> str:
    return stubborn(journal, gate)
