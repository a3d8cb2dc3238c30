"""System V objects shared with C programs, with util-linux and with sysv_ipc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sysv_ipc

from aioipc import ObjectRemovedError, SysVMessageQueue, SysVSemaphoreSet, SysVSharedMemory, ftok
from tests.harness.c_programs import compile_c, need
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

MESSAGES = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

struct message { long mtype; char mtext[1024]; };

/* ftok PATH ID | send ID TYPE TEXT | receive ID TYPE FLAGS | create KEY */
int main(int argc, char **argv)
{
    struct message m;
    if (!strcmp(argv[1], "ftok")) {
        printf("%d\n", ftok(argv[2], atoi(argv[3])));
        return 0;
    }
    if (!strcmp(argv[1], "create")) {
        int id = msgget(atoi(argv[2]), 0600 | IPC_CREAT);
        printf("%d\n", id);
        return id < 0;
    }
    int id = atoi(argv[2]);
    if (!strcmp(argv[1], "send")) {
        memset(&m, 0, sizeof m);
        m.mtype = atol(argv[3]);
        strncpy(m.mtext, argv[4], sizeof m.mtext - 1);
        if (msgsnd(id, &m, sizeof m.mtext, 0) < 0) { perror("msgsnd"); return 1; }
        return 0;
    }
    ssize_t n = msgrcv(id, &m, sizeof m.mtext, atol(argv[3]), atoi(argv[4]));
    if (n < 0) { perror("msgrcv"); return 1; }
    printf("%ld %zd %.*s\n", m.mtype, n, (int) n, m.mtext);
    return 0;
}
"""

SEMAPHORES = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>

