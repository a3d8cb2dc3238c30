"""A worker, or the zygote, dies or stops at each named point of its life. Whatever the point: every accepted task
settles, what had not been started is run, what had been started fails alone or is tried again, the pool goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import aioipc

from ..harness.failpoints import Failpoint, Failpoints, every_failpoint_is_hit, failpoints
from ..harness.processes import eventually_async
from ..harness.scripts import run_script
from .fault_functions import Gate, Journal, held, held_async, large, noted, noted_async

__all__ = ["every_failpoint_is_hit", "failpoints"]

ENDS = {"kill": -signal.SIGKILL, "segv": -signal.SIGSEGV, "exit": 7}
ACTIONS = tuple(ENDS)
TASKS = 40

START_METHODS: dict[str, Literal["zygote", "spawn"]] = {
    "zygote-before-fork": "zygote",
    "before-exec": "spawn",
    "before-ready": "zygote",
}
NOTHING_STARTED = ("idle", "task-received")
AT_WORK = [
    ("idle", noted),
    ("task-received", noted),
    ("task-received", noted_async),
    ("mid-task", noted),
    ("mid-task", noted_async),
    ("result-computed", noted),
    ("result-computed", noted_async),
    ("mid-write", noted),
    ("mid-write", noted_async),
    ("mid-write", large),
]


async def settled(*jobs: aioipc.Job[Any]) -> list[Any]:
    """Wait for the jobs; returns results and exceptions."""
    return await asyncio.gather(*jobs, return_exceptions=True)


def all_running(pool: aioipc.Pool, workers: int) -> Callable[[], bool]:
    return lambda: [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * workers


def check_crash(error: object, exitcode: int) -> None:
    assert isinstance(error, aioipc.WorkerCrashed), repr(error)
    assert error.exitcode == exitcode
    assert error.signal == (-exitcode if exitcode < 0 else None)
    assert error.pid
    assert error.slot in (0, 1)
    assert "noted" in error.task or "large" in error.task or "held" in error.task


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", START_METHODS)
async def test_death_before_ready(name: str, action: str, failpoints: Failpoints, tmp_path: Path) -> None:
    point, journal = failpoints.arm(name, action), Journal(tmp_path / "journal")
    async with asyncio.timeout(20), aioipc.Pool(4, shutdown=1, start_method=START_METHODS[name]) as pool:
        assert await settled(*(pool.submit(noted, journal.path, i) for i in range(TASKS))) == list(range(TASKS))
        await eventually_async(all_running(pool, 4), 10)
        statistics = pool.statistics()
    assert point.was_hit
    assert journal.counts() == dict.fromkeys(range(TASKS), 1)
    assert statistics.crashes == statistics.failed == 0
    assert statistics.restarts >= 1


async def test_worker_that_is_ready_before_the_zygote_has_told_of_it(failpoints: Failpoints) -> None:
    failpoints.arm("zygote-after-fork", "stop")
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = pool.statistics().workers
        assert worker.state == "RUNNING"
        assert worker.pid == await pool.run(os.getpid)
        os.kill(pool.statistics().zygote_pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("name", "function", "action"),
    [(*case, action) for case in AT_WORK for action in ACTIONS if case[1] is noted or action == "kill"],
)
async def test_death_at_work(
    name: str, function: Callable[[str, int], Any], action: str, failpoints: Failpoints, tmp_path: Path
) -> None:
    point = failpoints.arm(name, action, held=True)
    once, again = Journal(tmp_path / "once"), Journal(tmp_path / "again")
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        await eventually_async(all_running(pool, 2))  # so that the READY frames are not what mid-write hits
        point.release()
        outcomes = await settled(*(pool.submit(function, once.path, i) for i in range(TASKS)))
        await eventually_async(lambda: point.was_hit)
        check_without_retries(name, outcomes, ENDS[action])
        assert set(once.counts().values()) == {1}
        assert once.counts().keys() >= {i for i in range(TASKS) if not isinstance(outcomes[i], BaseException)}

        await eventually_async(all_running(pool, 2))
        point.hold()
        point.release()
        jobs = [pool.submit(function, again.path, i, retries=3) for i in range(TASKS)]
        assert not [outcome for outcome in await settled(*jobs) if isinstance(outcome, BaseException)]
        assert point.was_hit
        assert set(again.counts().values()) <= {1, 2}
        statistics = pool.statistics()
    assert statistics.done + statistics.failed == statistics.submitted
    assert statistics.crashes == (0 if name in NOTHING_STARTED else 2)


def check_without_retries(name: str, outcomes: list[Any], exitcode: int) -> None:
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if name in NOTHING_STARTED:
        assert failed == []
    else:
        assert 1 <= len(failed) < TASKS
    for error in failed:
        check_crash(error, exitcode)


@pytest.mark.parametrize("function", [held, held_async])
@pytest.mark.parametrize("action", ACTIONS)
async def test_death_while_draining(
    action: str, function: Callable[[str, str, int], Any], failpoints: Failpoints, tmp_path: Path
) -> None:
    point = failpoints.arm("draining", action, held=True)
    journal, gate = Journal(tmp_path / "journal"), Gate(tmp_path / "gate")
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, concurrency=1) as pool:
        for retries in (0, 1):
            point.hold()
            job = pool.submit(function, journal.path, gate.path, 1, retries=retries)
            queued = pool.submit(noted, journal.path, 2)
            await eventually_async(lambda retries=retries: journal.counts()[1] == 1 + retries)
            point.release()
            os.kill(await worker_of(pool), signal.SIGTERM)
            await eventually_async(lambda: point.was_hit)
            if retries:
                await eventually_async(lambda: journal.counts()[1] == 3)
                gate.open()
            outcome = (await settled(job))[0]
            if retries:
                assert outcome == 1
            else:
                check_crash(outcome, ENDS[action])
            assert await queued == 2
        assert journal.counts() == {1: 3, 2: 2}


@pytest.mark.parametrize("action", ACTIONS)
async def test_death_while_draining_idle(action: str, failpoints: Failpoints) -> None:
    point = failpoints.arm("draining", action)
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        first = await worker_of(pool)
        os.kill(first, signal.SIGTERM)
        await eventually_async(lambda: point.was_hit)
        assert await pool.run(os.getpid) != first
        assert pool.statistics().crashes == 0


async def worker_of(pool: aioipc.Pool) -> int:
    """The pid of a pool's only worker, once it is ready."""
    await eventually_async(all_running(pool, 1))
    pid = pool.statistics().workers[0].pid
    assert pid is not None
    return pid


