"""Storms: thousands of cancellations at random moments, and not one message lost or doubled."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable

import pytest

from tests.harness.processes import eventually_async
from tests.harness.storms import storm_of_messages

from .objects import MAKERS, records

TASKS = 4


async def gather(*awaitables: Awaitable[None]) -> None:
    async with asyncio.timeout(50):
        await asyncio.gather(*awaitables)


@pytest.mark.parametrize("kind", MAKERS)
async def test_cancellations_lose_nothing_and_double_nothing(kind: str) -> None:
    with records(kind) as pipe:

        async def receive() -> bytes:
            number = await pipe.receive()
            assert number is not None
            return number.to_bytes(8)

        await storm_of_messages(lambda body: pipe.send(int.from_bytes(body)), receive)


async def test_timeouts_lose_nothing() -> None:
    """Time limits that strike at about the moment of the message, as in real programs."""
    received: list[int] = []
    timeouts = 0
    chance = random.Random(3)

    with records() as pipe:

        async def send() -> None:
            for number in range(3000):
                await pipe.send(number)
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.random() * 0.001)
            pipe.end()

        async def receive() -> None:
            nonlocal timeouts
            while True:
                try:
                    async with asyncio.timeout(chance.random() * 0.001):
                        number = await pipe.receive()
                except TimeoutError:
                    timeouts += 1
                    continue
                if number is None:
                    return
                received.append(number)

        await gather(send(), receive(), receive())
    assert sorted(received) == list(range(3000))
    assert timeouts > 50


@pytest.mark.parametrize("kind", MAKERS)
async def test_every_waiting_receiver_is_served(kind: str) -> None:
    """A lost wake-up would leave one asleep beside its message."""
    chance = random.Random(4)
    with records(kind) as pipe:
        for wave in range(300):
            tasks = [asyncio.create_task(pipe.receive()) for _ in range(6)]
            await asyncio.sleep(0)
            for number in range(3):
                pipe.put(number)
            for _ in range(wave % 5):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 3):
                task.cancel()
            await eventually_async(lambda tasks=tasks: len(results(tasks)) == 3)  # type: ignore[misc]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert sorted(results(tasks)) == [0, 1, 2]


def results(tasks: list[asyncio.Task[int | None]]) -> list[int]:
    done = [task.result() for task in tasks if task.done() and not task.cancelled()]
    return [number for number in done if number is not None]


async def test_fifo_under_load() -> None:
    """Each of several receivers that never stop asking gets its share."""
    counts = [0] * TASKS
    numbers = itertools.count()
    with records() as pipe:

        async def receive(which: int) -> None:
            while await pipe.receive() is not None:
                counts[which] += 1

        receivers = [asyncio.create_task(receive(which)) for which in range(TASKS)]
        for _ in range(2000):
            await pipe.send(next(numbers))
        pipe.end()
        await gather(*receivers)
    assert sum(counts) == 2000
    assert max(counts) - min(counts) <= 2000 // TASKS
