"""What only System V objects have under cancellations: waiting threads, messages without a body, types, amounts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import pytest

from aioipc import SysVMessageQueue, SysVSemaphoreSet
from aioipc._loop import object_readiness
from aioipc.testing.conformance.storm import Storm
from tests.harness.processes import eventually_async
from tests.harness.scripts import running_script


@pytest.fixture(autouse=True)
def threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop would look by itself first, and the threads have little to do; `test_storms` has that."""
    monkeypatch.setattr(object_readiness, "LOOKING", 0)


async def gather(*awaitables: Awaitable[object]) -> None:
    async with asyncio.timeout(55):
        await asyncio.gather(*awaitables)


async def test_receivers_that_mostly_wait_lose_no_message() -> None:
    """The queue is empty nearly always, so the threads do the waiting; some messages have no body."""
    storm = Storm(3)
    count = 1500
    received: list[tuple[int, bytes]] = []
    over = asyncio.Event()
    chance = random.Random(3)

    async with SysVMessageQueue.create() as queue:

        async def receive(type: int) -> None:
            while True:
                message = await storm.until_done(lambda: queue.receive(type))
                if message.body == b"end":
                    break
                received.append((message.type, message.body))

        async def send_all() -> None:
            for number in range(count):
                await queue.send(b"x" if number % 3 else b"", type=1 + number % 2)
                if chance.random() < 0.5:
                    await eventually_async(lambda: queue.statistics().messages == 0, 30)
            # One without a body that has come back stands at the end of the queue, behind everything else.
            await eventually_async(lambda: len(received) == count, 30, lambda: f"{len(received)} messages came")
            for type in (1, 1, 2, 2):
                await queue.send(b"end", type=type)

        async def receive_all() -> None:
            await asyncio.gather(*(receive(type) for type in (1, 1, 2, 2)))
            over.set()

        await gather(send_all(), receive_all(), storm.blow(over))

    expected = [(1 + number % 2, b"x" if number % 3 else b"") for number in range(count)]
    assert sorted(received) == sorted(expected)
    assert storm.cancelled > 1000


async def test_every_waiter_is_served() -> None:
    """A lost wake-up would leave one asleep beside what it wants, whoever before it is cancelled."""
    chance = random.Random(5)
    async with SysVSemaphoreSet.create(None, [0]) as semaphores:
        for _ in range(60):
            amounts = [chance.randint(1, 4) for _ in range(5)]
            tasks = [asyncio.create_task(semaphores.acquire(amount)) for amount in amounts]
            await asyncio.sleep(0)
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            dropped = chance.sample(range(5), 2)
            for which in dropped:
                tasks[which].cancel()
            semaphores.release(sum(amounts))
            async with asyncio.timeout(30):
                await asyncio.wait(tasks)
            taken = sum(amount for amount, task in zip(amounts, tasks, strict=True) if not task.cancelled())
            assert semaphores.value() == sum(amounts) - taken
            semaphores.set_value(0)


COMPETITOR = """
    import sys, asyncio, random, aioipc
    from aioipc.testing.conformance.storm import Storm

    async def main():
        chance, storm, over = random.Random(), Storm(7), asyncio.Event()
        async with (
            aioipc.SysVSemaphoreSet.open(id=int(sys.argv[1])) as semaphores,
            aioipc.SysVMessageQueue.open(id=int(sys.argv[2])) as questions,
            aioipc.SysVMessageQueue.open(id=int(sys.argv[3])) as answers,
        ):
            async def work():
                for _ in range(200):
                    n = chance.randint(1, 3)
                    await storm.until_done(lambda n=n: semaphores.acquire(n))
                    await asyncio.sleep(0)
                    semaphores.release(n)

            async def receive():
                while True:
                    message = await storm.until_done(questions.receive)
                    if message.body == b"end":
                        break
                    await answers.send(message.body)

            async def all_of_them():
                await asyncio.gather(*(work() for _ in range(5)), receive(), receive())
                over.set()

            await asyncio.gather(all_of_them(), storm.blow(over))
        print("cancelled", storm.cancelled)

    aioipc.run(main)
"""


async def test_two_processes_compete() -> None:
    """Both cancel waits all the time; each message is answered once, and the semaphore is whole at the end."""
    count = 500
    answered: list[int] = []
    async with (
        SysVSemaphoreSet.create(None, [4]) as semaphores,
        SysVMessageQueue.create(max_bytes=1024) as questions,
        SysVMessageQueue.create(max_bytes=1024) as answers,
    ):
        ids = [str(each.id) for each in (semaphores, questions, answers)]

        async def ask() -> None:
            for number in range(count):
                await questions.send(number.to_bytes(8))
            for _ in range(4):
                await questions.send(b"end")

        async def hear() -> None:
            while len(answered) < count:
                answered.append(int.from_bytes((await answers.receive()).body))

        with running_script(COMPETITOR, *ids) as one, running_script(COMPETITOR, *ids) as other:
            await gather(ask(), hear())
            for script in (one, other):
                await eventually_async(lambda script=script: script.popen.poll() is not None, 50)  # type: ignore[misc]
                assert "cancelled" in script.wait().check().stdout
        assert semaphores.values() == (4,)
        assert [queue.statistics().messages for queue in (questions, answers)] == [0, 0]
    assert sorted(answered) == list(range(count))
