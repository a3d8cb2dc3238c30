"""Tests that leak on purpose, each named after what it leaks; run by tests/test_leak_check.py."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysv_ipc

from aioipc.kernel.claims import Claim

KEPT: list[object] = []
AT_LAST = contextlib.ExitStack()
"""For objects that the leak check leaves alone, where it shares them with other programs."""


@pytest.fixture(autouse=True, scope="module")
def really_remove() -> Iterator[None]:
    yield
    with contextlib.suppress(sysv_ipc.ExistentialError, FileNotFoundError):  # the leak check has done it
        AT_LAST.close()


def test_descriptor() -> None:
    KEPT.append(os.pipe())


def test_closed_descriptor() -> None:
    os.close(BORROWED)


def test_socket_without_close() -> None:
    socket.socketpair()


def test_socket_in_a_cycle() -> None:
    cycle: list[object] = [socket.socket()]
    cycle.append(cycle)


def test_thread() -> None:
    thread = threading.Thread(target=threading.Event().wait, daemon=True, name="left-over")
    thread.start()


def test_child() -> None:
    KEPT.append(subprocess.Popen(["sleep", "1000"]))


def test_zombie() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_daemon() -> None:
    """A grandchild that left the session and lost its parent."""
    subprocess.run(["setsid", "--fork", "sleep", "1000"], check=True)


def test_stopped_family() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    child.send_signal(signal.SIGSTOP)
    KEPT.append(child)


def test_sysv_queue() -> None:
    AT_LAST.callback(sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX).remove)


def test_sysv_semaphore() -> None:
    AT_LAST.callback(sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX).remove)


def test_sysv_memory() -> None:
    memory = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=4096)
    memory.detach()
    AT_LAST.callback(memory.remove)


def test_shared_memory_file() -> None:
    Path("/dev/shm/aioipc-left").write_bytes(b"x")
    AT_LAST.callback(os.unlink, "/dev/shm/aioipc-left")


def test_owner_record() -> None:
    """As a killed owner leaves it."""
    Claim.begin("sysv-queue", remove=True).end()


def test_temporary_file() -> None:
    Path(tempfile.gettempdir(), "aioipc-left").mkdir()


def test_memfd_mapping() -> None:
    fd = os.memfd_create("left")
    os.truncate(fd, 4096)
    KEPT.append(mmap.mmap(fd, 4096))
    os.close(fd)


def test_handler() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)


def test_ignored_signal() -> None:
    signal.signal(signal.SIGRTMIN + 1, signal.SIG_IGN)


def test_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])


def test_wakeup_descriptor() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    signal.set_wakeup_fd(left.fileno())
    KEPT.extend((left, right))


def test_directory() -> None:
    os.chdir("/")


def test_umask() -> None:
    os.umask(0o077)


async def test_task() -> None:
    KEPT.append(asyncio.create_task(asyncio.sleep(1000), name="left-over"))


async def test_loop_handler() -> None:
    """The loop takes it back when it closes, but to the default, not to what was there."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGPIPE, lambda: None)


def test_failing_with_socket() -> None:
    opened = socket.socket()
    raise AssertionError(f"to see that the next test is not blamed for {opened}")


def test_clean_after_a_failure() -> None:
    gc.collect()


def test_clean_at_the_end() -> None:
    assert not Path(tempfile.gettempdir(), "aioipc-left").exists()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


BORROWED = os.open(os.devnull, os.O_RDONLY)
