"""What children tell the master by sd_notify: real programs, and who is not heard."""

from __future__ import annotations

import array
import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aioipc.supervisor.notify_receiver import NotifyDirectory, NotifyReceiver
from aioipc.wire.sd_notify import Notification

from ..harness.processes import command_line, eventually_async

TELL = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in sys.argv[1:]:
    sock.sendto(bytes.fromhex(text), os.environ["NOTIFY_SOCKET"])
sys.stdin.read()  # so that it is there when it is looked for
"""


@contextmanager
def child(*command: str, tells: NotifyReceiver) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, which ends with the block."""
    variables = {**os.environ, "NOTIFY_SOCKET": tells.address}
    process = subprocess.Popen(command, env=variables, start_new_session=True, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.communicate()


def telling(*datagrams: bytes, source: str = TELL) -> list[str]:
    return [sys.executable, "-c", source, *(each.hex() for each in datagrams)]


@pytest.fixture
def directory() -> Iterator[NotifyDirectory]:
    found = NotifyDirectory()
    yield found
    found.close()


async def test_a_child_and_its_processes_are_heard(directory: NotifyDirectory) -> None:
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append)
    path = receiver.address
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    garbage = (b"garbage", b"x" * 5000, b"READY=1\0READY=1", b"STATUS=\xff")
    texts = (*garbage, b"READY=1\nSTATUS=up", b"WATCHDOG=1", b"RELOADING=1")
    shell = ("sh", "-c", 'exec 3<&0; "$@" <&3 & "$@"; wait', "sh", *telling(*texts))  # two below the child
    with child(*shell, tells=receiver) as process:
        receiver.start(process.pid)
        receiver.start(process.pid)
        await eventually_async(lambda: len(heard) == 6, 20, lambda: heard)
    for expected in (
        Notification(ready=True, status="up"),
        Notification(watchdog="alive"),
        Notification(reloading=True),
    ):
        assert heard.count(expected) == 2
    receiver.close()
    receiver.close()
    assert os.listdir(os.path.dirname(path)) == []


async def test_others_are_not_heard(directory: NotifyDirectory, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append)
    with child(*telling(), tells=receiver) as process:
        receiver.start(process.pid)
        with child(*telling(b"READY=1"), tells=receiver) as stranger:
            await eventually_async(lambda: "not heard" in caplog.text, 20)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", receiver.address)  # this process itself
        assert f"process {stranger.pid} is not heard in the name of process {process.pid}" in caplog.text
    for _ in range(5):  # turns of the loop, in which it is read
        await asyncio.sleep(0)
    assert heard == []
    receiver.close()


async def test_what_is_told_before_the_pid_is_known_waits(directory: NotifyDirectory) -> None:
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append)
    with child(*telling(b"READY=1"), tells=receiver) as process:
        process.communicate()  # it has ended and was reaped
    receiver.start(process.pid)
    await eventually_async(lambda: heard == [Notification(ready=True)])
    receiver.close()


async def test_closed_by_what_was_told(directory: NotifyDirectory) -> None:
    heard: list[Notification] = []

    def close(notification: Notification) -> None:
        heard.append(notification)
        receiver.close()

    receiver = directory.new_receiver(close)
    with child(*telling(b"READY=1", b"READY=1"), tells=receiver) as process:
        receiver.start(process.pid)
        await eventually_async(lambda: heard, 20)
    assert heard == [Notification(ready=True)]


async def test_descriptors_that_come_are_closed(directory: NotifyDirectory) -> None:
    """That is what ends a barrier; none is kept, so a child cannot use up the master's."""
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append)
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for body in (b"BARRIER=1", b"FDSTORE=1\nSTATUS=stored"):
            rights = array.array("i", [writer] * 100)
            sock.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, receiver.address)
    os.close(writer)
    receiver.start(os.getpid())
    os.set_blocking(reader, False)

    def ended() -> bool:
        try:
            return os.read(reader, 1) == b""
        except BlockingIOError:
            return False

    await eventually_async(ended)
    assert heard == [Notification(status="stored")]
    os.close(reader)
    receiver.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a program as another user")
async def test_a_child_of_another_user(directory: NotifyDirectory) -> None:
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append, uid=65534)
    source = TELL.replace("sock =", "os.setgid(65534); os.setuid(65534); sock =")
    with child(*telling(b"READY=1", source=source), tells=receiver) as process:
        receiver.start(process.pid)
        await eventually_async(lambda: heard == [Notification(ready=True)], 20)
    receiver.close()


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="there is no systemd-notify")
async def test_systemd_notify(directory: NotifyDirectory) -> None:
    heard: list[Notification] = []
    receiver = directory.new_receiver(heard.append)
    shell = ("sh", "-c", "systemd-notify --ready --status=up && exec cat")
    with child(*shell, tells=receiver) as process:
        receiver.start(process.pid)
        await eventually_async(lambda: command_line(process.pid) == "cat", 20)  # it has waited until it was heard
        assert heard == [Notification(ready=True, status="up")]
    receiver.close()


async def test_a_directory_that_was_cleaned_away(directory: NotifyDirectory) -> None:
    first = directory.new_receiver(lambda said: None)
    shutil.rmtree(os.path.dirname(first.address))
    second = directory.new_receiver(lambda said: None)
    assert stat.S_ISSOCK(os.stat(second.address).st_mode)
    first.close()
    second.close()
    shutil.rmtree(os.path.dirname(second.address))