# -- stopped (SIGSTOP) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["before-ready", "before-exec"])
async def test_stop_before_ready(name: str, failpoints: Failpoints, tmp_path: Path) -> None:
    point, journal = failpoints.arm(name, "stop"), Journal(tmp_path / "journal")
    method = START_METHODS[name]
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1, boot_timeout=1.5, start_method=method) as pool:
        assert await settled(*(pool.submit(noted, journal.path, i) for i in range(TASKS))) == list(range(TASKS))
        await eventually_async(lambda: pool.statistics().restarts == 1, 10)
        await eventually_async(all_running(pool, 2))
    assert point.was_hit
    assert journal.counts() == dict.fromkeys(range(TASKS), 1)


def test_stopped_zygote_before_fork(failpoints: Failpoints) -> None:
    """The zygote itself stops: the workers it owes are had from another one, and the pool can be closed."""
    point = failpoints.arm("zygote-before-fork", "stop")
    source = """
        import aioipc
        from aioipc.supervisor import zygote
        zygote._REACTION = 1.0

        async def main():
            async with aioipc.Pool(2, boot_timeout=1.0) as pool:
                assert [result async for result in pool.map(abs, range(-40, 0))] == list(range(40, 0, -1))
                print("done")
        aioipc.run(main)
    """
    done = run_script(source, timeout=20).check()
    assert done.stdout == "done\n"
    assert point.was_hit


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_stop_at_work(failpoints: Failpoints, tmp_path: Path) -> None:
    """All points at once, each in a pool of its own: it takes more than ``heartbeat_timeout`` to see it."""
    cases = [case for case in AT_WORK if case[1] is not large]
    runs = [stop_at_work(name, function, failpoints, tmp_path) for name, function in cases]
    runs.append(stop_while_draining(failpoints, tmp_path))
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    if errors := [outcome for outcome in outcomes if isinstance(outcome, Exception)]:
        raise ExceptionGroup("some points", errors)


async def stop_at_work(name: str, function: Callable[[str, int], Any], failpoints: Failpoints, directory: Path) -> None:
    journal = Journal(directory / f"{name}-{function.__name__}")
    point = failpoints.arm(name, "stop", held=True)
    try:
        async with asyncio.timeout(40), aioipc.Pool(2, shutdown=1, heartbeat_timeout=4) as pool:
            failpoints.disarm()
            await eventually_async(all_running(pool, 2))
            point.release()
            jobs = [pool.submit(function, journal.path, i, retries=i % 2 * 3) for i in range(TASKS)]
            await eventually_async(lambda: point.was_hit)
            jobs += [pool.submit(noted, journal.path, i) for i in range(TASKS, TASKS + 4)]
            outcomes = await settled(*jobs)
            for i, outcome in enumerate(outcomes):
                check_stopped(name, i, outcome)
            counts = journal.counts()
            assert counts.keys() >= {outcome for outcome in outcomes if isinstance(outcome, int)}
            assert all(count == 1 for i, count in counts.items() if i >= TASKS or i % 2 == 0)
            await eventually_async(all_running(pool, 2))
    except BaseException as error:
        error.add_note(f"stopped at {name}, {function.__name__}")
        raise


def check_stopped(name: str, i: int, outcome: object) -> None:
    if isinstance(outcome, BaseException):
        assert name not in NOTHING_STARTED
        assert i % 2 == 0
        check_crash(outcome, -signal.SIGKILL)
        assert "SIGSTOP" in str(outcome)
    elif isinstance(outcome, int):
        assert outcome == i


async def stop_while_draining(failpoints: Failpoints, directory: Path) -> None:
    journal, gate = Journal(directory / "draining"), Gate(directory / "gate")
    point: Failpoint = failpoints.arm("draining", "stop")
    try:
        async with asyncio.timeout(40), aioipc.Pool(1, shutdown=1, heartbeat_timeout=4) as pool:
            failpoints.disarm()
            job = pool.submit(held, journal.path, gate.path, 1, retries=1)
            queued = pool.submit(noted, journal.path, 2)
            await eventually_async(journal.lines)
            os.kill(await worker_of(pool), signal.SIGTERM)
            await eventually_async(lambda: point.was_hit)
            await eventually_async(lambda: journal.counts()[1] == 2, 15)
            gate.open()
            assert await settled(job, queued) == [1, 2]
    except BaseException as error:
        error.add_note("stopped while draining")
        raise
    finally:
        gate.open()
