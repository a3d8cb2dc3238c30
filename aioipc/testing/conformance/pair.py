"""What all suites stand on: two joined ends, opened for one case, closed after it, under a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Generic, TypeVar

import anyio
import pytest
from anyio.abc import AsyncResource

T = TypeVar("T")
SendT = TypeVar("SendT", bound=AsyncResource)
ReceiveT = TypeVar("ReceiveT", bound=AsyncResource)


class PairConformance(Generic[SendT, ReceiveT]):
    """Cases about two joined ends: what goes in at the first comes out at the second."""

    time_limit: ClassVar[float] = 40.0
    """Seconds after which a case that hangs fails; far more than a busy machine needs."""

    operations_per_turn: ClassVar[int] = 1000
    """How many operations that need not wait may succeed before the loop must have had a turn."""

    async def make_pair(self) -> tuple[SendT, ReceiveT]:
        """Return two new ends, the one to send and the one to receive. Yours to write."""
        raise NotImplementedError("a conformance class needs a method make_pair() -> (send, receive)")

    async def make_clogged_pair(self) -> tuple[SendT, ReceiveT]:
        """Return two new ends of which the first is so full that the next send has to wait. Yours to write.

        Without it the cases about waiting senders are skipped.
        """
        pytest.skip("this class has no make_clogged_pair()")

    def pair(self) -> AbstractAsyncContextManager[tuple[SendT, ReceiveT]]:
        """Open a pair for an ``async with``."""
        return opened(self.make_pair, self.time_limit)

    def clogged_pair(self) -> AbstractAsyncContextManager[tuple[SendT, ReceiveT]]:
        """Open a clogged pair for an ``async with``, or skip the test where there is none."""
        return opened(self.make_clogged_pair, self.time_limit)


@asynccontextmanager
async def opened(
    make: Callable[[], Awaitable[tuple[SendT, ReceiveT]]], limit: float
) -> AsyncIterator[tuple[SendT, ReceiveT]]:
    """Make a pair, close both ends in the end, and give up after ``limit`` seconds."""
    async with asyncio.timeout(limit), AsyncExitStack() as stack:
        send, receive = await make()
        stack.push_async_callback(receive.aclose)
        stack.push_async_callback(send.aclose)
        yield send, receive


async def turns(count: int = 10) -> None:
    """Let the loop turn so many times, which is enough for a task that can go on to do so."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def waiting(coroutine: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run an operation that has to wait as a task, and have it waiting; cancel what is left of it at the end."""
    task = asyncio.ensure_future(coroutine)
    try:
        await turns()
        if task.done():
            pytest.fail(f"it should have waited, but ended at once: {outcome(task)}")
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        task.cancelled() or task.exception()


def outcome(task: asyncio.Task[Any]) -> str:
    """Say how a task has ended."""
    if task.cancelled():
        return "cancelled"
    return repr(task.exception()) if task.exception() else f"it returned {task.result()!r}"


def check_arrived(received: Sequence[object], sent: Sequence[object]) -> None:
    """Fail at the first place that is not as it was sent: pytest's own comparison of megabytes takes minutes."""
    if received == sent:
        return
    places = (place for place, (one, other) in enumerate(zip(received, sent, strict=False)) if one != other)
    place = next(places, min(len(received), len(sent)))
    came, went = (repr(side[place : place + 20]) for side in (received, sent))
    pytest.fail(
        f"what arrived is not what was sent: {len(received)} elements for {len(sent)}, "
        f"and from the one at {place} on {came} for {went}"
    )


async def close_while_cancelled(end: AsyncResource) -> None:
    """Close one end in a scope that is cancelled already."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await end.aclose()


class Pulse:
    """A timer of 10 ms and the turns of the loop, counted while something keeps that loop busy."""

    def __init__(self, most: int) -> None:
        self.ticks: int = 0
        self._most = most
        self._since_turn = 0
        self._loop = asyncio.get_running_loop()
        self._handles: dict[str, asyncio.Handle] = {}

    def __enter__(self) -> Pulse:
        self._turn()
        self._start_timer()
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles.values():
            handle.cancel()

    def count(self) -> None:
        """Count one operation; fail where too many came without a turn of the loop between them."""
        self._since_turn += 1
        if self._since_turn > self._most:
            pytest.fail(f"{self._most} operations in a row gave the loop no turn, so no timer and no other task runs")

    def _turn(self) -> None:
        self._since_turn = 0
        self._handles["turn"] = self._loop.call_soon(self._turn)

    def _start_timer(self) -> None:
        self._handles["tick"] = self._loop.call_later(0.01, self._tick)

    def _tick(self) -> None:
        self.ticks += 1
        self._start_timer()
