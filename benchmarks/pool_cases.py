"""The cases of pools: what one measurement does."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from .case import Case, Figures, Unable
from .functions import echo, noop
from .killing import time_to_recover
from .peers.base import WORKERS, Peer
from .procfs import wakeups_per_second


@dataclass(frozen=True)
class PoolCase(Case):
    """A case of pools, which are started for it. ``concurrency``: async tasks at a time in a worker."""

    concurrency: int | None = None
    is_stopped: bool = True

    async def run(self, peer: Peer, size: float) -> float | Figures:
        await peer.start(self.concurrency)
        return await self.measure(peer, size)

    async def end(self, peer: Peer) -> None:
        if self.is_stopped:
            await peer.stop()


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
        PoolCase(
            "submit",
            "single submits, awaited together",
            "tasks/s",
            submits,
            20_000,
            2_000,
            8,
            higher_is_better=True,
        ),
        PoolCase("map", "map without a chunk size", "tasks/s", maps, 20_000, 4_000, 0.5, higher_is_better=True),
        PoolCase("latency", "one task at a time", "µs", latency, 1_000, 100, 0.5),
        PoolCase("bulk", "1 MiB there and back", "ms", bulk, 100, 20, 0.25),
        PoolCase(
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
        PoolCase(
            "kill",
            "SIGKILL under load until all is well",
            "ms",
            recovery,
            5,
            5,
            100,
            absolute=True,
            cap=30,
            is_stopped=False,
        ),
        PoolCase("idle", "idle: wake-ups a second, worst process", "/s", idle, 5, 2, 1, absolute=True),
        PoolCase(
            "start",
            "second pool to its first result",
            "ms",
            second_start,
            1,
            1,
            1.3,
            rivals=("cf-forkserver",),
        ),
    )
}
