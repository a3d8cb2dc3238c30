"""The cases: what one measurement does. Each returns one figure; smaller counts for a quick look."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .functions import echo, noop
from .killing import time_to_recover
from .peers.base import WORKERS, Peer, Unable
from .procfs import wakeups_per_second

Measure = Callable[[Peer, float], Awaitable[float]]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    ``size`` is the number of tasks, or the seconds to watch. The target is a ratio to the best peer (to the
    ``rival`` where one is named), or a figure by itself where ``absolute``. ``cap``: seconds until a
    measurement is given up.
    """

    name: str
    title: str
    unit: str
    measure: Measure
    size: float
    quick_size: float
    target: float
    higher_is_better: bool = False
    absolute: bool = False
    rival: str = ""
    only: tuple[str, ...] = ()
    concurrency: int | None = None
    cap: float = 60

    def met(self, value: float) -> bool:
        """Whether a ratio (or figure) reaches the target."""
        return value >= self.target if self.higher_is_better else value <= self.target


async def warm_up(peer: Peer) -> None:
    """Have all workers running. By single tasks: not every peer can map in the same pool after that."""
    for _ in range(3):
        await peer.submit_all(noop, 20 * WORKERS)


async def submits(peer: Peer, count: float) -> float:
    await warm_up(peer)
    started = time.perf_counter()
    await peer.submit_all(noop, int(count))
    return count / (time.perf_counter() - started)


async def maps(peer: Peer, count: float) -> float:
    await peer.map_all(noop, 40 * WORKERS)
    started = time.perf_counter()
    results = await peer.map_all(noop, int(count))
    seconds = time.perf_counter() - started
    assert results == list(range(int(count)))
    return count / seconds


async def latency(peer: Peer, count: float) -> float:
    return await _median_call(peer, noop, 1, int(count)) * 1e6


async def bulk(peer: Peer, count: float) -> float:
    return await _median_call(peer, echo, bytes(1 << 20), int(count)) * 1e3


async def _median_call(peer: Peer, function: Callable[..., object], argument: object, count: int) -> float:
    await warm_up(peer)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await peer.call_alone(function, argument)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


async def sleeps(peer: Peer, count: float) -> float:
    await peer.sleep_all(0, 100)
    started = time.perf_counter()
    await peer.sleep_all(0.01, int(count))
    return count / (time.perf_counter() - started)


async def recovery(peer: Peer, cap: float) -> float:
    await warm_up(peer)
    return await time_to_recover(peer, cap) * 1e3


async def idle(peer: Peer, seconds: float) -> float:
    await warm_up(peer)
    await asyncio.sleep(0.5)  # let it come to rest
    return await wakeups_per_second(seconds)


async def second_start(peer: Peer, _: float) -> float:
    """End the pool that is there, then make another."""
    if not peer.has_lifetime:
        raise Unable("its processes belong to the loop, not to a pool")
    await warm_up(peer)
    await peer.stop()
    started = time.perf_counter()
    await peer.start()
    await peer.call(noop, 1)
    return (time.perf_counter() - started) * 1e3


ASYNC_PEERS = ("aioipc", "aiomultiprocess")

CASES = {
    case.name: case
    for case in (
        Case(
            "submit",
            "single submits, awaited together",
            "tasks/s",
            submits,
            20_000,
            2_000,
            8,
            higher_is_better=True,
        ),
        Case("map", "map without a chunk size", "tasks/s", maps, 20_000, 4_000, 0.5, higher_is_better=True),
        Case("latency", "one task at a time", "µs", latency, 1_000, 100, 0.5),
        Case("bulk", "1 MiB there and back", "ms", bulk, 100, 20, 0.25),
        Case(
            "sleep",
            "asyncio.sleep(0.01), 512 at a time per worker",
            "tasks/s",
            sleeps,
            10_000,
            2_000,
            2.5,
            higher_is_better=True,
            only=ASYNC_PEERS,
            concurrency=512,
        ),
        Case("kill", "SIGKILL under load until all is well", "ms", recovery, 5, 5, 100, absolute=True, cap=30),
        Case("idle", "idle: wake-ups a second, worst process", "/s", idle, 5, 2, 1, absolute=True),
        Case(
            "start",
            "second pool to its first result",
            "ms",
            second_start,
            1,
            1,
            1.3,
            rival="cf-forkserver",
        ),
    )
}
