"""Storms over whatever carries messages or bytes, or counts: thousands of cancellations, and nothing may be lost.

What is asked of a mechanism is two functions, so that one storm serves them all.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aioipc.testing.conformance.storm import Storm

MESSAGES = 20_000
TASKS = 4
LIMIT = 50.0  # seconds: far more than a busy machine needs
_END = b"\xff" * 8

Send = Callable[[bytes], Coroutine[Any, Any, object]]
Receive = Callable[[], Coroutine[Any, Any, bytes]]


class ByteEnd(Protocol):
    """One end of a byte stream that counts what goes through it."""

    async def receive(self, max_bytes: int = 65536, /) -> bytes: ...
    async def send(self, item: bytes, /) -> None: ...
    def statistics(self) -> Any: ...


async def storm_of_messages(send: Send, receive: Receive, *, messages: int = MESSAGES, tasks: int = TASKS) -> None:
    """Cancel senders and receivers of whole messages; what is received are the sends that returned, each once."""
    at_senders, at_receivers = Storm(1), Storm(2)
    numbers = iter(range(messages))
    received: list[int] = []

    async def send_some() -> None:
        for number in numbers:
            await at_senders.until_done(lambda number=number: send(number.to_bytes(8)))  # type: ignore[misc]

    async def send_all() -> None:
        await asyncio.gather(*(send_some() for _ in range(tasks)))
        for _ in range(tasks):
            await send(_END)

    async def receive_some() -> None:
        while (body := await at_receivers.until_done(receive)) != _END:
            received.append(int.from_bytes(body))

    async with blowing(at_senders, at_receivers):
        await asyncio.gather(send_all(), *(receive_some() for _ in range(tasks)))
    assert_each_once(received, messages)
    enough = messages // 20
    assert at_senders.cancelled > enough, "too few cancelled senders to prove anything"
    assert at_receivers.cancelled > enough, "too few cancelled receivers to prove anything"


async def storm_of_bytes(sender: ByteEnd, receiver: ByteEnd, *, pieces: int = MESSAGES) -> None:
    """Cancel the sender and the receiver of a stream: it reports how far it got, and the sender goes on from there."""
    chance = random.Random(3)
    sizes = [8 if chance.random() < 0.99 else chance.randrange(40_000) for _ in range(pieces)]
    data = chance.randbytes(sum(sizes))
    at_sender, at_receiver = Storm(4), Storm(5)
    received = bytearray()

    async def send_all() -> None:
        for end in itertools.accumulate(sizes):
            await at_sender.until_done(lambda end=end: sender.send(data[sender.statistics().bytes_sent : end]))  # type: ignore[misc]

    async def receive_all() -> None:
        while len(received) < len(data):
            received.extend(await at_receiver.until_done(receiver.receive))

    async with blowing(at_sender, at_receiver):
        await asyncio.gather(send_all(), receive_all())
    assert sender.statistics().bytes_sent == receiver.statistics().bytes_received == len(data)
    assert received == data
    assert at_sender.cancelled > pieces // 20, "too few cancelled senders to prove anything"
    assert at_receiver.cancelled > 100, "too few cancelled receivers to prove anything"


async def storm_of_limits(send: Send, receive: Receive, *, messages: int = 500) -> None:
    """Time limits that strike both sides at about the moment of the message, as in real programs."""
    chance = random.Random(6)
    received: list[int] = []
    struck = 0

    async def limited(operation: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        nonlocal struck
        while True:
            try:
                async with asyncio.timeout(chance.random() * 0.002):
                    return await operation()
            except TimeoutError:
                struck += 1

    async def send_all() -> None:
        for number in range(messages):
            await limited(lambda number=number: send(number.to_bytes(8)))  # type: ignore[misc]
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.002)

    async def receive_all() -> None:
        while len(received) < messages:
            received.append(int.from_bytes(await limited(receive)))
            if chance.random() < 0.02:
                await asyncio.sleep(chance.random() * 0.01)  # it fills meanwhile

    async with asyncio.timeout(LIMIT):
        await asyncio.gather(send_all(), receive_all())
    assert received == list(range(messages)), "with one task at each end the order counts, too"
    assert struck > 10


async def storm_of_permits(
    acquire: Callable[[int], Coroutine[Any, Any, object]],
    release: Callable[[int], object],
    *,
    amounts: tuple[int, ...] = (1,),
    cancellations: int = 30_000,
    tasks: int = 20,
) -> int:
    """Cancel waiting tasks that many times; return how many permits were held at once at most."""
    storm, chance = Storm(7), random.Random(8)
    held = most = 0

    async def work() -> None:
        nonlocal held, most
        while storm.cancelled < cancellations:
            n = chance.choice(amounts)
            await storm.until_done(lambda n=n: acquire(n))  # type: ignore[misc]
            held += n
            most = max(most, held)
            await asyncio.sleep(0)
            held -= n
            release(n)

    async with blowing(storm):
        await asyncio.gather(*(work() for _ in range(tasks)))
    return most


@asynccontextmanager
async def blowing(*storms: Storm) -> AsyncIterator[None]:
    """Have storms blow until the body is through, which must not take longer than `LIMIT`."""
    over = asyncio.Event()
    async with asyncio.timeout(LIMIT):
        winds = [asyncio.create_task(storm.blow(over)) for storm in storms]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*winds)


def assert_each_once(received: list[int], count: int) -> None:
    """Say which numbers are missing or came twice, if any."""
    counts = Counter(received)
    lost = [number for number in range(count) if number not in counts]
    doubled = [number for number, times in counts.items() if times > 1]
    assert not lost, f"{len(lost)} lost: {lost[:10]}"
    assert not doubled, f"{len(doubled)} doubled: {doubled[:10]}"
    assert len(counts) == count, "something came that nobody has sent"
