"""``Pool(threads=True)``: sync functions in threads of a worker, several at once, beside async ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from . import fault_functions as tasks
from . import sample_functions as f
from . import state_functions as s
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, s.__name__, tasks.__name__, "uvloop"]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    """One worker, which has to survive."""
    async with f.open_pool(1, threads=True, concurrency=8, grace=20, preload=PRELOAD) as pool:
        yield pool
        assert await pool.run(f.square, 3) == 9
        statistics = pool.statistics()
        assert statistics.crashes == statistics.restarts == statistics.pending == 0


async def wait_line(journal: Journal, line: str, times: int = 1) -> None:
    await eventually_async(lambda: journal.lines().count(line) >= times, 20, journal.lines)


async def outcome(job: aioipc.Job[Any]) -> Any:
    await asyncio.wait([job])
    return asyncio.CancelledError() if job.cancelled() else job.exception() or job.result()


async def test_sync_functions_overlap(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    """As many as ``concurrency``, in one process, with async ones beside them; no more."""
    pids = await asyncio.gather(*(pool.submit(s.meet, journal.path, 8, i) for i in range(8)))
    assert len(set(pids)) == 1
    waiting = Journal(Path(f"{journal.path}-2"))
    held = [pool.submit(tasks.held, waiting.path, gate.path, i) for i in range(7)]
    await eventually_async(lambda: len(waiting.lines()) == 7, 20)
    assert await pool.run(f.async_square, 5) == 25
    held.append(pool.submit(tasks.held, waiting.path, gate.path, 7))
    late = pool.submit(tasks.noted, waiting.path, 100)
    await eventually_async(lambda: len(waiting.lines()) == 8, 20)
    assert "100" not in waiting.lines()
    gate.open()
    assert await asyncio.gather(*held) == list(range(8))
    assert await late == 100


async def test_where_they_run(pool: aioipc.Pool) -> None:
    assert (await pool.run(s.thread_name)).startswith("aioipc-task")
    assert await pool.run(s.thread_name_async) == "MainThread"
    assert [x async for x in pool.map(f.square, range(200))] == [i * i for i in range(200)]


async def test_one_that_runs_is_cancelled(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    """KeyboardInterrupt in it, its ``finally`` runs, what runs beside it notices nothing."""
    other = pool.submit(tasks.held, f"{journal.path}-2", gate.path, 1)
    for turn in range(1, 6):
        job = pool.submit(s.loop_until_interrupted, journal.path)
        await wait_line(journal, "started", turn)
        job.cancel()
        assert job.state == "cancelling"
        assert isinstance(await outcome(job), asyncio.CancelledError)
        assert journal.lines().count("interrupted") == journal.lines().count("finally") == turn
    assert other.state == "running"
    gate.open()
    assert await other == 1
    assert pool.statistics().cancelled == 5


async def test_a_timeout(pool: aioipc.Pool, journal: Journal) -> None:
    with pytest.raises(aioipc.TaskTimeout):
        await pool.submit(s.loop_until_interrupted, journal.path, timeout=0.2)
    assert journal.lines() in (["started", "interrupted", "finally"], [])  # it may come before its thread does


async def test_a_coroutine_that_a_sync_function_returns(pool: aioipc.Pool, journal: Journal) -> None:
    """It is awaited in the loop, and cancelled there."""
    assert await pool.run(lambda: f.async_square(4)) == 16
    job = pool.submit(s.return_a_coroutine, journal.path)
    await wait_line(journal, "started")
    job.cancel()
    assert isinstance(await outcome(job), asyncio.CancelledError)
    assert journal.lines() == ["started", "finally"]


async def test_cancelled_in_every_moment(pool: aioipc.Pool) -> None:
    """Before the thread, in it, just after it: each ends as cancelled or done, and the worker lives."""
    jobs = []
    for turn in range(300):
        jobs.append(job := pool.submit(s.spin_briefly, turn * 40))
        if turn % 3:
            await asyncio.sleep(turn % 7 * 2e-4)
        if turn % 10 == 0:
            jobs.append(pool.submit(f.async_square, 2))
        job.cancel()
    for job in jobs:
        with contextlib.suppress(asyncio.CancelledError):
            assert await job in (4, *range(0, 12_000, 40))


async def test_a_stubborn_one_is_killed(journal: Journal) -> None:
    """With its worker, after the grace; what ran beside it is lost with it, or tried again."""
    async with f.open_pool(1, threads=True, grace=0.2, preload=PRELOAD) as pool:
        again = pool.submit(tasks.die_at_first, "SIGKILL", f"{journal.path}-2", 1, retries=1)
        assert await again == 1
        job = pool.submit(s.swallow_interrupts, journal.path)
        beside = pool.submit(s.loop_until_interrupted, f"{journal.path}-3")
        await wait_line(journal, "started")
        await wait_line(Journal(Path(f"{journal.path}-3")), "started")
        job.cancel()
        assert isinstance(await outcome(job), asyncio.CancelledError)
        assert "ignored" in journal.lines()
        crash = await outcome(beside)
        assert isinstance(crash, aioipc.WorkerCrashed)
        assert "swallow_interrupts" in crash.reason
        assert "loop_until_interrupted" in crash.stacks  # every thread is in the dump
        assert await pool.run(f.square, 3) == 9


RAISED: list[tuple[BaseException, type[BaseException]]] = [
    (KeyError("x"), KeyError),
    (StopIteration(1), aioipc.RemoteError),
    (StopAsyncIteration(), aioipc.RemoteError),
    (SystemExit(3), aioipc.RemoteError),
    (KeyboardInterrupt(), aioipc.RemoteError),
    (GeneratorExit(), aioipc.RemoteError),
    (ExceptionGroup("two", [KeyError(1), OSError(2)]), ExceptionGroup),
]


@pytest.mark.parametrize("threads", [False, True], ids=["", "threads"])
async def test_exceptions(threads: bool) -> None:
    """The same ones as without threads."""
    async with f.open_pool(1, threads=threads, preload=PRELOAD) as pool:
        for error, expected in RAISED:
            got = await outcome(pool.submit(s.raise_this, error))
            assert type(got) is expected, (error, got)
            if isinstance(got, aioipc.RemoteError):
                assert got.type_name == type(error).__name__
            assert "raise_this" in str(got.__cause__)
        got = await outcome(pool.submit(s.raise_this, asyncio.CancelledError()))
        assert isinstance(got, aioipc.RemoteError)
        assert got.type_name == "asyncio.exceptions.CancelledError"
        assert await pool.run(f.square, 3) == 9
        assert pool.statistics().crashes == 0


async def test_a_worker_that_dies(journal: Journal) -> None:
    """All that ran in its threads is lost with it, what waited is run by the next."""
    async with f.open_pool(1, threads=True, concurrency=2, preload=PRELOAD) as pool:
        beside = pool.submit(s.loop_until_interrupted, journal.path)
        await wait_line(journal, "started")
        dying = pool.submit(tasks.die, "SIGKILL")
        later = [pool.submit(f.square, i) for i in range(20)]
        for job in (beside, dying):
            assert isinstance(await outcome(job), aioipc.WorkerCrashed)
        assert await asyncio.gather(*later) == [i * i for i in range(20)]


async def test_closing_by_an_exception(journal: Journal) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.Pool(1, threads=True, shutdown=0.2, preload=PRELOAD) as pool:
            job = pool.submit(s.loop_until_interrupted, journal.path)
            await wait_line(journal, "started")
            raise KeyError("mine")
    assert job.cancelled()
