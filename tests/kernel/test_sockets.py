"""Sockets: descriptors with packets, who is there, listeners and their paths, and what is refused."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aioipc import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    Listener,
    PacketSocket,
    PeerCredentials,
    SharedMemory,
    SocketStream,
    WouldBlock,
    connect_tcp,
    connect_unix,
    create_socketpair,
    listen_tcp,
    listen_unix,
)
from aioipc.testing.conformance.storm import Storm
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script, running_script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest_asyncio.fixture
async def packets() -> AsyncIterator[tuple[PacketSocket, PacketSocket]]:
    left, right = create_socketpair("packets")
    async with left, right:
        yield left, right


Packets = tuple[PacketSocket, PacketSocket]


async def test_packets_are_whole(packets: Packets) -> None:
    left, right = packets
    for size in (1, 65_536, 100_000):
        await left.send(bytes(size))
        assert len(await right.receive()) == size
    assert left.statistics().bytes_sent == right.statistics().bytes_received == 165_537
    assert left.statistics().sends == right.statistics().receives == 3


async def test_packets_both_ways_and_the_end(packets: Packets) -> None:
    left, right = packets
    await left.send(b"question")
    await right.send(b"answer")
    await left.send_eof()
    assert await right.receive() == b"question"
    for _ in range(2):
        with pytest.raises(EndOfStream):
            await right.receive()
    assert await left.receive() == b"answer"
    await right.send(b"more")
    assert left.receive_nowait() == b"more"
    with pytest.raises(WouldBlock):
        left.receive_nowait()


async def test_descriptors_travel_with_packets(packets: Packets) -> None:
    left, right = packets
    with SharedMemory.create(100) as memory:
        reader, writer = os.pipe()
        await left.send(b"two", descriptors=[memory.fileno(), writer])
        os.close(writer)
        body, (fd, pipe) = await right.receive_descriptors()
        assert body == b"two"
        assert not os.get_inheritable(fd)
        assert not os.get_inheritable(pipe)
        with SharedMemory.from_descriptor(fd) as same:
            same.buffer[0] = 5
        assert memory.buffer[0] == 5
        os.write(pipe, b"x")
        assert os.read(reader, 10) == b"x"
        os.close(reader)
        os.close(pipe)
    await left.send(b"none")
    assert await right.receive_descriptors() == (b"none", [])


async def test_as_many_descriptors_as_there_can_be(packets: Packets) -> None:
    left, right = packets
    await left.send(b"many", descriptors=[0] * 253)
    _, descriptors = await right.receive_descriptors()
    assert len(descriptors) == 253
    for fd in descriptors:
        os.close(fd)


async def test_descriptors_that_nobody_asked_for_are_closed(packets: Packets) -> None:
    left, right = packets
    reader, writer = os.pipe()
    await left.send(b"x", descriptors=[writer])
    os.close(writer)
    assert await right.receive() == b"x"
    assert os.read(reader, 1) == b"", "a copy of the write end is still open"
    os.close(reader)


def test_descriptors_that_this_process_may_not_have() -> None:
    done = run_script(
        """
        import asyncio, resource, aioipc
        async def main():
            left, right = aioipc.create_socketpair("packets")
            async with left, right:
                await left.send(b"many", descriptors=[0] * 20)
                await left.send(b"after")
                highest = max(left.fileno(), right.fileno()) + 5
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
                try:
                    await right.receive_descriptors()
                except OSError as error:
                    print(error.errno)
                print(await right.receive_descriptors())
        asyncio.run(main())
        """
    ).check()
    assert done.stdout.splitlines() == [str(errno.EMFILE), "(b'after', [])"]


async def test_streams_both_ways(path: Path) -> None:
    async with listen_unix(path) as listener, await connect_unix(path) as client, await listener.accept() as server:
        await client.send(b"line 1\nline 2\n")
        lines = server.lines()
        assert [await anext(lines), await anext(lines)] == ["line 1", "line 2"]
        await server.send(b"answer")
        buffer = bytearray(10)
        assert await client.receive_into(buffer) == 6
        await client.send_eof()
        with pytest.raises(EndOfStream):
            await server.receive()
        assert server.send_nowait(b"still") == 5
        assert client.receive_nowait() == b"still"
        assert client.statistics().bytes_sent == server.statistics().bytes_received == 14


async def test_one_task_for_each_direction() -> None:
    left, right = create_socketpair()
    async with left, right:
        receiving = asyncio.create_task(left.receive())
        await eventually_async(lambda: left._receivers.waiting)
        with pytest.raises(BusyResourceError):
            await left.receive()
        await left.send(b"the other direction is free")
        await right.send(b"x")
        assert await receiving == b"x"


async def test_the_other_side_is_gone() -> None:
    left, right = create_socketpair()
    async with left:
        await right.aclose()
        with pytest.raises(BrokenResourceError):
            await left.send(b"x")
        with pytest.raises(EndOfStream):
            await left.receive()
        await left.send_eof()


async def test_reset_by_the_other_side() -> None:
    """It closed without reading: the connection is broken, not ended."""
    left, right = create_socketpair()
    async with left:
        await left.send(b"unread")
        await right.aclose()
        with pytest.raises(BrokenResourceError):
            await left.receive()


async def test_peer(path: Path) -> None:
    own = PeerCredentials(os.getpid(), os.geteuid(), os.getegid())
    left, right = create_socketpair("packets")
    async with left, right:
        assert left.peer == own
    script = f"""
        import asyncio, os, aioipc
        async def main():
            async with await aioipc.connect_unix({str(path)!r}) as stream:
                print(os.getpid(), os.getuid(), os.getgid(), flush=True)
                await stream.receive()
        asyncio.run(main())
        """
    async with listen_unix(path) as listener:
        with running_script(script) as client:
            async with await listener.accept() as stream:
                peer = stream.peer
                await stream.send(b"x")
            assert " ".join(map(str, peer)) == client.wait().check().stdout.strip()


async def test_tcp() -> None:
    async with await listen_tcp("127.0.0.1", 0) as listener:
        host, port = listener.address
        assert isinstance(port, int)
        client = await connect_tcp("localhost", port)
        async with client, await listener.accept() as server:
            assert server.peer[0] == host == "127.0.0.1"
            await client.send(b"hello")
            assert await server.receive() == b"hello"
        with pytest.raises(OSError, match=f"127.0.0.1 port {port}") as caught:
            await listen_tcp("127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1 port {port}"):
        await connect_tcp("127.0.0.1", port)


async def test_small_messages_are_sent_at_once() -> None:
    async with await listen_tcp("127.0.0.1", 0) as listener:
        port = listener.address[1]
        assert isinstance(port, int)
        for end in (await connect_tcp("127.0.0.1", port), await listener.accept()):
            with end.detach() as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_accepting_is_cancel_safe(path: Path) -> None:
    """Whoever came is there for the next call."""
    storm, over = Storm(34), asyncio.Event()
    accepted = 0

    async def accept(listener: Listener[PacketSocket]) -> None:
        nonlocal accepted
        while accepted < 300:
            async with await storm.until_done(listener.accept) as connection:
                assert await connection.receive() == b"%d" % accepted
                accepted += 1
        over.set()

    async def connect() -> None:
        for number in range(300):
            async with await connect_unix(path, "packets") as client:
                await client.send(b"%d" % number)
                with pytest.raises(EndOfStream):
                    await client.receive()

    async with asyncio.timeout(50), listen_unix(path, "packets") as listener:
        await asyncio.gather(accept(listener), connect(), storm.blow(over))
    assert storm.cancelled > 20


async def test_connecting_waits_for_room(path: Path) -> None:
    async with asyncio.timeout(30), listen_unix(path, backlog=0) as listener:
        first = await connect_unix(path)
        connecting = asyncio.create_task(connect_unix(path))
        cancelled = asyncio.create_task(connect_unix(path))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not connecting.done()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        async with first, await listener.accept(), await connecting, await listener.accept():
            pass
        with pytest.raises(WouldBlock):
            listener.accept_nowait()


async def test_closing_a_listener(path: Path) -> None:
    listener = listen_unix(path)
    accepting = asyncio.create_task(listener.accept())
    await eventually_async(lambda: listener._receivers.waiting)
    await listener.aclose()
    with pytest.raises(ClosedResourceError):
        await accepting
    with pytest.raises(ClosedResourceError):
        await anext(listener)
    assert not path.exists()
    listener.close()


async def test_a_path_left_over_is_taken_over(path: Path) -> None:
    script = f"""
        import os, signal, aioipc
        listener = aioipc.listen_unix({str(path)!r})
        os.kill(os.getpid(), signal.SIGKILL)
        """
    assert run_script(script).returncode == -signal.SIGKILL
    assert path.is_socket()
    with pytest.raises(ConnectionRefusedError):
        await connect_unix(path)
    async with (
        listen_unix(path, "packets") as listener,
        await connect_unix(path, "packets") as client,
        await listener.accept() as server,
    ):
        await client.send(b"x")
        assert await server.receive() == b"x"
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_path_in_use_is_not_taken_over(path: Path, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            other.listen()
        with pytest.raises(OSError, match="somebody listens at this path") as caught:
            listen_unix(path)
        assert caught.value.errno == errno.EADDRINUSE
        assert [each.name for each in path.parent.iterdir()] == ["socket"]


async def test_two_that_start_at_once(path: Path) -> None:
    """One of them gets the path, and keeps it."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    script = f"""
        import signal, aioipc
        try:
            listener = aioipc.listen_unix({str(path)!r})
        except OSError:
            print("refused", flush=True)
        else:
            print("listening", flush=True)
            signal.pause()
        """
    with running_script(script) as one, running_script(script) as two:
        await eventually_async(lambda: one.stdout and two.stdout, timeout=30)
        assert sorted([one.stdout.strip(), two.stdout.strip()]) == ["listening", "refused"]
        async with await connect_unix(path):
            pass
    listen_unix(path).close()


def test_no_socket_at_the_path(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is no socket"):
        listen_unix(path)
    assert path.read_text() == "precious"
    with pytest.raises(FileNotFoundError):
        listen_unix(path.parent / "missing" / "socket")


async def test_somebody_else_takes_over_a_path_slowly(path: Path) -> None:
    """It may have lost its CPU with the directory locked."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    directory = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    slow = threading.Timer(0.3, os.close, (directory,))
    slow.start()
    async with listen_unix(path):
        slow.join()


async def test_somebody_elses_path(path: Path) -> None:
    """Closing removes our own path only."""
    listener = listen_unix(path)
    path.unlink()
    async with listen_unix(path):
        listener.close()
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_permissions_whatever_the_umask(path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        listener = listen_unix(path, mode=mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    listener.close()


async def test_another_kind_of_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        for kind in (SocketStream, PacketSocket):
            with pytest.raises(ValueError, match="another kind"):
                kind(other)
    async with listen_unix(path, "packets"):
        with pytest.raises(OSError, match="wrong type"):
            await connect_unix(path)


def test_dropped() -> None:
    left, right = create_socketpair()
    kept = [left]
    del left
    with pytest.warns(ResourceWarning, match="unclosed <SocketStream fd="):
        kept.clear()
    right.close()
