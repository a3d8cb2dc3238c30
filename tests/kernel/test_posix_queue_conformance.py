"""A POSIX queue does what every channel must do, but for its end: it has none, so this channel sends one itself."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing

from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc import ClosedResourceError, EndOfStream, PosixMessageQueue, WouldBlock
from aioipc.testing.conformance.channel_cancellation import ChannelCancellation
from aioipc.testing.conformance.channel_transfer import ChannelTransfer

NAME = f"/aioipc-channel-{os.getpid()}"
PRIORITY = 1  # the end has none, so it comes last


class SendEnd(ObjectSendStream[bytes]):
    """Sends; closing it sends an empty message as soon as there is room for it."""

    def __init__(self, queue: PosixMessageQueue) -> None:
        self._queue = queue
        self._closed = False
        self.end: asyncio.Task[None] | None = None

    async def send(self, item: bytes) -> None:
        await self._queue.send(item, priority=PRIORITY)

    def send_nowait(self, item: bytes) -> None:
        self._queue.send_nowait(item, priority=PRIORITY)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._queue.aclose()
            queue = PosixMessageQueue.open(NAME, access="send")
            try:
                queue.send_nowait(b"")
                queue.close()
            except WouldBlock:
                self.end = asyncio.create_task(send_end(queue))


async def send_end(queue: PosixMessageQueue) -> None:
    async with queue:
        await queue.send(b"")


class ReceiveEnd(ObjectReceiveStream[bytes]):
    """Receives; the end is handed on to whoever else receives."""

    def __init__(self, queue: PosixMessageQueue, sender: SendEnd) -> None:
        self._queue = queue
        self._sender = sender

    async def receive(self) -> bytes:
        return self._checked((await self._queue.receive()).body)

    def receive_nowait(self) -> bytes:
        return self._checked(self._queue.receive_nowait().body)

    async def aclose(self) -> None:
        if self._sender.end is not None:
            self._sender.end.cancel()
            await asyncio.wait([self._sender.end])
        await self._queue.aclose()

    def _checked(self, body: bytes) -> bytes:
        if body:
            return body
        with closing(PosixMessageQueue.open(NAME)) as queue:
            queue.send_nowait(b"")
        raise EndOfStream


class Channel:
    """How to make one."""

    async def make_pair(self) -> tuple[SendEnd, ReceiveEnd]:
        receiver = PosixMessageQueue.create(NAME)
        sender = SendEnd(PosixMessageQueue.open(NAME, access="send"))
        return sender, ReceiveEnd(receiver, sender)

    async def make_clogged_pair(self) -> tuple[SendEnd, ReceiveEnd]:
        send, receive = await self.make_pair()
        for number in range(1000):
            try:
                send.send_nowait(b"clog %d" % number)
            except WouldBlock:
                break
        return send, receive


class TestTransfer(Channel, ChannelTransfer):
    pass


class TestCancellation(Channel, ChannelCancellation):
    pass


async def test_closing_wakes_whoever_waits() -> None:
    """The cases of an end that do hold."""
    send, receive = await Channel().make_clogged_pair()
    sending = asyncio.create_task(send.send(b"x"))
    await asyncio.sleep(0)
    await send.aclose()
    await asyncio.wait([sending])
    assert isinstance(sending.exception(), ClosedResourceError)
    await receive.aclose()
