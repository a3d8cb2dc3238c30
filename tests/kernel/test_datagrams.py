"""UNIX datagrams: whole, in order, none lost; and whose path it is."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aioipc import BrokenResourceError, ClosedResourceError, DatagramSocket, WouldBlock, open_datagram_socket
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest_asyncio.fixture
async def inbox(path: Path) -> AsyncIterator[DatagramSocket]:
    async with open_datagram_socket(path) as made:
        yield made


async def test_messages_and_answers(inbox: DatagramSocket, path: Path) -> None:
    async with open_datagram_socket(path.with_name("mine")) as mine, open_datagram_socket() as nameless:
        for size in (0, 1, 100_000):
            await mine.send(bytes(size), path)
            message = await inbox.receive()
            assert message.body == bytes(size)
            assert message.sender == mine.path
        assert message.sender is not None
        await inbox.send(b"answer", message.sender)
        assert await mine.receive() == (b"answer", str(path))
        nameless.send_nowait(b"x", path)
        assert inbox.receive_nowait() == (b"x", None)
        with pytest.raises(WouldBlock):
            inbox.receive_nowait()


async def fill(sender: DatagramSocket, path: Path) -> int:
    count = 0
    try:
        while True:
            sender.send_nowait(b"fill", path)
            count += 1
    except WouldBlock:
        return count


async def test_a_full_receiver_holds_up_its_own_senders_only(inbox: DatagramSocket, path: Path) -> None:
    other_path = path.with_name("other")
    async with open_datagram_socket() as sender, open_datagram_socket(other_path) as other:
        count = await fill(sender, path)
        sending = asyncio.create_task(sender.send(b"last", path))
        await eventually_async(lambda: any(room.waiting for room in sender._rooms.values()))
        with pytest.raises(WouldBlock):
            sender.send_nowait(b"x", path)
        await sender.send(b"free", other_path)
        assert (await other.receive()).body == b"free"
        received = [(await inbox.receive()).body for _ in range(count + 1)]
        await sending
        assert received[-1] == b"last"
        assert not sender._rooms


async def test_closing(inbox: DatagramSocket, path: Path) -> None:
    sender = open_datagram_socket()
    await fill(sender, path)
    sending = asyncio.create_task(sender.send(b"x", path))
    await eventually_async(lambda: any(room.waiting for room in sender._rooms.values()))
    receiving = asyncio.create_task(sender.receive())
    await eventually_async(lambda: sender._receivers.waiting)
    await sender.aclose()
    for task in (sending, receiving):
        with pytest.raises(ClosedResourceError):
            await task
    for _ in range(2):
        with pytest.raises(ClosedResourceError):
            await sender.send(b"x", path)
        with pytest.raises(ClosedResourceError):
            sender.send_nowait(b"x", path)
        with pytest.raises(ClosedResourceError):
            await sender.receive()


async def test_nobody_there(path: Path) -> None:
    async with open_datagram_socket() as sender:
        with pytest.raises(FileNotFoundError):
            await sender.send(b"x", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(path))
        with pytest.raises(BrokenResourceError, match="nobody has the socket"):
            await sender.send(b"x", path)
        with open_datagram_socket(path).detach():  # takes the path over
            await sender.send(b"x", path)
        path.unlink()


def test_a_path_in_use(inbox: DatagramSocket, path: Path) -> None:
    with pytest.raises(OSError, match="somebody listens at this path") as caught:
        open_datagram_socket(path)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_path_left_over_is_taken_over(path: Path) -> None:
    script = f"""
        import os, signal, aioipc
        inbox = aioipc.open_datagram_socket({str(path)!r})
        os.kill(os.getpid(), signal.SIGKILL)
        """
    assert run_script(script).returncode == -signal.SIGKILL
    before = os.umask(0o077)
    try:
        inbox = open_datagram_socket(path, mode=0o666)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666
    inbox.close()
    assert list(path.parent.iterdir()) == []
