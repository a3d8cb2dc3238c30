"""Storms over a POSIX queue: what is received is exactly what the sends that returned have sent."""

from __future__ import annotations

import asyncio
import os

from aioipc import ClosedResourceError, PosixMessageQueue
from aioipc.testing.conformance.storm import Storm
from tests.harness.scripts import running_script

NAME = f"/aioipc-storm-{os.getpid()}"
MESSAGES = 20_000
TASKS = 4


async def test_cancellations_lose_nothing_and_double_nothing() -> None:
    senders_storm, receivers_storm = Storm(11), Storm(12)
    numbers = iter(range(MESSAGES))
    received: list[int] = []
    over = asyncio.Event()

    async with asyncio.timeout(55), PosixMessageQueue.create(NAME) as queue:

        async def send() -> None:
            for number in numbers:
                await senders_storm.until_done(lambda number=number: queue.send(b"%d" % number))  # type: ignore[misc]

        async def receive() -> None:
            while len(received) < MESSAGES:
                try:
                    received.append(int((await receivers_storm.until_done(queue.receive)).body))
                except ClosedResourceError:
                    return
            over.set()
            queue.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(send())
                group.create_task(receive())
            group.create_task(senders_storm.blow(over))
            group.create_task(receivers_storm.blow(over))

    assert len(received) == MESSAGES
    assert sorted(received) == list(range(MESSAGES))
    assert senders_storm.cancelled > 1000
    assert receivers_storm.cancelled > 1000


SENDER = f"""
    import asyncio, random, aioipc
    chance = random.Random(5)
    async def main():
        sent = 0
        async with aioipc.PosixMessageQueue.open({NAME!r}) as queue:
            while sent < 3000:
                try:
                    async with asyncio.timeout(chance.random() * 0.002):
                        await queue.send(b"%d" % sent)
                except TimeoutError:
                    continue
                sent += 1
            await queue.send(b"")
    asyncio.run(main())
    """


async def test_timeouts_on_both_sides_of_a_process_boundary() -> None:
    """Time limits strike a sender in another process and the receiver here; their order proves it."""
    received: list[int] = []
    timeouts = 0
    async with asyncio.timeout(55), PosixMessageQueue.create(NAME) as queue:
        with running_script(SENDER) as sender:
            while True:
                try:
                    async with asyncio.timeout(0.001):
                        message = await queue.receive()
                except TimeoutError:
                    timeouts += 1
                    continue
                if not message.body:
                    break
                received.append(int(message.body))
            sender.wait(30).check()
    assert received == list(range(3000))
    assert timeouts
