"""UNIX datagrams: whole, in order, none lost; and whose path it is."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from aioipc import BrokenResourceError, ClosedResourceError, DatagramSocket, WouldBlock, open_datagram_socket
from aioipc._loop import back_off
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


async def fill(sender: DatagramSocket, path: Path, item: bytes = b"fill") -> int:
    count = 0
    try:
        while True:
            sender.send_nowait(item, path)
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


@pytest.fixture
def no_pause_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks again after a pause would do so when the test is long over."""
    monkeypatch.setattr(back_off, "FIRST", 1000.0)


@pytest.mark.usefixtures("no_pause_ends")
async def test_room_is_reported(inbox: DatagramSocket, path: Path) -> None:
    async with asyncio.timeout(30), open_datagram_socket() as sender:
        count = await fill(sender, path)
        sending = [asyncio.create_task(sender.send(b"more", path)) for _ in range(5)]
        await eventually_async(lambda: any(room.waiting == 5 for room in sender._rooms.values()))
        for _ in range(count + 5):
            await inbox.receive()
        await asyncio.gather(*sending)
        with pytest.raises(WouldBlock):
            inbox.receive_nowait()


@pytest.mark.usefixtures("no_pause_ends")
async def test_the_end_of_a_full_receiver_is_reported(inbox: DatagramSocket, path: Path) -> None:
    async with asyncio.timeout(30), open_datagram_socket() as sender:
        await fill(sender, path)
        sending = asyncio.create_task(sender.send(b"more", path))
        await eventually_async(lambda: any(room.waiting for room in sender._rooms.values()))
        inbox.close()
        with pytest.raises(FileNotFoundError, match="inbox"):
            await sending


async def test_the_own_buffer_is_full(inbox: DatagramSocket, path: Path) -> None:
    """Then the receiver has room, and reports of that are for nothing; the sender must not go round in circles."""
    async with asyncio.timeout(30), open_datagram_socket() as sender:
        count = await fill(sender, path, bytes(50_000))
        attempts = 0

        def put(sock: socket.socket, item: bytes, name: str) -> None:
            nonlocal attempts
            attempts += 1
            sock.sendto(item, name)

        sender._put = put  # type: ignore[method-assign, assignment]
        begin = time.monotonic()
        with anyio.move_on_after(0.1):
            await sender.send(bytes(50_000), path)
        assert attempts <= 2 * (time.monotonic() - begin) / back_off.FIRST + 3
        sending = asyncio.create_task(sender.send(bytes(50_000), path))
        for _ in range(count + 1):
            assert len((await inbox.receive()).body) == 50_000
        await sending


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
