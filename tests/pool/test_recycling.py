"""Workers are replaced when they have served long enough; the new one is there before the old one goes."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aioipc
from aioipc.supervisor.recycling import MEMORY_SHARE, Limits, memory_limit

from ..harness.processes import children, eventually_async, is_running
from . import fault_functions as tasks
from . import sample_functions as f
from . import staff_functions as w
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, w.__name__, tasks.__name__, "uvloop"]
MIB = 1 << 20


def pids(pool: aioipc.Pool) -> set[int | None]:
    return {worker.pid for worker in pool.statistics().workers}


@asynccontextmanager
async def watched(pool: aioipc.Pool, most: int, *, gaps: bool = False) -> AsyncIterator[None]:
    """Look all the time how many workers there are, and, without ``gaps``, that one is always RUNNING.

    Where the worker on its way out is still busy, and all others have had their last task, there is a gap: no more
    processes than ``most`` is the stronger promise.
    """
    seen: list[int] = []
    zygote = pool.statistics().zygote_pid

    async def watch() -> None:
        while True:
            seen.append(sum(child.state not in "ZX" for child in children(zygote)))
            assert gaps or any(worker.state == "RUNNING" for worker in pool.statistics().workers)
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    assert watching.cancelled(), watching.exception()
    assert seen
    assert max(seen) <= most, Counter(seen)


# -- decisions -------------------------------------------------------------------------------------------

COUNTS = st.none() | st.integers(1, 10**6)
AGES = st.none() | st.floats(1e-3, 1e6)
SHARES = st.floats(0, 1)


@given(COUNTS, COUNTS, AGES, SHARES)
def test_what_is_drawn(count: int | None, memory: int | None, age: float | None, share: float) -> None:
    """Never more than what was asked for, never less than what the share takes off, never no task at all."""
    drawn = Limits(count, memory, age).draw(share)
    assert drawn.memory == memory
    if count is None:
        assert drawn.tasks is None
    else:
        assert drawn.tasks is not None
        assert max(1, count * (1 - share) - 1) <= drawn.tasks <= count
    if age is None:
        assert drawn.age is None
    else:
        assert drawn.age is not None
        assert age * (1 - share) * 0.999 <= drawn.age <= age
    assert Limits(count, memory, age).draw(0.0) == Limits(count, memory, age)


@given(st.floats(0, 0.4))
def test_one_task_is_one_task(share: float) -> None:
    assert Limits(tasks=1).draw(share).tasks == 1


@given(COUNTS, AGES, st.integers(0, 10**9), st.floats(0, 1e6))
def test_what_is_too_much(memory: int | None, age: float | None, used: int, old: float) -> None:
    why = Limits(None, memory, age).exceeded(used, old)
    if memory is not None and used > memory:
        assert why is not None
        assert "MiB" in why
    elif age is not None and old > age:
        assert why is not None
        assert "older than" in why
    else:
        assert why is None


@given(st.none() | st.integers(1 << 20, 1 << 50), st.integers(1, 1024))
def test_the_share_of_each_worker(group: int | None, workers: int) -> None:
    limit = memory_limit(group, workers)
    if group is None:
        assert limit is None
    else:
        assert limit is not None
        assert 0 < limit * workers <= group * MEMORY_SHARE + 1


# -- by tasks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [w.pid_of, w.pid_of_async])
@pytest.mark.parametrize("threads", [False, True], ids=["", "threads"])
async def test_a_fresh_process_for_each_task(function: Callable[..., int], threads: bool) -> None:
    async with f.open_pool(1, max_tasks=1, threads=threads, preload=PRELOAD) as pool:
        async with watched(pool, 2):
            used = [await pool.run(function) for _ in range(4)]
        async with watched(pool, 2, gaps=True):
            used += await asyncio.gather(*(pool.submit(function) for _ in range(4)))
        assert len(set(used)) == 8
        assert pool.statistics().recycled >= 7
        assert pool.statistics().crashes == pool.statistics().restarts == 0


@pytest.mark.parametrize("function", [w.noted_pid, w.noted_pid_async])
async def test_no_worker_runs_more(function: Callable[..., Any], journal: Journal) -> None:
    """Nor is a task lost or run twice, nor are there more processes than one in addition."""
    async with f.open_pool(2, max_tasks=7, jitter=0.3, preload=PRELOAD) as pool, watched(pool, 3, gaps=True):
        jobs = [pool.submit(function, journal.path, i) for i in range(60)]
        assert await asyncio.gather(*jobs) == list(range(60))
        assert [x async for x in pool.map(function, [journal.path] * 40, range(60, 100))] == list(range(60, 100))
        assert pool.statistics().crashes == 0
        assert pool.statistics().done == 100
    lines = [line.split() for line in journal.lines()]
    assert Counter(number for _, number in lines) == Counter(map(str, range(100)))
    by_worker = Counter(pid for pid, _ in lines)
    assert max(by_worker.values()) <= 7
    assert pool.statistics().recycled >= 100 // 7 - 3


async def test_a_stream_is_a_task(journal: Journal) -> None:
    """It goes on in the old worker while the new one takes what comes after it."""
    async with f.open_pool(1, max_tasks=1, preload=PRELOAD) as pool:
        async with pool.stream(range, 1_000_000, window=4) as results:
            assert [await anext(results) for _ in range(10)] == list(range(10))
            first = await pool.run(w.pid_of)
            second = await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(read_some(results, 500))), 30)
            assert second == list(range(10, 510))
        assert await pool.run(w.pid_of) != first


async def read_some(results: Any, count: int) -> list[Any]:
    return [await anext(results) for _ in range(count)]


async def test_tasks_that_were_lost_with_a_worker_find_another(journal: Journal) -> None:
    async with f.open_pool(1, max_tasks=2, preload=PRELOAD) as pool:
        jobs = [pool.submit(tasks.die_at_first, "SIGKILL", journal.path, i, retries=1) for i in range(3)]
        jobs += [pool.submit(tasks.noted, journal.path, i) for i in range(3, 10)]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*jobs) == list(range(10))


async def test_the_old_worker_ends_what_it_has(journal: Journal, gate: Gate) -> None:
    """A slow task holds up neither its successor nor the next replacement."""
    async with f.open_pool(1, max_tasks=1, preload=PRELOAD) as pool:
        slow = pool.submit(tasks.held, journal.path, gate.path, 1)
        await eventually_async(lambda: journal.lines() == ["1"], 20)
        (old,) = {worker.pid for worker in pool.statistics().workers if worker.in_flight}
        async with asyncio.timeout(20):
            assert await pool.run(f.square, 3) == 9
        assert old is not None
        assert is_running(old)
        assert not slow.done()
        gate.open()
        assert await slow == 1
        await eventually_async(lambda: old not in pids(pool), 20, pool.statistics)


# -- by age and memory -----------------------------------------------------------------------------------


async def test_old_workers_are_replaced() -> None:
    """One at a time, whether or not they have anything to do."""
    async with f.open_pool(2, max_age=0.2, jitter=0.0, preload=PRELOAD) as pool, watched(pool, 3):
        assert await pool.run(f.square, 3) == 9
        before = pids(pool)
        await eventually_async(lambda: pool.statistics().recycled >= 2, 30, pool.statistics)
        await eventually_async(lambda: not before & pids(pool), 30, pool.statistics)
        assert await pool.run(f.square, 3) == 9
        assert pool.statistics().crashes == 0


async def test_workers_that_never_had_a_task_grow_old_too() -> None:
    async with f.open_pool(1, max_age=0.2, jitter=0.0) as pool, watched(pool, 2):
        await eventually_async(lambda: pool.statistics().recycled >= 1, 30, pool.statistics)


async def test_workers_that_hold_much_memory_are_replaced() -> None:
    async with f.open_pool(1, max_memory=100 * MIB, preload=PRELOAD) as pool, watched(pool, 2):
        first = await pool.run(w.keep_memory, MIB)
        for _ in range(3):
            assert await pool.run(w.pid_of) == first
        assert await pool.run(w.keep_memory, 150 * MIB) == first
        await eventually_async(lambda: first not in pids(pool), 30, pool.statistics)
        assert pool.statistics().recycled == 1
        assert await pool.run(w.pid_of) != first


async def test_recycling_and_death_together(journal: Journal) -> None:
    """Whatever meets whatever: each task settles once, the pool stays as large as it is."""
    async with f.open_pool(2, max_tasks=5, preload=PRELOAD) as pool:
        jobs: list[aioipc.Job[Any]] = []
        for i in range(60):
            if i % 9 == 4:
                jobs.append(pool.submit(tasks.die, "SIGKILL"))
            elif i % 9 == 7:
                victim = next((worker.pid for worker in pool.statistics().workers if worker.pid), None)
                if victim is not None and is_running(victim):
                    os.kill(victim, 15)
            jobs.append(pool.submit(tasks.noted, journal.path, i, retries=5))
            if i % 4 == 0:
                await asyncio.sleep(0.005)
        async with asyncio.timeout(50):
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, int | aioipc.WorkerCrashed), outcome
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == list(range(60))
        await eventually_async(
            lambda: [worker.state for worker in pool.statistics().workers].count("RUNNING") >= 2, 20, pool.statistics
        )
