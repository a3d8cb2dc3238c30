"""Channels: cancelled means nothing happened, so what is received is exactly what the finished sends have sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from .channel_transfer import ChannelPair
from .pair import turns, waiting
from .storm import Storm

MESSAGES = 1500


class ChannelCancellation(ChannelPair):
    """Whatever is cancelled can be done again as if it had never begun."""

    async def test_cancelled_receive_took_nothing(self) -> None:
        """Also where the message arrives at the moment of the cancellation."""
        async with self.pair() as (send, receive), asyncio.TaskGroup() as group:
            for number in range(100):
                async with waiting(receive.receive()) as task:
                    sending = group.create_task(send.send(self.make_item(number)))
                    await turns(number % 4)
                    task.cancel()
                    await asyncio.wait([task])
                    item = await receive.receive() if task.cancelled() else task.result()
                    await sending
                assert item == self.make_item(number)

    async def test_timeouts(self) -> None:
        """A time limit around ``receive`` works, and the channel after it."""
        async with self.pair() as (send, receive):
            with anyio.move_on_after(0.001) as scope:
                await receive.receive()
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await receive.receive()
            async with waiting(receive.receive()) as task:
                await send.send(self.make_item(1))
                assert await task == self.make_item(1)

    @pytest.mark.parametrize("rounds", range(4))
    async def test_cancelled_send_sent_nothing(self, rounds: int) -> None:
        """Cancelled before, at and after the moment that there is room."""
        async with self.clogged_pair() as (send, receive), waiting(send.send(self.make_item(-1))) as sending:
            received = [await receive.receive()]
            await turns(rounds)
            sending.cancel()
            await asyncio.wait([sending])
            await send.aclose()
            received += [item async for item in receive]
            assert received.count(self.make_item(-1)) == (not sending.cancelled())

    async def test_a_storm_of_cancellations(self) -> None:
        """Receives and sends are cancelled at random moments; every message arrives once."""
        async with self.pair() as (send, receive):
            await self._storm(send, receive)

    async def test_a_storm_in_a_clogged_channel(self) -> None:
        """The same where senders have to wait."""
        async with self.clogged_pair() as (send, receive):
            await self._storm(send, receive)

    async def _storm(self, send: ObjectSendStream[Any], receive: ObjectReceiveStream[Any]) -> None:
        tasks = 4 if self.shared else 1
        numbers = iter(range(MESSAGES))
        at_senders, at_receivers = Storm(8), Storm(9)
        received: list[Any] = []
        over = asyncio.Event()

        async def send_some(numbers: Iterator[int]) -> None:
            for number in numbers:
                await at_senders.until_done(partial(send.send, self.make_item(number)))

        async def send_all() -> None:
            await asyncio.gather(*(send_some(numbers) for _ in range(tasks)))
            await send.aclose()

        async def receive_some() -> None:
            try:
                while True:
                    received.append(await at_receivers.until_done(receive.receive))
            except anyio.EndOfStream:
                pass

        async def receive_all() -> None:
            await asyncio.gather(*(receive_some() for _ in range(tasks)))
            over.set()

        async with asyncio.TaskGroup() as group:
            for coroutine in (send_all(), receive_all(), at_senders.blow(over), at_receivers.blow(over)):
                group.create_task(coroutine)
        items = [self.make_item(number) for number in range(MESSAGES)]
        lost = [item for item in items if item not in received]
        doubled = [item for item in items if received.count(item) > 1]
        assert not lost
        assert not doubled
        assert at_receivers.cancelled > MESSAGES // 20, "too few cancellations to prove anything"
