"""The suite for byte streams is able to fail: streams with one fault each, and a case that finds it."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream

from aioipc import PipeReceiveStream, PipeSendStream, create_pipe
from aioipc.testing.conformance import ByteStreamConformance

from ..kernel.test_pipes_conformance import full_pipe

FOUND = (AssertionError, TimeoutError, pytest.fail.Exception, BaseExceptionGroup, anyio.EndOfStream)


class Receiver(ByteReceiveStream):
    """A pipe's end behind a wrapper in which something can be wrong."""

    def __init__(self, inner: PipeReceiveStream) -> None:
        self.inner = inner
        self.ended = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.inner.receive(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Sender(ByteSendStream):
    def __init__(self, inner: PipeSendStream) -> None:
        self.inner = inner

    async def send(self, item: bytes) -> None:
        await self.inner.send(item)

    async def aclose(self) -> None:
        await self.inner.aclose()


class LosesWhatItHolds(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self.inner.receive(max_bytes)
        await asyncio.sleep(0)
        return data


class GivesTooMuch(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.inner.receive(max_bytes + 1)


class EndsOnce(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self.ended:
            await asyncio.get_running_loop().create_future()
        try:
            return await self.inner.receive(max_bytes)
        except anyio.EndOfStream:
            self.ended = True
            raise


class EndsWithNothing(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            return await self.inner.receive(max_bytes)
        except anyio.EndOfStream:
            return b""


class LetsEverybodyIn(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.inner._queue.take(os.read, self.inner.fileno(), max_bytes)


class ClosesLate(Receiver):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        await self.inner.aclose()


class NeverYields(Receiver):
    async def receive(self, max_bytes: int = 65536) -> bytes:
        return os.read(self.inner.fileno(), max_bytes)


class NeverYieldsEither(Sender):
    async def send(self, item: bytes) -> None:
        os.write(self.inner.fileno(), item)


class SendsTwice(Sender):
    async def send(self, item: bytes) -> None:
        for _ in range(2):
            await self.inner.send(item)


class SendsInPieces(Sender):
    async def send(self, item: bytes) -> None:
        for start in range(0, len(item), 100):
            await self.inner.send(item[start : start + 100])


class ForgetsTheRest(Sender):
    async def send(self, item: bytes) -> None:
        await self.inner.send(item[: 1 << 20])


class SendsWhenClosed(Sender):
    async def send(self, item: bytes) -> None:
        if item:
            await self.inner.send(item)


class KeepsTheBuffer(Sender):
    async def send(self, item: bytes) -> None:
        self.kept = memoryview(item)
        await self.inner.send(item)


FAULTS = [
    (Sender, LosesWhatItHolds, ByteStreamConformance.test_cancelled_receive_took_nothing),
    (Sender, LosesWhatItHolds, ByteStreamConformance.test_a_storm_of_cancellations),
    (Sender, GivesTooMuch, ByteStreamConformance.test_at_most_max_bytes),
    (Sender, EndsOnce, ByteStreamConformance.test_the_end_comes_after_the_rest_and_comes_again),
    (Sender, EndsWithNothing, ByteStreamConformance.test_the_end_wakes_the_receiver),
    (Sender, LetsEverybodyIn, ByteStreamConformance.test_a_second_receiver_is_refused),
    (Sender, ClosesLate, ByteStreamConformance.test_closing_in_a_cancelled_scope),
    (NeverYieldsEither, NeverYields, ByteStreamConformance.test_a_timer_keeps_time_beside_a_saturated_stream),
    (SendsTwice, Receiver, ByteStreamConformance.test_what_is_sent_is_received),
    (SendsInPieces, Receiver, ByteStreamConformance.test_a_storm_in_a_clogged_stream),
    (ForgetsTheRest, Receiver, ByteStreamConformance.test_one_large_item),
    (SendsWhenClosed, Receiver, ByteStreamConformance.test_a_closed_end_is_closed),
    (KeepsTheBuffer, Receiver, ByteStreamConformance.test_a_cancelled_sender_leaves_a_stream_that_works),
]


class Suite(ByteStreamConformance):
    """The suite for ends of these classes; not collected, its cases are called."""

    atomic_size = select.PIPE_BUF

    def __init__(self, sender: type[Sender], receiver: type[Receiver]) -> None:
        self._sender, self._receiver = sender, receiver

    async def make_pair(self) -> tuple[ByteSendStream, ByteReceiveStream]:
        receive, send = create_pipe()
        return self._sender(send), self._receiver(receive)

    async def make_clogged_pair(self) -> tuple[ByteSendStream, ByteReceiveStream]:
        send, receive = full_pipe()
        return self._sender(send), self._receiver(receive)


@pytest.mark.parametrize(("sender", "receiver", "case"), FAULTS)
async def test_finds_the_fault(sender: type[Sender], receiver: type[Receiver], case: Callable[..., Any]) -> None:
    await case(Suite(Sender, Receiver))
    suite = Suite(sender, receiver)
    suite.time_limit = 0.5  # type: ignore[misc]  # some of the faults make it hang
    with pytest.raises((*FOUND, BufferError)):
        await case(suite)
