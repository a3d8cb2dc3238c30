"""The cases of channels: what one measurement does, in the near one of two processes."""

from __future__ import annotations

import os
import statistics
import time
from functools import partial

from . import far_end
from .case import Case, Goal, Unable
from .channel_peers.base import ChannelPeer, LocalPeer

MESSAGE, CHUNK = 64, 65536  # bytes
MEGABYTE = 1e6


def use_one_core() -> None:
    """Pin this process, and what it starts: how long the waking of an idle core takes is then left out."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


async def round_trip(peer: ChannelPeer, count: float, one_core: bool) -> float:
    """The median of there and back, in microseconds."""
    if one_core:
        use_one_core()
    warm_up, timed = _counts(peer, count)
    await far_end.start(peer, "answer", MESSAGE, warm_up + timed)
    await peer.converse(warm_up, bytes(MESSAGE))
    return statistics.median(await peer.converse(timed, bytes(MESSAGE))) * 1e6


async def one_way(peer: ChannelPeer, count: float, one_core: bool) -> float:
    """Messages a second, from the first one sent until the other side says that it has the last one."""
    if one_core:
        use_one_core()
    return await _pour(peer, "drain", MESSAGE, count)


async def bulk(peer: ChannelPeer, count: float) -> float:
    """Megabytes a second."""
    return await _pour(peer, "swallow", CHUNK, count) * CHUNK / MEGABYTE


async def _pour(peer: ChannelPeer, task: str, size: int, count: float) -> float:
    if peer.largest is not None and size > peer.largest:
        raise Unable(f"messages of up to {peer.largest} bytes only")
    warm_up, timed = _counts(peer, count)
    await far_end.start(peer, task, size, warm_up, timed)
    await _pour_and_hear(peer, warm_up, size)
    started = time.perf_counter()
    await _pour_and_hear(peer, timed, size)
    return timed / (time.perf_counter() - started)


async def _pour_and_hear(peer: ChannelPeer, count: int, size: int) -> None:
    await peer.pour(count, bytes(size))
    await peer.drain(1, size)


def _counts(peer: ChannelPeer, count: float) -> tuple[int, int]:
    timed = int(count * peer.share)
    return max(1, timed // 10), timed


async def through_cat(peer: ChannelPeer, count: float) -> float:
    """Megabytes a second, the start and the end of the program included."""
    await peer.through_cat(10, bytes(CHUNK))
    started = time.perf_counter()
    passed = await peer.through_cat(int(count), bytes(CHUNK))
    seconds = time.perf_counter() - started
    assert passed == int(count) * CHUNK
    return passed / MEGABYTE / seconds


async def take_and_give(peer: LocalPeer, count: float) -> float:
    """Microseconds for one of a semaphore, which is free, and giving it back."""
    timed = int(count * peer.share)
    await peer.take_and_give(timed // 10)
    started = time.perf_counter()
    await peer.take_and_give(timed)
    return (time.perf_counter() - started) / timed * 1e6


async def copy(peer: LocalPeer, count: float) -> float:
    """Megabytes a second that are copied into memory and out of it again."""
    data = bytes(1 << 20)
    await peer.copy(10, data)
    started = time.perf_counter()
    await peer.copy(int(count), data)
    return int(count) * len(data) / MEGABYTE / (time.perf_counter() - started)


STREAMS = ("uvloop-streams", "uvloop-pipes")
"""asyncio's own streams on uvloop: what aioipc is held against."""

LATENCY = {
    "aioipc-socketpair": Goal(1.2, STREAMS),
    "aioipc-unix": Goal(1.2, STREAMS),
    "aioipc-posix-queue": Goal(2, STREAMS),
    "aioipc-sysv-queue": Goal(0.4, ("sysv_ipc-thread",)),
}
THROUGHPUT = {"aioipc-socketpair": Goal(1, STREAMS), "aioipc-unix": Goal(1, STREAMS)}

CASES = {
    case.name: case
    for case in (
        Case(
            "round-trip-pinned",
            "64 B there and back, one core",
            "µs",
            partial(round_trip, one_core=True),
            5_000,
            500,
            1.2,
            rivals=STREAMS,
            goals=LATENCY,
        ),
        Case(
            "round-trip",
            "64 B there and back",
            "µs",
            partial(round_trip, one_core=False),
            5_000,
            500,
            1.2,
            rivals=STREAMS,
            goals=LATENCY,
        ),
        Case(
            "one-way-pinned",
            "64 B one way, one core",
            "msg/s",
            partial(one_way, one_core=True),
            200_000,
            20_000,
            1,
            higher_is_better=True,
            rivals=STREAMS,
            goals=THROUGHPUT,
        ),
        Case(
            "one-way",
            "64 B one way",
            "msg/s",
            partial(one_way, one_core=False),
            200_000,
            20_000,
            1,
            higher_is_better=True,
            rivals=STREAMS,
            goals=THROUGHPUT,
        ),
        Case(
            "bulk",
            "64 KiB chunks one way",
            "MB/s",
            bulk,
            8_192,
            512,
            1,
            higher_is_better=True,
            rivals=STREAMS,
        ),
        Case(
            "pipeline",
            "64 MiB through the program cat",
            "MB/s",
            through_cat,
            1_024,
            128,
            1,
            higher_is_better=True,
            rivals=STREAMS,
            only=("aioipc", "aioipc-asyncio", "uvloop-pipes", "anyio", "syscalls"),
        ),
        Case(
            "semaphore",
            "take and give back",
            "µs",
            take_and_give,
            100_000,
            10_000,
            10,
            absolute=True,
            only=(
                "aioipc-sysv-semaphore",
                "aioipc-posix-semaphore",
                "sysv_ipc-semaphore",
                "posix_ipc-semaphore",
                "c-semaphore",
            ),
            ours="aioipc-sysv-semaphore",
        ),
        Case(
            "copy",
            "1 MiB into memory and out",
            "MB/s",
            copy,
            2_000,
            200,
            0.9,
            higher_is_better=True,
            only=("aioipc-memory", "aioipc-sysv-memory", "multiprocessing-memory", "plain-memory"),
            ours="aioipc-memory",
        ),
    )
}
