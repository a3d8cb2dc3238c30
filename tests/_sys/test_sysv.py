"""The calls of System V by themselves: structures as C has them, messages and operations as sysv_ipc has them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sysv_ipc

from aioipc._sys import sysv, sysv_messages, sysv_semaphores
from aioipc._sys.sysv_semaphores import Operation
from tests.harness.c_programs import compile_c

OFFSETS = r"""
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <sys/msg.h>
#include <sys/sem.h>
#define SHOW(name, type, field) printf(name " %zu\n", offsetof(type, field))

int main(void)
{
    SHOW("q.permissions", struct msqid_ds, msg_perm);
    SHOW("q.sent", struct msqid_ds, msg_stime);
    SHOW("q.received", struct msqid_ds, msg_rtime);
    SHOW("q.changed", struct msqid_ds, msg_ctime);
    SHOW("q.bytes", struct msqid_ds, __msg_cbytes);
    SHOW("q.messages", struct msqid_ds, msg_qnum);
    SHOW("q.max_bytes", struct msqid_ds, msg_qbytes);
    SHOW("q.sender", struct msqid_ds, msg_lspid);
    SHOW("q.receiver", struct msqid_ds, msg_lrpid);
    printf("q %zu\n", sizeof(struct msqid_ds));
    SHOW("s.permissions", struct semid_ds, sem_perm);
    SHOW("s.operated", struct semid_ds, sem_otime);
    SHOW("s.changed", struct semid_ds, sem_ctime);
    SHOW("s.count", struct semid_ds, sem_nsems);
    printf("s %zu\n", sizeof(struct semid_ds));
    SHOW("p.key", struct ipc_perm, __key);
    SHOW("p.uid", struct ipc_perm, uid);
    SHOW("p.gid", struct ipc_perm, gid);
    SHOW("p.cuid", struct ipc_perm, cuid);
    SHOW("p.cgid", struct ipc_perm, cgid);
    SHOW("p.mode", struct ipc_perm, mode);
    printf("p %zu\n", sizeof(struct ipc_perm));
    SHOW("o.number", struct sembuf, sem_num);
    SHOW("o.delta", struct sembuf, sem_op);
    SHOW("o.flags", struct sembuf, sem_flg);
    printf("o %zu\n", sizeof(struct sembuf));
    printf("MSG_EXCEPT %d\nMSG_COPY %d\nSEM_UNDO %d\nIPC_NOWAIT %d\n", MSG_EXCEPT, MSG_COPY, SEM_UNDO, IPC_NOWAIT);
    printf("GETALL %d\nSETALL %d\nGETNCNT %d\nGETZCNT %d\nGETPID %d\nSETVAL %d\nGETVAL %d\n",
           GETALL, SETALL, GETNCNT, GETZCNT, GETPID, SETVAL, GETVAL);
    return 0;
}
"""


@pytest.fixture
def queue() -> Iterator[int]:
    id = sysv_messages.get(sysv.IPC_PRIVATE, 0o600)
    yield id
    if sysv_messages_exist(id):
        sysv_messages.remove(id)


@pytest.fixture
def semaphores() -> Iterator[int]:
    id = sysv_semaphores.get(sysv.IPC_PRIVATE, 3, 0o600)
    yield id
    sysv_semaphores.remove(id)


def sysv_messages_exist(id: int) -> bool:
    try:
        sysv_messages.status(id)
    except OSError:
        return False
    return True


def test_structures_and_numbers_are_those_of_c(tmp_path: Path) -> None:
    shown = subprocess.run(
        [compile_c(OFFSETS, tmp_path)], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    structures: dict[str, type[ctypes.Structure]] = {
        "q": sysv_messages._Status,
        "s": sysv_semaphores._Status,
        "p": sysv.Permissions,
        "o": sysv_semaphores._Operation,
    }
    numbers = {
        "MSG_EXCEPT": sysv_messages.MSG_EXCEPT,
        "MSG_COPY": sysv_messages.MSG_COPY,
        "SEM_UNDO": sysv_semaphores._SEM_UNDO,
        "IPC_NOWAIT": sysv.IPC_NOWAIT,
        **{
            name: getattr(sysv_semaphores, f"_{name}")
            for name in ("GETALL", "SETALL", "GETNCNT", "GETZCNT", "GETPID", "SETVAL", "GETVAL")
        },
    }
    for line in shown.splitlines():
        name, number = line.split()
        structure, _, field = name.partition(".")
        if structure not in structures:
            assert numbers.pop(name) == int(number), name
        elif field:
            assert getattr(structures[structure], field).offset == int(number), name
        else:
            assert ctypes.sizeof(structures[structure]) == int(number), name
    assert not numbers


def test_waiting_takes_no_message(queue: int) -> None:
    sysv_messages.send(queue, 3, b"stays")
    for kind, flags in ((0, 0), (3, 0), (-5, 0), (4, sysv_messages.MSG_EXCEPT)):
        assert sysv_messages.wait(queue, kind, flags) is None
        assert sysv_messages.wait(queue, kind, flags, block=False) is None
    assert sysv_messages.status(queue).messages == 1


def test_waiting_takes_an_empty_message_and_says_so(queue: int) -> None:
    sysv_messages.send(queue, 3, b"")
    assert sysv_messages.wait(queue, 0, 0) == 3
    with pytest.raises(BlockingIOError):
        sysv_messages.wait(queue, 0, 0, block=False)


def test_a_receiver_that_came_later_gets_what_a_waiting_thread_was_told_of(queue: int) -> None:
    """The kernel goes on to the next receiver when one takes no message of that size."""
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(sysv_messages.wait(queue, 0, 0))),
        threading.Thread(target=lambda: answers.append(sysv_messages.wait(queue, 5, 0))),
    ]
    for thread in threads:
        thread.start()
    sysv_messages.send(queue, 5, b"x")
    for thread in threads:
        thread.join(30)
    assert answers == [None, None]
    assert sysv_messages.Room().receive(queue, 0) == (b"x", 5)


def test_room_grows_with_the_messages_and_keeps_to_limits(queue: int) -> None:
    room = sysv_messages.Room()
    room._grow(4)
    sysv_messages.send(queue, 1, bytes(range(200)))
    with pytest.raises(OSError, match="too long") as caught:
        room.receive(queue, 0, limit=199)
    assert caught.value.errno == errno.E2BIG
    assert room.receive(queue, 0, sysv_messages.MSG_COPY) == (bytes(range(200)), 1)
    assert room.receive(queue, 0, limit=200) == (bytes(range(200)), 1)


def test_an_operation_and_its_contrary_change_nothing(semaphores: int) -> None:
    sysv_semaphores.set_values(semaphores, [2, 0, 0])
    sysv_semaphores.wait(semaphores, (Operation(0, -2), Operation(0, 2)))
    with pytest.raises(BlockingIOError):
        sysv_semaphores.operate(semaphores, (Operation(0, -3), Operation(0, 3)))
    assert sysv_semaphores.values(semaphores, 3) == (2, 0, 0)


def test_one_that_waits_for_it_takes_nothing_from_one_that_takes(semaphores: int) -> None:
    """The bank of a thread that asks beside one that acquires."""
    done = threading.Event()

    def ask() -> None:
        sysv_semaphores.wait(semaphores, (Operation(0, -2), Operation(0, 2)))
        done.set()

    threads = [threading.Thread(target=ask), threading.Thread(target=lambda: take(semaphores))]
    for thread in threads:
        thread.start()
    sysv_semaphores.operate(semaphores, (Operation(0, 4),))
    for thread in threads:
        thread.join(30)
    assert done.is_set()
    assert sysv_semaphores.value(semaphores, 0) == 2


def take(id: int) -> None:
    sysv_semaphores.wait(id, (Operation(0, -2),))


def test_numbers_of_waiters_and_pids(semaphores: int) -> None:
    assert sysv_semaphores.last_pid(semaphores, 1) == 0
    sysv_semaphores.operate(semaphores, (Operation(1, 1),))
    assert sysv_semaphores.last_pid(semaphores, 1) == os.getpid()
    assert sysv_semaphores.waiting(semaphores, 0) == sysv_semaphores.waiting_for_zero(semaphores, 0) == 0
    assert sysv_semaphores.status(semaphores).count == 3


def test_every_message_of_sysv_ipc_is_read_right() -> None:
    theirs = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, max_message_size=8192)
    try:
        room = sysv_messages.Room()
        for type, body in ((1, b""), (2**31 - 1, b"\0" * 8), (5, bytes(8192))):
            theirs.send(body, type=type)
            assert room.receive(theirs.id, 0) == (body, type)
            sysv_messages.send(theirs.id, type, body)
            assert theirs.receive() == (body, type)
    finally:
        theirs.remove()


WRONG: list[Callable[[], object]] = [
    lambda: sysv_messages.send("1", 1, b""),  # type: ignore[arg-type]
    lambda: sysv_messages.send(1, 1, "text"),  # type: ignore[arg-type]
    lambda: sysv_messages.send(1, 1, None),  # type: ignore[arg-type]
    lambda: sysv_messages.send(1, None, b""),  # type: ignore[arg-type]
    lambda: sysv_messages.Room().receive(None, 0),  # type: ignore[arg-type]
    lambda: sysv_messages.Room().receive(1, "0"),  # type: ignore[arg-type]
    lambda: sysv_messages.wait(1, object(), 0),  # type: ignore[arg-type]
    lambda: sysv_semaphores.operate(1, ((0, "x", False),)),  # type: ignore[arg-type]
    lambda: sysv_semaphores.operate(b"1", (Operation(0, 1),)),  # type: ignore[arg-type]
    lambda: sysv_semaphores.set_values(1, ["x"]),  # type: ignore[list-item]
    lambda: sysv_semaphores.value(1, None),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("use", WRONG)
def test_wrong_types_are_errors_and_no_crashes(use: Callable[[], object]) -> None:
    for _ in range(3):
        with pytest.raises((TypeError, ctypes.ArgumentError, struct.error)):
            use()


@pytest.mark.parametrize(
    "use",
    [
        lambda: sysv_messages.status(2**31 - 1),
        lambda: sysv_messages.send(2**31 - 1, 1, b""),
        lambda: sysv_semaphores.status(2**31 - 1),
        lambda: sysv_semaphores.operate(2**31 - 1, (Operation(0, 1),)),
        lambda: sysv_semaphores.values(2**31 - 1, 1),
    ],
)
def test_what_is_not_there(use: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what counts
        use()
    assert caught.value.errno in sysv.GONE


def test_sysctl() -> None:
    assert sysv.sysctl("msgmax") == int(Path("/proc/sys/kernel/msgmax").read_text())
    assert sysv.sysctl("sem", 2) == int(Path("/proc/sys/kernel/sem").read_text().split()[2])
    assert sysv.sysctl("nonsense") is None
    assert sysv.sysctl("sem", 17) is None


def test_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    with pytest.raises(NotImplementedError, match="armv7l"):
        sysv_messages.get(sysv.IPC_PRIVATE, 0o600)
    with pytest.raises(NotImplementedError, match="armv7l"):
        sysv_semaphores.get(sysv.IPC_PRIVATE, 1, 0o600)
