"""How a stream ends before its generator does: by its reader, by its worker's death, by the pool."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.failpoints import Failpoints, failpoints
from ..harness.processes import eventually_async
from . import sample_functions as f
from . import stream_functions as g
from .fault_functions import Gate, Journal

__all__ = ["failpoints"]

BOTH = pytest.mark.parametrize("kind", ["sync", "async"])
THREADS = pytest.mark.parametrize("threads", [False, True], ids=["", "threads"])
WAYS = pytest.mark.parametrize("function", [g.noted_numbers, g.noted_numbers_async])
PRELOAD = [g.__name__, "uvloop"]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(1, preload=PRELOAD) as pool:
        yield pool
        assert await pool.run(f.square, 3) == 9


async def no_task_left(pool: aioipc.Pool) -> None:
    await eventually_async(lambda: pool.statistics().pending == 0, 20, pool.statistics)


async def take(results: Any, count: int) -> list[Any]:
    return [await anext(results) for _ in range(count)]


# -- the reader has enough -------------------------------------------------------------------------------


@WAYS
@THREADS
async def test_the_generator_is_closed(function: Callable[..., Any], threads: bool, journal: Journal) -> None:
    """In each way to leave a stream its ``finally`` runs, and the worker goes on."""
    async with f.open_pool(1, threads=threads, preload=PRELOAD) as pool:
        async with pool.stream(function, journal.path, window=4) as results:
            assert await take(results, 10) == list(range(10))
        assert journal.lines().count("finally") == 1  # when the block is left, not some time later
        assert pool.statistics().pending == 0

        with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
            async with pool.stream(function, journal.path) as results:
                await anext(results)
                raise KeyError("mine")
        assert journal.lines().count("finally") == 2

        results = pool.stream(function, journal.path, window=3)
        await anext(results)
        await results.aclose()
        await results.aclose()
        assert journal.lines().count("finally") == 3
        with pytest.raises(StopAsyncIteration):
            await anext(results)

        async for _ in pool.stream(function, journal.path):
            break
        gc.collect()
        await no_task_left(pool)
        assert journal.lines().count("finally") == 4

        results = pool.stream(function, journal.path)
        reader = asyncio.ensure_future(anext(results))
        closing = asyncio.create_task(results.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([reader, closing])
        await no_task_left(pool)
        started = pool.statistics()
        assert started.crashes == started.failed == 0
        assert await pool.run(f.square, 5) == 25


@pytest.mark.parametrize(
    ("function", "threads"),
    [(g.waiting_for_ever, False), (g.waiting_for_ever_async, False), (g.waiting_for_ever_async, True)],
)
async def test_a_generator_that_waits_itself(function: Callable[..., Any], threads: bool, journal: Journal) -> None:
    """It is broken into where it is; only a thread that sleeps in C cannot be."""
    async with f.open_pool(1, threads=threads, grace=20, preload=PRELOAD) as pool:
        async with pool.stream(function, journal.path) as results:
            assert await anext(results) == 0
            reader = asyncio.ensure_future(anext(results, "over"))  # type: ignore[arg-type]
            await eventually_async(lambda: "waiting" in journal.lines(), 20)
        assert journal.lines() == ["waiting", "finally"]
        assert await reader == "over"
        assert pool.statistics().crashes == 0


async def test_before_it_has_started(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    """What waits in the queue is never started."""
    async with pool.stream(g.held_after, 1, journal.path, gate.path) as first:
        assert await anext(first) == 0
        async with pool.stream(g.noted_numbers, journal.path):
            pass
        dropped = pool.stream(g.noted_numbers, journal.path)
        del dropped
        gc.collect()
        await eventually_async(lambda: pool.statistics().pending == 1, 10)
        gate.open()
        assert await anext(first) == 1
    assert set(journal.lines()) == {"waiting", "finally"}


@pytest.mark.parametrize("function", [g.stubborn_numbers, g.stubborn_numbers_async])
async def test_a_generator_that_ignores_its_end_is_killed(function: Callable[..., Any], journal: Journal) -> None:
    async with f.open_pool(1, grace=0.2, preload=PRELOAD) as pool:
        async with pool.stream(function, journal.path) as results:
            assert await anext(results) == 0
            await eventually_async(lambda: "waiting" in journal.lines(), 20)
        assert "ignored" in journal.lines()
        statistics = pool.statistics()
        assert (statistics.cancelled, statistics.pending) == (1, 0)
        assert await pool.run(f.square, 3) == 9


@WAYS
async def test_cancelling_the_task_that_reads(
    pool: aioipc.Pool, function: Callable[..., Any], journal: Journal
) -> None:
    async def read() -> None:
        async with pool.stream(function, journal.path, window=2) as results:
            async for item in results:
                if item == 3:
                    reached.set()
                    await asyncio.Event().wait()

    reached = asyncio.Event()
    reader = asyncio.create_task(read())
    await reached.wait()
    reader.cancel()
    await asyncio.wait([reader])
    assert reader.cancelled()
    assert journal.lines()[-1] == "finally"


async def test_many_that_are_dropped_in_every_moment(pool: aioipc.Pool) -> None:
    """A cancellation meets the generator before its start, in its code, in its wait, at its end."""
    for turn in range(120):
        results = pool.stream([g.numbers, g.numbers_by_turns][turn % 2], turn, window=1 + turn % 5)
        for i in range(turn % 7):
            assert await anext(results, i) == i  # type: ignore[arg-type]
        if turn % 3:
            await asyncio.sleep(turn % 11 * 1e-4)
        await results.aclose()
    statistics = pool.statistics()
    assert statistics.pending == statistics.crashes == statistics.failed == 0
    assert statistics.done + statistics.cancelled == 120


# -- the worker dies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [g.dying_after, g.dying_after_async])
async def test_a_worker_that_dies(pool: aioipc.Pool, function: Callable[..., Any]) -> None:
    """What it had sent comes first."""
    results = pool.stream(function, 20)
    assert await take(results, 20) == list(range(20))
    with pytest.raises(aioipc.WorkerCrashed, match=function.__name__) as caught:
        await anext(results)
    assert caught.value.signal == signal.SIGKILL
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_a_worker_that_is_killed_while_its_stream_waits(pool: aioipc.Pool, journal: Journal) -> None:
    results = pool.stream(g.noted_numbers, journal.path, window=6)
    await eventually_async(lambda: "6 waiting" in repr(results), 20, lambda: repr(results))
    pid = pool.statistics().workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await take(results, 6) == list(range(6))
    with pytest.raises(aioipc.WorkerCrashed):
        await anext(results)
    await results.aclose()
    assert "finally" not in journal.lines()


@pytest.mark.parametrize("function", [g.numbers, g.numbers_by_turns])
async def test_half_an_item(failpoints: Failpoints, function: Callable[..., Any]) -> None:
    """A worker dies while it writes: the items that came whole are handed over."""
    point = failpoints.arm("mid-write", "kill", held=True)
    async with f.open_pool(1, preload=PRELOAD) as pool:
        results = pool.stream(function, 500, window=4)
        got = await take(results, 10)
        point.release()
        with pytest.raises(aioipc.WorkerCrashed):  # noqa: PT012 - somewhere in the loop
            async for item in results:
                got.append(item)
        assert point.was_hit
        assert got == list(range(len(got)))
        assert 10 <= len(got) < 500
        assert await pool.run(f.square, 3) == 9


@WAYS
async def test_a_worker_that_drains_goes_on_with_its_stream(pool: aioipc.Pool, function: Any, journal: Journal) -> None:
    """SIGTERM lets it finish what it has, and items go on while the control thread gives tasks back."""
    async with pool.stream(function, journal.path, window=2) as results:
        assert await take(results, 3) == [0, 1, 2]
        pid = pool.statistics().workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        await eventually_async(lambda: pool.statistics().workers[0].state == "DRAINING", 20)
        assert await take(results, 300) == list(range(3, 303))
        jobs = [pool.submit(f.square, i) for i in range(20)]
    async with asyncio.timeout(20):
        assert await asyncio.gather(*jobs) == [i * i for i in range(20)]


async def test_items_that_overtake_each_other(pool: aioipc.Pool) -> None:
    """The control thread, asked for unstarted tasks again and again, sends results by its own socket."""
    assert await pool.run(f.square, 1) == 1
    streams = [pool.stream(g.numbers_by_turns, 600, window=50) for _ in range(3)]
    jobs: list[aioipc.Job[int]] = []

    async def nudge() -> None:
        while not all("ended" in repr(stream) or "closed" in repr(stream) for stream in streams):
            worker = pool._master.crew.workers[0]  # type: ignore[union-attr]
            worker.nudge()
            jobs.append(pool.submit(f.async_square, len(jobs)))
            await asyncio.sleep(0)

    async def read(stream: Any) -> list[int]:
        return [item async for item in stream]

    async with asyncio.timeout(40):
        *got, _ = await asyncio.gather(*map(read, streams), nudge())
        assert got == [list(range(600))] * 3
        assert await asyncio.gather(*jobs) == [i * i for i in range(len(jobs))]


# -- the pool ends ---------------------------------------------------------------------------------------


@WAYS
async def test_closing_the_pool_ends_a_stream(function: Callable[..., Any], journal: Journal) -> None:
    pool = await aioipc.Pool(1, preload=PRELOAD).__aenter__()
    results = pool.stream(function, journal.path, window=3)
    assert await anext(results) == 0
    await eventually_async(lambda: ", 2 waiting" in repr(results) or ", 3 waiting" in repr(results), 20)
    await pool.aclose()
    assert journal.lines()[-1] == "finally"
    assert await take(results, 2) == [1, 2]
    with pytest.raises(aioipc.PoolClosed, match=r"before .* had ended"):  # noqa: PT012 - after what may be waiting
        async for item in results:
            assert item == 3
    with pytest.raises(StopAsyncIteration):
        await anext(results)
    await results.aclose()
    with pytest.raises(aioipc.PoolClosed):
        pool.stream(function, journal.path)


async def test_closing_the_pool_wakes_a_waiting_reader(journal: Journal) -> None:
    pool = await aioipc.Pool(1, preload=PRELOAD).__aenter__()
    results = pool.stream(g.waiting_for_ever, journal.path)
    queued = pool.stream(g.numbers, 3)
    assert await anext(results) == 0
    readers = [asyncio.ensure_future(anext(stream)) for stream in (results, queued)]
    await asyncio.sleep(0)
    await pool.aclose()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [aioipc.PoolClosed] * 2


async def test_leaving_the_pool_by_an_exception_ends_a_stream(journal: Journal) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.Pool(1, shutdown=0.2, grace=0.1, preload=PRELOAD) as pool:
            results = pool.stream(g.stubborn_numbers, journal.path)
            assert await anext(results) == 0
            await eventually_async(lambda: "waiting" in journal.lines(), 20)
            raise KeyError("mine")
    with pytest.raises(aioipc.PoolClosed):
        await anext(results)


async def test_a_stream_that_outlives_everything(journal: Journal) -> None:
    """Dropped after the pool was closed, or never read: nothing happens."""
    async with f.open_pool(1, preload=PRELOAD) as pool:
        results = [pool.stream(g.numbers, 3), pool.stream(g.noted_numbers, journal.path, window=1)]
        await eventually_async(lambda: len(journal.lines()) == 1, 20)
    del results
    gc.collect()
    await asyncio.sleep(0)
    assert journal.lines()[-1] == "finally"
