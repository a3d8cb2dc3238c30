"""The suite for channels, on two kinds of them; tests/kernel has the users of the other suites."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from aioipc import BrokenResourceError, EndOfStream
from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.testing.conformance import ChannelConformance

TOO_LARGE = 1 << 16


class PacketSender(ObjectSendStream[bytes]):
    """The sending end of a pair of packet sockets."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue = WaitQueue(DescriptorReadiness(fd, "write"), "packet sender")

    async def send(self, item: bytes) -> None:
        try:
            await self._queue.take(os.write, self._fd, item)
        except OSError as error:
            raise self._translated(error) from error

    def send_nowait(self, item: bytes) -> None:
        try:
            self._queue.take_nowait(os.write, self._fd, item)
        except OSError as error:
            raise self._translated(error) from error

    async def aclose(self) -> None:
        self._queue.close(lambda: os.close(self._fd))

    def _translated(self, error: OSError) -> Exception:
        return BrokenResourceError("nobody receives") if error.errno in (errno.EPIPE, errno.ECONNRESET) else error


class PacketReceiver(ObjectReceiveStream[bytes]):
    """The receiving end of a pair of packet sockets."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue = WaitQueue(DescriptorReadiness(fd, "read"), "packet receiver")

    async def receive(self) -> bytes:
        return self._checked(await self._queue.take(os.read, self._fd, TOO_LARGE))

    def receive_nowait(self) -> bytes:
        return self._checked(self._queue.take_nowait(os.read, self._fd, TOO_LARGE))

    async def aclose(self) -> None:
        self._queue.close(lambda: os.close(self._fd))

    def _checked(self, packet: bytes) -> bytes:
        if not packet:
            raise EndOfStream("nobody sends")
        return packet


class TestPackets(ChannelConformance):
    async def make_pair(self) -> tuple[PacketSender, PacketReceiver]:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for end in (left, right):
            end.setblocking(False)
        return PacketSender(left.detach()), PacketReceiver(right.detach())

    async def make_clogged_pair(self) -> tuple[PacketSender, PacketReceiver]:
        send, receive = await self.make_pair()
        try:
            while True:
                send.send_nowait(b"stuffing")
        except anyio.WouldBlock:
            return send, receive


class TestMemoryObjectStreams(ChannelConformance):
    """anyio's own, which is no part of aioipc.

    It promises nothing where a task of asyncio is cancelled otherwise than by a cancel scope.
    """

    test_cancelled_receive_took_nothing = None  # type: ignore[assignment]
    test_cancelled_send_sent_nothing = None  # type: ignore[assignment]
    test_a_storm_of_cancellations = None  # type: ignore[assignment]
    test_a_storm_in_a_clogged_channel = None  # type: ignore[assignment]

    async def make_pair(self) -> tuple[MemoryObjectSendStream[Any], MemoryObjectReceiveStream[Any]]:
        return anyio.create_memory_object_stream[Any](4)

    async def make_clogged_pair(self) -> tuple[MemoryObjectSendStream[Any], MemoryObjectReceiveStream[Any]]:
        send, receive = await self.make_pair()
        for number in range(4):
            send.send_nowait(f"stuffing {number}")
        return send, receive
