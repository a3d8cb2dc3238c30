"""Byte streams: cancelled means nothing happened."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream

from .pair import check_arrived, turns, waiting
from .storm import Storm
from .stream_transfer import ByteStreamPair, receive_exactly

RECORDS = 1000
RECORD_SIZE = 512


class Cancellation(ByteStreamPair):
    """Whatever is cancelled can be done again as if it had never begun."""

    async def test_cancelled_receive_took_nothing(self) -> None:
        """Also where the bytes arrive at the moment of the cancellation."""
        async with self.pair() as (send, receive):
            for number in range(100):
                async with waiting(receive.receive()) as task:
                    await send.send(b"%03d" % number)
                    await turns(number % 4)
                    task.cancel()
                    await asyncio.wait([task])
                    data = b"" if task.cancelled() else task.result()
                assert data + await receive_exactly(receive, 3 - len(data)) == b"%03d" % number

    async def test_receive_in_a_cancelled_scope(self) -> None:
        """It is cancelled, or returns what is there; never both, and never neither."""
        async with self.pair() as (send, receive):
            await send.send(b"abc")
            data = b""
            with anyio.CancelScope() as scope:
                scope.cancel()
                data = await receive.receive(3)
            assert data + await receive_exactly(receive, 3 - len(data)) == b"abc"

    async def test_timeouts(self) -> None:
        """A time limit around ``receive`` works, and the stream after it."""
        async with self.pair() as (send, receive):
            with anyio.move_on_after(0.001) as scope:
                await receive.receive()
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await receive.receive()
            await send.send(b"x")
            assert await receive.receive() == b"x"

    async def test_a_storm_of_cancellations(self) -> None:
        """Receives, and sends up to `atomic_size`, are cancelled at random moments; every byte arrives once."""
        async with self.pair() as (send, receive):
            received, sent = await self._storm(send, receive)
        check_arrived(received, sent)

    async def test_a_storm_in_a_clogged_stream(self) -> None:
        """The same where the sender has to wait each time."""
        async with self.clogged_pair() as (send, receive):
            received, sent = await self._storm(send, receive)
        check_arrived(received[-len(sent) :], sent)

    async def _storm(self, send: ByteSendStream, receive: ByteReceiveStream) -> tuple[bytes, bytes]:
        """Return what was received, and what was sent in it."""
        chance = random.Random(5)
        size = min(self.atomic_size, RECORD_SIZE) or RECORD_SIZE
        records = [chance.randbytes(size) for _ in range(RECORDS)]
        at_sender, at_receiver = Storm(6), Storm(7)
        received = bytearray()
        over = asyncio.Event()

        async def send_all() -> None:
            for record in records:
                operation = partial(send.send, record)
                await (at_sender.until_done(operation) if self.atomic_size else operation())
            await send.aclose()

        async def receive_all() -> None:
            try:
                while True:
                    received.extend(await at_receiver.until_done(partial(receive.receive, chance.randint(1, 2 * size))))
            except anyio.EndOfStream:
                over.set()

        async with asyncio.TaskGroup() as group:
            for coroutine in (send_all(), receive_all(), at_sender.blow(over), at_receiver.blow(over)):
                group.create_task(coroutine)
        assert at_receiver.cancelled > RECORDS // 20, "too few cancellations to prove anything"
        return bytes(received), b"".join(records)
