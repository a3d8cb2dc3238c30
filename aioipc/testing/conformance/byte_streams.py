"""The suites for byte streams, put together; the cases stand in the modules named here."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from anyio.abc import ByteStream

from .pair import opened
from .stream_cancellation import Cancellation
from .stream_clogged import Clogged
from .stream_ends import Ends
from .stream_transfer import Transfer, receive_to_end


class ByteStreamConformance(Transfer, Ends, Clogged, Cancellation):
    """What holds for every ``anyio.abc.ByteSendStream`` joined to a ``ByteReceiveStream``.

    Write `make_pair`, better `make_clogged_pair` too, and set `atomic_size`.
    """


class TwoWayByteStreamConformance(ByteStreamConformance):
    """What holds for two joined ``anyio.abc.ByteStream`` besides: each sends, each receives, each can send an end.

    The inherited cases send from the first end to the second.
    """

    async def make_pair(self) -> tuple[ByteStream, ByteStream]:
        """Return two new joined streams. Yours to write."""
        raise NotImplementedError("a conformance class needs a method make_pair() -> (left, right)")

    def pair(self) -> AbstractAsyncContextManager[tuple[ByteStream, ByteStream]]:
        """Open a pair for an ``async with``."""
        return opened(self.make_pair, self.time_limit)

    async def test_both_directions_at_once(self) -> None:
        """Neither end waits for the other to read first, and what they send does not mix."""
        there, back = (random.Random(seed).randbytes(500_000) for seed in (1, 2))
        async with self.pair() as (left, right):
            async with asyncio.TaskGroup() as group:
                for end, data in ((left, there), (right, back)):
                    group.create_task(_send_and_end(end, data))
                tasks = [group.create_task(receive_to_end(end)) for end in (right, left)]
            assert [task.result() == data for task, data in zip(tasks, (there, back), strict=True)] == [True, True]

    async def test_an_end_of_one_direction_leaves_the_other(self) -> None:
        """After ``send_eof`` the peer reads the rest and the end, and can still answer."""
        async with self.pair() as (left, right):
            await left.send(b"question")
            await left.send_eof()
            assert await receive_to_end(right) == b"question"
            await right.send(b"answer")
            assert await left.receive() == b"answer"
            await right.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await left.receive()

    async def test_an_end_can_be_sent_twice(self) -> None:
        """The second ``send_eof`` does nothing."""
        async with self.pair() as (left, right):
            for _ in range(2):
                await left.send_eof()
            assert await receive_to_end(right) == b""

    async def test_nothing_can_be_sent_after_the_end(self) -> None:
        """``send`` after ``send_eof`` raises `ClosedResourceError`."""
        async with self.pair() as (left, _):
            await left.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await left.send(b"more")

    async def test_receiving_and_sending_do_not_meet(self) -> None:
        """A task that waits to receive does not keep another from sending on the same end."""
        async with self.pair() as (left, right):
            task = asyncio.ensure_future(left.receive())
            await left.send(b"ping")
            assert await right.receive() == b"ping"
            await right.send(b"pong")
            assert await task == b"pong"


async def _send_and_end(end: ByteStream, data: bytes) -> None:
    await end.send(data)
    await end.send_eof()
