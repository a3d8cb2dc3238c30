"""How many workers there are: `Pool.resize`, ``min_workers`` and ``idle_timeout``; and when: pause, resume, drain."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from . import fault_functions as tasks
from . import sample_functions as f
from . import staff_functions as w
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, w.__name__, tasks.__name__, "uvloop"]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(2, preload=PRELOAD) as pool:
        yield pool
        assert pool.statistics().crashes == 0


async def staff_is(pool: aioipc.Pool, count: int) -> None:
    """Wait until there are exactly so many workers, all of them ready."""
    await eventually_async(
        lambda: [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * count, 30, pool.statistics
    )


async def written(journal: Journal, lines: int) -> None:
    await eventually_async(lambda: len(journal.lines()) >= lines, 20, journal.lines)


# -- resize ----------------------------------------------------------------------------------------------


async def test_up_and_down(pool: aioipc.Pool) -> None:
    for count in (4, 1, 3, 3, 2):
        pool.resize(count)
        assert repr(pool).startswith(f"<Pool of {count}, open")
        await staff_is(pool, count)
        assert await pool.run(f.square, 3) == 9
    assert pool.statistics().restarts == 0


async def test_under_load(pool: aioipc.Pool, journal: Journal) -> None:
    """Each task is run once, whatever size the pool has at that moment."""
    chance = random.Random(7)
    functions = [w.noted_pid, w.noted_pid_async]
    jobs = []
    for i in range(300):
        jobs.append(pool.submit(functions[i // 20 % 2], journal.path, i))
        if i % 10 == 0:
            pool.resize(chance.randint(1, 4))
        if i % 7 == 0:
            await asyncio.sleep(0.004)
    async with asyncio.timeout(50):
        assert await asyncio.gather(*jobs) == list(range(300))
    assert sorted(int(line.split()[1]) for line in journal.lines()) == list(range(300))
    pool.resize(2)
    await staff_is(pool, 2)


async def test_workers_that_are_one_too_many_before_they_are_ready(pool: aioipc.Pool) -> None:
    """They never get a task: it would wait for their end, or be lost with them."""
    for _ in range(10):
        pool.resize(4)
        await asyncio.sleep(0)
        pool.resize(1)
        jobs = [pool.submit(w.pid_of, i) for i in range(5)]
        async with asyncio.timeout(20):
            await asyncio.gather(*jobs)
    await staff_is(pool, 1)


async def test_a_worker_that_is_let_go_ends_what_it_has(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    held = [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(2)]
    await written(journal, 2)
    pool.resize(1)
    assert await asyncio.wait(held, timeout=0.1) == (set(), set(held))
    assert len(pool.statistics().workers) == 2
    gate.open()
    assert await asyncio.gather(*held) == [0, 1]
    await staff_is(pool, 1)


async def test_the_one_with_the_least_to_do_goes(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    await staff_is(pool, 2)
    held = pool.submit(tasks.held, journal.path, gate.path, 1)
    await written(journal, 1)
    (busy,) = [worker.pid for worker in pool.statistics().workers if worker.in_flight]
    pool.resize(1)
    await staff_is(pool, 1)
    assert pool.statistics().workers[0].pid == busy
    gate.open()
    assert await held == 1


async def test_bad_sizes(pool: aioipc.Pool) -> None:
    for bad, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="workers must be"):
            pool.resize(bad)  # type: ignore[arg-type]
    await staff_is(pool, 2)
    await pool.aclose()
    with pytest.raises(aioipc.PoolClosed):
        pool.resize(3)


# -- growth ----------------------------------------------------------------------------------------------


async def test_it_grows_with_what_waits_and_shrinks_when_idle(journal: Journal, gate: Gate) -> None:
    async with f.open_pool(3, min_workers=1, idle_timeout=0.2, preload=PRELOAD) as pool:
        await staff_is(pool, 1)
        held = [pool.submit(tasks.held, journal.path, gate.path, 0)]
        await written(journal, 1)
        assert len(pool.statistics().workers) == 1  # nothing waited
        held += [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(1, 8)]
        await staff_is(pool, 3)
        await written(journal, 3)
        await asyncio.sleep(0.1)
        assert len(pool.statistics().workers) == 3
        gate.open()
        assert await asyncio.gather(*held) == list(range(8))
        await staff_is(pool, 1)
        assert await pool.run(f.square, 3) == 9
        pool.resize(2)
        await staff_is(pool, 2)
        await asyncio.sleep(1.3)  # nothing goes on by itself after that
        await staff_is(pool, 2)


async def test_quick_tasks_do_not_make_it_grow() -> None:
    async with f.open_pool(3, min_workers=1, preload=PRELOAD) as pool:
        assert [await pool.run(f.square, i) for i in range(50)] == [i * i for i in range(50)]
        assert len(pool.statistics().workers) == 1


async def test_the_least_is_no_more_than_the_most() -> None:
    with pytest.raises(ValueError, match="min_workers is 3, more than the 2 workers"):
        aioipc.Pool(2, min_workers=3)


# -- pause, resume, drain --------------------------------------------------------------------------------


async def test_nothing_starts_while_it_is_paused(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    held = [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(2)]
    await written(journal, 2)
    pool.pause()
    pool.pause()
    assert pool.statistics().paused
    later = [pool.submit(tasks.noted, journal.path, i) for i in range(10, 20)]
    stream = pool.stream(range, 3)
    gate.open()
    assert await asyncio.gather(*held) == [0, 1]  # what ran goes on
    await asyncio.sleep(0.1)
    assert len(journal.lines()) == 2
    statistics = pool.statistics()
    assert (statistics.queued, statistics.in_flight, statistics.pending) == (11, 0, 11)
    with pytest.raises(RuntimeError, match="paused"):
        await pool.drain()
    later[0].cancel()
    pool.resume()
    pool.resume()
    assert not pool.statistics().paused
    assert await asyncio.gather(*later[1:]) == list(range(11, 20))
    assert later[0].cancelled()
    assert [x async for x in stream] == [0, 1, 2]
    assert sorted(journal.counts()) == [0, 1, *range(11, 20)]


async def test_what_was_sent_ahead_comes_back(pool: aioipc.Pool, journal: Journal) -> None:
    """Many quick tasks are with the workers; after a while none of them runs any more."""
    for i in range(50):
        await pool.run(tasks.noted, journal.path, i)
    jobs = [pool.submit(tasks.noted, journal.path, i) for i in range(50, 5000)]
    await written(journal, 60)
    pool.pause()
    await eventually_async(lambda: pool.statistics().in_flight == 0, 20, pool.statistics)
    count = len(journal.lines())
    assert count < 5000
    await asyncio.sleep(0.05)
    assert len(journal.lines()) == count
    pool.resume()
    await asyncio.gather(*jobs)
    assert journal.counts() == dict.fromkeys(range(5000), 1)


@pytest.mark.parametrize("by_exception", [False, True])
async def test_closing_a_paused_pool(by_exception: bool) -> None:
    """Closing resumes it, or drops what waits."""
    pool = aioipc.Pool(1, shutdown=1, preload=PRELOAD)
    try:
        async with asyncio.timeout(30), pool:
            pool.pause()
            jobs = [pool.submit(f.square, i) for i in range(5)]
            await asyncio.sleep(0)
            if by_exception:
                raise KeyError("mine")
    except KeyError:
        assert all(job.cancelled() for job in jobs)
    else:
        assert [job.result() for job in jobs] == [0, 1, 4, 9, 16]
    for use in (pool.pause, pool.resume):
        with pytest.raises(aioipc.PoolClosed):
            use()


async def test_drain(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    await pool.drain()
    held = pool.submit(tasks.held, journal.path, gate.path, 1)
    await written(journal, 1)
    draining = asyncio.create_task(pool.drain())
    cancelled = asyncio.create_task(pool.drain())
    await asyncio.sleep(0)
    cancelled.cancel()
    later = pool.submit(f.square, 3)  # it waits for those, too, that come meanwhile
    assert await later == 9
    assert not draining.done()
    gate.open()
    async with asyncio.timeout(20):
        await draining
    assert held.done()
    assert cancelled.cancelled()
    assert await pool.run(f.square, 4) == 16
    await pool.aclose()
    with pytest.raises(aioipc.PoolClosed):
        await pool.drain()


async def test_drain_of_a_paused_pool_waits_for_what_runs(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    """Only what cannot start keeps it from ever being done."""
    held = pool.submit(tasks.held, journal.path, gate.path, 1)
    await written(journal, 1)
    pool.pause()
    draining = asyncio.create_task(pool.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    gate.open()
    async with asyncio.timeout(20):
        await draining
    assert held.done()
    await pool.drain()


async def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aioipc.pool")
    async with f.open_pool(1, max_tasks=1, preload=PRELOAD) as pool:
        for _ in range(3):
            await pool.run(w.pid_of)
    assert "is to be replaced: it was given its 1 tasks" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