/* operate KEY FLAGS INDEX DELTA [INDEX DELTA ...]: does them at once, says so, and ends when its input does */
int main(int argc, char **argv)
{
    struct sembuf ops[16];
    int id = semget(atoi(argv[2]), 0, 0), count = 0;
    if (id < 0) { perror("semget"); return 1; }
    for (int i = 4; i + 1 < argc; i += 2, count++) {
        ops[count].sem_num = atoi(argv[i]);
        ops[count].sem_op = atoi(argv[i + 1]);
        ops[count].sem_flg = atoi(argv[3]);
    }
    if (semop(id, ops, count) < 0) { perror("semop"); return 1; }
    puts("done");
    fflush(stdout);
    while (getchar() != EOF) { }
    return 0;
}
"""

KEY = 0x41494F01
SEM_UNDO = 0o10000


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(MESSAGES, tmp_path_factory.mktemp("c"), "messages")


@pytest.fixture(scope="module")
def semaphores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(SEMAPHORES, tmp_path_factory.mktemp("c"), "semaphores")


def call(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.asynccontextmanager
async def started(*command: object) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, command), stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "queuekey"
    path.touch()
    return path


@pytest.mark.parametrize("number", [1, 65, 255, 257, 1024, -1, 2**31 - 1])
def test_ftok_is_that_of_c(messages: Path, key_file: Path, number: int) -> None:
    expected = int(call(messages, "ftok", key_file, number))
    assert ftok(key_file, number, allow_zero=True) == expected
    assert sysv_ipc.ftok(str(key_file), number, True) & 0xFFFFFFFF == expected & 0xFFFFFFFF


async def test_c_sends_and_we_receive(messages: Path) -> None:
    async with SysVMessageQueue.create() as queue:
        waiting = asyncio.create_task(queue.receive(type=123))
        async with started(messages, "send", queue.id, 123, "hello world") as sender:
            assert await sender.wait() == 0
            message = await asyncio.wait_for(waiting, 30)
    assert message.type == 123
    assert len(message.body) == 1024
    assert message.body.rstrip(b"\0") == b"hello world"


async def test_we_send_and_c_receives(messages: Path) -> None:
    async with SysVMessageQueue.create() as queue, started(messages, "receive", queue.id, -200, 0) as receiver:
        await queue.send(b"hello world", type=123)
        out, _ = await receiver.communicate()
    assert out == b"123 11 hello world\n"


async def test_one_that_is_too_long_for_the_mtext_of_c_stays(messages: Path) -> None:
    async with SysVMessageQueue.create() as queue:
        await queue.send(bytes(1025))
        async with started(messages, "receive", queue.id, 0, 0) as receiver:
            _, err = await receiver.communicate()
        assert b"Argument list too long" in err
        assert queue.statistics().messages == 1


async def test_removal_wakes_c_and_c_programs_learn_why(messages: Path) -> None:
    queue = SysVMessageQueue.create()
    async with started(messages, "receive", queue.id, 5, 0) as receiver:
        await eventually_async(lambda: is_waiting_in(receiver.pid, "msgrcv"), 30)
        await queue.aclose()
        _, err = await receiver.communicate()
    assert b"Identifier removed" in err


def is_waiting_in(pid: int, call: str) -> bool:
    """By the number of the system call, where the machine tells it; else by its sleep."""
    numbers = {"msgrcv": ("70", "188"), "semop": ("65", "193", "220", "192")}[call]  # x86-64, generic; semtimedop
    try:
        return Path(f"/proc/{pid}/syscall").read_text().split()[0] in numbers
    except OSError:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_the_classic_sequence(messages: Path, key_file: Path) -> None:
    """A program that opens or makes its queue each time; then a sender and a receiver as runs of their own."""
    need("ipcs", "ipcrm")
    key = ftok(key_file, 1)
    make = """
        import sys, aioipc
        queue = aioipc.SysVMessageQueue.create(aioipc.ftok(sys.argv[1], 1), exist_ok=True, remove=False)
        print(queue.id)
        queue.close()
    """
    ids = {run_script(make, str(key_file)).check().stdout for _ in range(3)}
    ids.add(call(messages, "create", key))
    assert len(ids) == 1
    (id,) = (int(text) for text in ids)
    send = """
        import sys, aioipc
        async def main():
            async with aioipc.SysVMessageQueue.open(aioipc.ftok(sys.argv[1], 1)) as queue:
                await queue.send(b"hello world", type=123)
        aioipc.run(main)
    """
    run_script(send, str(key_file)).check()
    assert ipcs_line("-q", key) == [f"{key & 0xFFFFFFFF:#010x}", str(id), owner(), "600", "11", "1"]
    receive = """
        import sys, aioipc
        queue = aioipc.SysVMessageQueue.open(aioipc.ftok(sys.argv[1], 1))
        try:
            print(queue.receive_nowait(type=123))
        except aioipc.WouldBlock:
            print("no message of that type")
        queue.close()
    """
    out = run_script(receive, str(key_file)).check().stdout
    assert out == "SysVMessage(body=b'hello world', type=123)\n"
    assert ipcs_line("-q", key)[4:] == ["0", "0"]
    assert run_script(receive, str(key_file)).check().stdout == "no message of that type\n"
    call("ipcrm", "-q", id)
    with pytest.raises(FileNotFoundError):
        SysVMessageQueue.open(key)


def owner() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def ipcs_line(kind: str, key: int) -> list[str]:
    (line,) = (line for line in call("ipcs", kind).splitlines() if line.startswith(f"{key & 0xFFFFFFFF:#010x}"))
    return line.split()


async def test_a_queue_of_ipcmk_that_ipcrm_removes() -> None:
    need("ipcmk", "ipcrm")
    id = int(re.findall(r"\d+", call("ipcmk", "-Q", "-p", "0600"))[0])
    async with SysVMessageQueue.open(id=id) as queue:
        assert queue.key
        await queue.send(b"x")
        assert (await queue.receive()).body == b"x"
        waiting = [asyncio.create_task(queue.receive(type)) for type in (0, 0, 5, -3)]
        await eventually_async(lambda: queue.statistics().receivers_waiting == 4)
        call("ipcrm", "-q", id)
        for task in waiting:
            with pytest.raises(ObjectRemovedError, match="was removed"):
                await asyncio.wait_for(task, 30)


async def test_a_set_of_ipcmk_that_ipcrm_removes() -> None:
    need("ipcmk", "ipcrm", "ipcs")
    id = int(re.findall(r"\d+", call("ipcmk", "-S", "3", "-p", "0600"))[0])
    async with SysVSemaphoreSet.open(id=id) as semaphores:
        assert len(semaphores) == 3
        assert semaphores.key
        assert ipcs_line("-s", semaphores.key)[4] == "3"
        wishes = [semaphores.acquire(), semaphores.acquire(5), semaphores.operate([(1, -1), (2, -1)])]
        waiting = [asyncio.create_task(wish) for wish in wishes]
        await eventually_async(lambda: semaphores.statistics().tasks_waiting == 3)
        call("ipcrm", "-s", id)
        for task in waiting:
            with pytest.raises(ObjectRemovedError, match="was removed"):
                await asyncio.wait_for(task, 30)


def test_a_segment_of_ipcmk_that_ipcrm_removes() -> None:
    """Who has it attached keeps it, and ``ipcs`` says so: nattch 1, status dest."""
    need("ipcmk", "ipcrm", "ipcs")
    id = int(re.findall(r"\d+", call("ipcmk", "-M", "1000", "-p", "0600"))[0])
    with SysVSharedMemory.open(id=id) as memory:
        assert shm_line(id)[3:] == ["600", "1000", "1"]
        memory.buffer[:5] = b"hello"
        call("ipcrm", "-m", id)
        assert shm_line(id)[5:] == ["1", "dest"]
        assert memory.is_removed()
        assert memory.statistics().removed
        assert bytes(memory.buffer[:5]) == b"hello"
    assert not shm_line(id)


def shm_line(id: int) -> list[str]:
    lines = [line.split() for line in call("ipcs", "-m").splitlines()]
    return next((words for words in lines if words[1:2] == [str(id)]), [])


async def test_the_bank_with_a_customer_in_c(semaphores: Path) -> None:
    async with SysVSemaphoreSet.create(KEY, [100, 1]) as bank:
        await bank.acquire(80)
        async with started(semaphores, "operate", KEY, SEM_UNDO, 0, -50, 1, -1) as customer:
            await eventually_async(lambda: is_waiting_in(customer.pid, "semop"), 30)
            assert bank.values() == (20, 1)
            bank.release(30)
            assert customer.stdout is not None
            assert await customer.stdout.readline() == b"done\n"
            assert bank.values() == (0, 0)
            waiting = asyncio.create_task(bank.acquire(50))
            await eventually_async(lambda: bank.statistics().waiting[0] == 1)
            customer.kill()  # what it holds under undo goes back
            await asyncio.wait_for(waiting, 30)
            assert bank.values() == (0, 1)


async def test_values_and_operations_as_sysv_ipc_sees_them() -> None:
    async with SysVSemaphoreSet.create(KEY, [5]) as ours:
        theirs = sysv_ipc.Semaphore(KEY)
        assert theirs.value == 5
        await ours.acquire(3)
        assert theirs.value == 2
        theirs.acquire(None, 2)
        assert ours.values() == (0,)
        waiting = asyncio.create_task(ours.acquire(2))
        await eventually_async(lambda: theirs.waiting_for_nonzero == 1)
        theirs.release(2)
        await asyncio.wait_for(waiting, 30)
        zero = asyncio.create_task(ours.wait_zero())
        await asyncio.wait_for(zero, 30)
        assert theirs.o_time == ours.statistics().last_operation
        assert theirs.last_pid == ours.statistics().last_pids[0] == os.getpid()
        assert (theirs.uid, theirs.gid, theirs.mode) == (ours.statistics().owner, ours.statistics().group, 0o600)


async def test_messages_and_statistics_as_sysv_ipc_sees_them() -> None:
    async with SysVMessageQueue.create(KEY, max_bytes=4096) as ours:
        theirs = sysv_ipc.MessageQueue(KEY, max_message_size=8192)
        theirs.send(b"from them", type=7)
        assert ours.receive_nowait(type=7) == (b"from them", 7)
        await ours.send(b"from us", type=8)
        found = ours.statistics()
        assert (theirs.current_messages, theirs.max_size) == (found.messages, found.max_bytes) == (1, 4096)
        assert (theirs.last_send_pid, theirs.last_receive_pid) == (found.last_sender, found.last_receiver)
        assert (theirs.last_send_time, theirs.last_receive_time) == (found.last_send, found.last_receive)
        assert (theirs.last_change_time, theirs.uid, theirs.gid) == (found.last_change, found.owner, found.group)
        assert theirs.mode == found.mode == 0o600
        assert theirs.receive() == (b"from us", 8)
        assert theirs.id == ours.id
