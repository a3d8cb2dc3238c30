"""Everything a task can do to its worker, and everything that can be done to workers and the zygote from outside."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import signal
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc.pool import worker_handle
from aioipc.wire.framing import encode_frame
from aioipc.wire.pool_protocol import OK, RESULTS, encode_plain, encode_results

from ..harness.failpoints import Failpoints, failpoints
from ..harness.processes import descendants, eventually, eventually_async, is_running, process, wait_gone, wait_state
from ..harness.scripts import run_script, running_script
from . import fault_functions as tasks
from .fault_functions import Gate, Journal

__all__ = ["failpoints"]


async def settled(*jobs: aioipc.Job[Any]) -> list[Any]:
    """Wait for the jobs; returns results and exceptions."""
    return await asyncio.gather(*jobs, return_exceptions=True)


def pids(pool: aioipc.Pool) -> list[int]:
    return [worker.pid for worker in pool.statistics().workers if worker.pid is not None]


async def ready_pids(pool: aioipc.Pool, workers: int) -> list[int]:
    """The pids of all workers, once they are ready."""

    def ready() -> bool:
        return [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * workers

    await eventually_async(ready, 10, pool.statistics)
    return pids(pool)


async def gone(*numbers: int, within: float = 5) -> None:
    """Wait until these processes have ended."""
    await eventually_async(lambda: not any(map(is_running, numbers)), within, lambda: list(map(process, numbers)))


async def written(journal: Journal, lines: int) -> list[str]:
    """Wait until the journal has so many lines; returns them."""
    await eventually_async(lambda: len(journal.lines()) >= lines, 10, journal.lines)
    return journal.lines()


# -- deaths ----------------------------------------------------------------------------------------------------

DEATHS = {
    "SIGKILL": -signal.SIGKILL,
    "SIGSEGV": -signal.SIGSEGV,
    "SIGTRAP": -signal.SIGTRAP,
    "SIGRTMIN": -signal.SIGRTMIN,
    "abort": -signal.SIGABRT,
    "exit": 3,
}


@pytest.mark.parametrize("how", DEATHS)
async def test_task_that_ends_its_process(how: str, journal: Journal) -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        await ready_pids(pool, 2)
        others = [pool.submit(tasks.noted, journal.path, i) for i in range(20)]
        job = pool.submit(tasks.die, how)
        with pytest.raises(aioipc.WorkerCrashed) as caught:
            await job
        error = caught.value
        assert error.exitcode == DEATHS[how]
        assert error.signal == (None if how == "exit" else -DEATHS[how])
        assert not error.oom
        assert error.pid not in pids(pool)
        assert "die" in error.task
        assert type(error) is aioipc.WorkerCrashed
        assert await settled(*others) == list(range(20))
        assert await pool.submit(tasks.die_at_first, how, journal.path, 100, retries=1) == 100
        assert journal.counts() == {**dict.fromkeys(range(20), 1), 100: 2}
        statistics = pool.statistics()
        assert (statistics.crashes, statistics.retried, statistics.failed) == (2, 1, 1)


@pytest.mark.parametrize("function", [tasks.held, tasks.held_async])
async def test_only_what_had_started_fails(function: Callable[..., Any], journal: Journal, gate: Gate) -> None:
    """The rest of what the dead worker had goes back to the queue."""
    at_once = 1 if function is tasks.held else 4
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, concurrency=4) as pool:
        jobs = [pool.submit(function, journal.path, gate.path, i) for i in range(12)]
        await written(journal, at_once)
        os.kill(pids(pool)[0], signal.SIGKILL)
        await eventually_async(lambda: pool.statistics().failed == at_once)
        gate.open()
        outcomes = await settled(*jobs)
    crashed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, aioipc.WorkerCrashed)]
    assert crashed == list(range(at_once))
    assert outcomes[at_once:] == list(range(at_once, 12))
    assert all(outcomes[i].exitcode == -signal.SIGKILL for i in crashed)
    assert journal.counts() == dict.fromkeys(range(12), 1)


async def test_death_in_a_batch(journal: Journal) -> None:
    """Of quick tasks a worker has many ahead. Those it has not come to are run in their turn, by the next one."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        await settled(*(pool.submit(tasks.die_at_number, journal.path, -1, 0) for _ in range(200)))
        count = 2000
        jobs = [pool.submit(tasks.die_at_number, journal.path, i, 700) for i in range(count)]
        outcomes = await settled(*jobs)
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, aioipc.WorkerCrashed)]
    assert failed == list(range(failed[0], 701))  # 700 and what was done just before and not yet sent
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [i for i in range(count) if i not in failed]
    assert list(map(int, journal.lines()))[200:] == list(range(count))


async def test_last_words_are_heard(failpoints: Failpoints, journal: Journal, gate: Gate) -> None:
    """A result that was sent in full before the worker died is a result, also where it takes long to read."""
    point = failpoints.arm("idle", "kill", held=True)
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        job = pool.submit(tasks.held_large, journal.path, gate.path, 2)
        await written(journal, 1)
        point.release()
        gate.open()
        wait_gone(worker)  # meanwhile the loop stands still, and finds both at once: the result and the death
        wait_state(pool.statistics().zygote_pid, "S")
        assert await job == bytes(bytearray((2, 0, 0, 0))) * 150_000
        assert pool.statistics().crashes == 0
    assert point.was_hit
    assert journal.counts() == {2: 1}


async def test_idle_worker_killed() -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        before = await ready_pids(pool, 2)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert await settled(*(pool.submit(abs, -i) for i in range(40))) == list(range(40))
        assert not set(await ready_pids(pool, 2)) & set(before)
        assert pool.statistics().crashes == 0


async def test_out_of_memory(journal: Journal) -> None:
    """A limit that the task runs into: it settles, by MemoryError or with its worker, and the pool goes on."""
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        jobs = [pool.submit(tasks.eat_memory, more << 20) for more in (0, 1, 8, 64)]
        for outcome in await settled(*jobs):
            assert isinstance(outcome, MemoryError | aioipc.WorkerCrashed), repr(outcome)
        jobs = [pool.submit(tasks.noted, journal.path, i, retries=2) for i in range(20)]
        assert await settled(*jobs) == list(range(20))


async def test_poison_among_async_neighbours(journal: Journal, gate: Gate) -> None:
    """One task kills each worker it gets; its neighbours are tried again and none of them pays for it."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, concurrency=8) as pool:
        neighbours = [pool.submit(tasks.held_async, journal.path, gate.path, i, retries=3) for i in range(7)]
        await written(journal, 7)
        poison = pool.submit(tasks.die_async, "SIGSEGV", journal.path, 100, retries=10)
        await written(journal, 8)
        gate.open()
        with pytest.raises(aioipc.TaskQuarantined) as caught:
            await poison
        assert caught.value.exitcode == -signal.SIGSEGV
        assert await settled(*neighbours) == list(range(7))
        assert journal.counts().pop(100) == 1 + 3  # among others, which proves nothing, then alone
        assert all(journal.counts()[i] <= 2 for i in range(7))
        assert pool.statistics().quarantined == 1
        assert await pool.run(tasks.noted, journal.path, 99) == 99


async def test_neighbours_without_retries_of_a_task_that_will_not_end(journal: Journal, gate: Gate) -> None:
    """Its worker is killed; neighbours that had `grace` to end and did not are told why."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, concurrency=4, grace=0.3) as pool:
        neighbour = pool.submit(tasks.held_async, journal.path, gate.path, 1)
        again = pool.submit(tasks.held_async, journal.path, gate.path, 2, retries=1)
        await written(journal, 2)
        stuck = pool.submit(tasks.stubborn_async, journal.path)
        await written(journal, 3)
        stuck.cancel()
        with pytest.raises(aioipc.WorkerCrashed, match=r"was cancelled and did not end within 0\.3 s"):
            await neighbour
        gate.open()
        assert await again == 2
        assert stuck.cancelled()
        assert pool.statistics().quarantined == 0


# -- the zygote ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
async def test_zygote_killed_under_load(workers: int, journal: Journal, gate: Gate) -> None:
    async with asyncio.timeout(20), aioipc.Pool(workers, shutdown=1) as pool:
        before = await ready_pids(pool, workers)
        zygote = pool.statistics().zygote_pid
        running = [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(workers)]
        await written(journal, workers)
        queued = [pool.submit(tasks.noted, journal.path, i) for i in range(100, 200)]
        again = [pool.submit(tasks.held, journal.path, gate.path, i, retries=1) for i in range(200, 210)]
        os.kill(zygote, signal.SIGKILL)
        for outcome in await settled(*running):
            assert isinstance(outcome, aioipc.WorkerCrashed)
            assert outcome.exitcode is None
            assert f"zygote (pid {zygote}) was killed by SIGKILL" in outcome.reason
        gate.open()
        assert await settled(*queued) == list(range(100, 200))
        assert await settled(*again) == list(range(200, 210))
        assert pool.statistics().zygote_pid != zygote
        assert not set(await ready_pids(pool, workers)) & set(before)
    assert journal.counts().keys() == {*range(workers), *range(100, 210)}
    assert set(journal.counts().values()) == {1}


async def test_zygote_killed_again_and_again() -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        jobs = [pool.submit(tasks.sleeping, 0.002, retries=10) for _ in range(300)]
        seen = set()
        for done in range(50, 300, 50):
            await eventually_async(lambda done=done: pool.statistics().done >= done, 10, pool.statistics)
            await ready_pids(pool, 2)
            seen.add(zygote := pool.statistics().zygote_pid)
            os.kill(zygote, signal.SIGKILL)
            await eventually_async(lambda zygote=zygote: pool.statistics().zygote_pid != zygote)
        assert set(await settled(*jobs)) == {0.002}
        assert len(seen) == 5


def test_stopped_zygote() -> None:
    """A zygote that is stopped reports no death and carries out no kill: the pool gets rid of it."""
    source = """
        import asyncio, os, signal, aioipc
        from aioipc.supervisor import zygote
        from tests.pool import fault_functions as tasks
        zygote._REACTION = 1.0

        async def main():
            async with aioipc.Pool(2) as pool:
                os.kill(pool.statistics().zygote_pid, signal.SIGSTOP)
                (error,) = await asyncio.gather(pool.run(tasks.die, "SIGKILL"), return_exceptions=True)
                assert isinstance(error, aioipc.WorkerCrashed), error
                assert [result async for result in pool.map(abs, range(-40, 0))] == list(range(40, 0, -1))
                print("settled", flush=True)
                os.kill(pool.statistics().zygote_pid, signal.SIGSTOP)
            print("closed")
        aioipc.run(main)
    """
    assert run_script(source, timeout=20).check().stdout == "settled\nclosed\n"


# -- sockets ---------------------------------------------------------------------------------------------------

GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(4096),
    "noise": random.Random(1).randbytes(100_000),
    "unknown kind": b"".join(map(bytes, encode_frame(99, b"x"))),
    "no pickle": b"".join(map(bytes, encode_frame(RESULTS, b"x"))),
    "huge": bytes(encode_frame(RESULTS, b"")[0])[:4] + b"\xff" * 12,
    "result of no task": b"".join(map(bytes, encode_results([(3, OK, 1, b"x")]))),
    "results of another shape": b"".join(map(bytes, encode_plain(RESULTS, 5))),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_on_the_data_socket(what: str, journal: Journal, gate: Gate) -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        before = await ready_pids(pool, 2)
        job = pool.submit(tasks.write_to_socket, 0, GARBAGE[what], gate.path)
        with pytest.raises(aioipc.WorkerCrashed, match="garbage") as caught:
            await job
        await gone(*({caught.value.pid} & {*before}))
        jobs = [pool.submit(tasks.noted, journal.path, i) for i in range(40)]
        assert await settled(*jobs) == list(range(40))


@pytest.mark.parametrize("what", ["text", "no pickle", "result of no task"])
async def test_garbage_on_the_control_socket(what: str, journal: Journal, gate: Gate) -> None:
    """Work goes on, or its worker is given up; in either case what is asked of the pool afterwards is done."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, grace=0.3) as pool:
        job = pool.submit(tasks.write_to_socket, 1, GARBAGE[what], gate.path)
        gate.open()
        (outcome,) = await settled(job)
        assert outcome == "survived" or isinstance(outcome, aioipc.WorkerCrashed)
        endless = pool.submit(tasks.stop_here, journal.path)
        await written(journal, 1)
        endless.cancel()
        assert isinstance((await settled(endless))[0], asyncio.CancelledError)
        assert await pool.run(abs, -1) == 1


@pytest.mark.parametrize("how", ["close data", "close control", "close all", "shut data", "shut control"])
async def test_worker_that_loses_its_sockets(how: str, journal: Journal, gate: Gate) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, grace=0.3) as pool:
        job = pool.submit(tasks.lose_sockets, how, gate.path)
        behind = [pool.submit(tasks.noted, journal.path, i) for i in range(10)]
        if how == "close control":
            gate.open()
        (outcome,) = await settled(job)
        assert outcome == "survived" or isinstance(outcome, aioipc.WorkerCrashed)
        if how != "close control":
            assert isinstance(outcome, aioipc.WorkerCrashed)
        assert await settled(*behind) == list(range(10))


# -- processes of tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_session", [False, True])
async def test_subprocess_outlives_its_task_not_the_pool(new_session: bool, journal: Journal) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        pid = await pool.run(tasks.start_sleep, journal.path, new_session)
        assert is_running(pid)
        assert await pool.run(abs, -1) == 1
        assert is_running(pid)
    assert not is_running(pid)


@pytest.mark.parametrize("new_session", [False, True])
async def test_subprocess_of_a_worker_that_is_killed(new_session: bool, journal: Journal, gate: Gate) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        job = pool.submit(tasks.start_sleep_and_wait, journal.path, gate.path, new_session)
        (pid,) = map(int, await written(journal, 1))
        os.kill(pids(pool)[0], signal.SIGKILL)
        assert isinstance((await settled(job))[0], aioipc.WorkerCrashed)
        if not new_session:
            await gone(pid)
        assert await pool.run(abs, -1) == 1
    assert not is_running(pid)


@pytest.mark.parametrize("new_session", [False, True])
async def test_forked_child_that_survives(new_session: bool) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        child = await pool.run(tasks.fork_child, new_session)
        assert await settled(*(pool.submit(abs, -i) for i in range(20))) == list(range(20))
        os.kill(worker, signal.SIGKILL)
        if not new_session:
            await gone(child)
        assert await pool.run(os.getpid) != worker
    assert not is_running(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_forked_child_that_is_killed(number: signal.Signals) -> None:
    """At once, when it may not have run a line of its own yet."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        for _ in range(5):
            assert await pool.run(tasks.fork_child_and_kill_it, number) == -number
        assert await pool.run(os.getpid) == worker


async def test_fork_that_returns_twice(journal: Journal) -> None:
    """The child finds itself in the worker's code; it must not act as the worker."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        assert await pool.run(tasks.fork_and_return_twice, journal.path) == worker
        await gone(int(journal.lines()[0]))
        assert await settled(*(pool.submit(abs, -i) for i in range(20))) == list(range(20))
        assert pids(pool) == [worker]
        assert pool.statistics().done == 21


async def test_fork_in_an_event_loop() -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        (worker,) = await ready_pids(pool, 1)
        outcomes = await settled(*(pool.submit(tasks.fork_in_the_loop) for _ in range(8)))
        assert outcomes == [worker] * 8
        assert await pool.run(tasks.sleeping_async, 0.001) == 0.001


# -- workers that cannot start ---------------------------------------------------------------------------------


async def boot_error(**options: Any) -> aioipc.WorkerBootError:
    """Open a pool that cannot start, within the 10 s that are promised; returns its error."""
    with pytest.raises(aioipc.WorkerBootError) as caught:
        async with asyncio.timeout(10), aioipc.Pool(2, shutdown=1, **options):
            pass
    return caught.value


@pytest.mark.parametrize(
    ("action", "start_method", "workers"),
    [("exit", "zygote", 1), ("raise", "zygote", 4), ("kill", "zygote", 4), ("raise", "spawn", 1), ("exit", "spawn", 4)],
)
async def test_workers_that_die_before_ready(
    action: str, start_method: Any, workers: int, failpoints: Failpoints
) -> None:
    failpoints.arm_always("before-ready", action)
    with pytest.raises(aioipc.WorkerBootError) as caught:
        async with asyncio.timeout(10), aioipc.Pool(workers, shutdown=1, start_method=start_method):
            pass
    assert caught.value.exitcode == {"exit": 7, "raise": 1, "kill": -signal.SIGKILL}[action]
    if action == "raise":
        assert "failpoint before-ready" in caught.value.stderr
        assert "failpoint before-ready" in str(caught.value)


PRELOADS = {
    "raises": ("raise RuntimeError('no such luck')", "no such luck"),
    "is missing": (None, "No module named 'is_missing'"),
    "exits": ("import sys; sys.exit('it says goodbye')", "it says goodbye"),
    "aborts": ("import os, sys; print('last words', file=sys.stderr, flush=True); os.abort()", "last words"),
    "stops short": ("import os, sys; os.write(2, b'last words\\n'); os._exit(0)", "last words"),
}


@pytest.mark.parametrize("how", PRELOADS)
async def test_preload_that_fails(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, expected = PRELOADS[how]
    name = how.replace(" ", "_")
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    error = await boot_error(preload=[name])
    assert expected in error.stderr
    assert expected in str(error)


async def test_workers_stop_starting_later(failpoints: Failpoints, journal: Journal, gate: Gate) -> None:
    """It worked at first: what runs is finished, what waits is told, nothing new is taken."""
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        before = await ready_pids(pool, 2)
        failpoints.arm_always("before-ready", "exit")
        jobs = [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(5)]
        await written(journal, 2)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        outcomes = await settled(*jobs)
        assert {type(outcome) for outcome in outcomes} == {aioipc.WorkerCrashed, aioipc.WorkerBootError}
        assert [type(outcome) for outcome in outcomes].count(aioipc.WorkerCrashed) == 2
        with pytest.raises(aioipc.PoolClosed):
            pool.submit(abs, 1)


# -- hangs -----------------------------------------------------------------------------------------------------


async def test_hangs(tmp_path: Path) -> None:
    """Each kind of hang is seen and named; a sync task that merely takes long is none. All at once, to save time."""
    stopped, gil, loop, slow = (Journal(tmp_path / name) for name in ("stopped", "gil", "loop", "slow"))
    gate = Gate(tmp_path / "gate")
    async with asyncio.timeout(40), aioipc.Pool(5, shutdown=1, heartbeat_timeout=4) as pool:
        await ready_pids(pool, 5)
        long = pool.submit(tasks.held, slow.path, gate.path, 1)
        hung = {
            "it was stopped (SIGSTOP)": pool.submit(tasks.stop_here, stopped.path),
            "a task held the GIL": pool.submit(tasks.hold_the_gil, gil.path),
            "a task blocked the loop": pool.submit(tasks.block_the_loop, loop.path),
        }
        started = asyncio.get_running_loop().time()
        outcomes = dict(zip(hung, await settled(*hung.values()), strict=True))
        assert asyncio.get_running_loop().time() - started < 4 * 2.5
        for cause, outcome in outcomes.items():
            assert isinstance(outcome, aioipc.WorkerCrashed), repr(outcome)
            assert cause in outcome.reason
            assert "4 s" in outcome.reason
            assert outcome.signal == signal.SIGKILL
        assert asyncio.get_running_loop().time() - started > 4
        gate.open()
        assert await long == 1
        assert slow.counts() == {1: 1}
        assert pool.statistics().crashes == 3


def test_master_that_was_stopped(tmp_path: Path) -> None:
    """Ctrl-Z and fg, or a frozen container: for longer than heartbeat_timeout. Nobody is killed over it."""
    source = """
        import asyncio, sys, aioipc
        from tests.pool import fault_functions as tasks

        async def main():
            async with aioipc.Pool(2, heartbeat_timeout=4) as pool:
                jobs = [pool.submit(tasks.held, *sys.argv[1:], 1)]
                jobs += [pool.submit(tasks.held_async, *sys.argv[1:], i) for i in (2, 3)]
                assert await asyncio.gather(*jobs) == [1, 2, 3]
                print(pool.statistics().restarts)
        aioipc.run(main)
    """
    gate, journals = Gate(tmp_path / "gate"), [Journal(tmp_path / name) for name in ("alone", "together")]
    with ExitStack() as stack:
        alone, together = (stack.enter_context(running_script(source, j.path, gate.path)) for j in journals)
        eventually(lambda: all(len(journal.lines()) == 3 for journal in journals), 10)
        masters, others = [alone.pid, together.pid], [each.pid for each in descendants(together.pid)]
        signal_all(others, signal.SIGSTOP)
        time.sleep(1.2)  # long enough for their master to see that they do not beat; these pauses are the fault itself
        signal_all(masters, signal.SIGSTOP)
        time.sleep(4.5)
        signal_all(masters, signal.SIGCONT)
        time.sleep(0.2)  # the masters are up first, and look at hearts that have not beaten for long
        signal_all(others, signal.SIGCONT)
        time.sleep(1.5)  # time to judge it wrongly
        gate.open()
        for script in (alone, together):
            assert script.wait().check().stdout == "0\n"


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


# -- signals to workers ----------------------------------------------------------------------------------------


async def test_sigterm_to_idle_workers() -> None:
    async with asyncio.timeout(20), aioipc.Pool(2, shutdown=1) as pool:
        for _ in range(3):
            before = await ready_pids(pool, 2)
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            jobs = [pool.submit(abs, -i) for i in range(40)]
            assert await settled(*jobs) == list(range(40))
            await gone(*before)
            assert not set(await ready_pids(pool, 2)) & set(before)
        assert pool.statistics().crashes == 0


@pytest.mark.parametrize("function", [tasks.held, tasks.held_async])
async def test_sigterm_to_a_busy_worker(function: Callable[..., Any], journal: Journal, gate: Gate) -> None:
    """What runs is finished there, what waits runs elsewhere, nothing is run twice."""
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, concurrency=2) as pool:
        before = await ready_pids(pool, 1)
        at_once = 1 if function is tasks.held else 2
        jobs = [pool.submit(function, journal.path, gate.path, i) for i in range(10)]
        await written(journal, at_once)
        for _ in range(3):
            os.kill(before[0], signal.SIGTERM)
        await eventually_async(lambda: pool.statistics().workers[0].state == "DRAINING")
        gate.open()
        assert await settled(*jobs) == list(range(10))
        assert await ready_pids(pool, 1) != before
        statistics = pool.statistics()
    assert journal.counts() == dict.fromkeys(range(10), 1)
    assert (statistics.crashes, statistics.retried, statistics.restarts) == (0, 0, 1)


async def test_sigterm_in_a_storm_of_tasks(journal: Journal) -> None:
    """At whatever moment it comes: nothing is lost, nothing runs twice."""
    chance = random.Random(7)
    async with asyncio.timeout(30), aioipc.Pool(2, shutdown=1) as pool:
        count = 3000
        jobs = [pool.submit((tasks.noted, tasks.noted_async)[i % 2], journal.path, i) for i in range(count)]
        for step in range(1, 20):
            await eventually_async(lambda step=step: pool.statistics().done >= step * count // 20, 10)
            if found := pids(pool):
                try_kill(chance.choice(found), pool.statistics().zygote_pid, signal.SIGTERM)
        assert await settled(*jobs) == list(range(count))
        assert pool.statistics().crashes == 0
    assert journal.counts() == dict.fromkeys(range(count), 1)


def try_kill(pid: int, parent: int, number: int) -> bool:
    """Signal a worker, if it still is one; its parent alone reaps it, but may do so at any time."""
    found = process(pid)
    if found is None or found.ppid != parent:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_signals_that_are_ignored(number: signal.Signals, journal: Journal, gate: Gate) -> None:
    """Of Ctrl-C in a terminal workers hear nothing; sent to them, it still means nothing."""
    async with asyncio.timeout(20), aioipc.Pool(3, shutdown=1, concurrency=2) as pool:
        before = await ready_pids(pool, 3)
        jobs: list[aioipc.Job[Any]] = [pool.submit(tasks.held, journal.path, gate.path, 0)]
        jobs += [pool.submit(tasks.held_async, journal.path, gate.path, i) for i in (1, 2)]
        await written(journal, 3)
        for _ in range(10):
            for pid in (*before, pool.statistics().zygote_pid):
                os.kill(pid, number)
        gate.open()
        assert await settled(*jobs) == [0, 1, 2]
        assert await settled(*(pool.submit(abs, -i) for i in range(20))) == list(range(20))
        assert pids(pool) == before


async def test_signals_the_zygote_ignores() -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        zygote = pool.statistics().zygote_pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(zygote, number)
        (before,) = await ready_pids(pool, 1)
        os.kill(before, signal.SIGKILL)
        assert await pool.run(os.getpid) != before
        assert pool.statistics().zygote_pid == zygote


async def test_drained_worker_with_a_child_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is taken by another although it waits, at its exit, for a process that a task has left behind."""
    monkeypatch.setattr(worker_handle, "EXIT_TIME", 0.5)
    async with asyncio.timeout(10), aioipc.Pool(1, shutdown=1) as pool:
        (before,) = await ready_pids(pool, 1)
        child = await pool.run(leave_a_process)
        os.kill(before, signal.SIGTERM)
        assert await pool.run(os.getpid) != before
        await gone(child)


def leave_a_process() -> int:
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    assert child.pid is not None
    return child.pid


# -- cancelling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0.2])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_finally_runs_when_a_task_is_ended(
    kind: str, timeout: float | None, journal: Journal, gate: Gate
) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        before = await ready_pids(pool, 1)
        await pool.run(tasks.sleeping, 0)  # the import of the module would count too
        if kind == "sync":
            job: aioipc.Job[Any] = pool.submit(tasks.tidy, journal.path, gate.path, timeout=timeout)
        else:
            job = pool.submit(tasks.tidy_async, journal.path, timeout=timeout)
        await written(journal, 1)
        if timeout is None:
            assert job.cancel()
            assert job.state == "cancelling"
        (outcome,) = await settled(job)
        assert isinstance(outcome, asyncio.CancelledError if timeout is None else aioipc.TaskTimeout)
        assert journal.lines() == ["started", "finally"]
        assert await pool.run(abs, -1) == 1
        assert pids(pool) == before
        assert pool.statistics().crashes == 0


@pytest.mark.parametrize("timeout", [None, 0.2])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_stubborn_task_is_killed_after_grace(
    kind: str, timeout: float | None, journal: Journal, gate: Gate
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, grace=0.5) as pool:
        before = await ready_pids(pool, 1)
        await pool.run(tasks.sleeping, 0)  # the import of the module would count too
        if kind == "sync":
            job: aioipc.Job[Any] = pool.submit(tasks.stubborn, journal.path, gate.path, timeout=timeout)
        else:
            job = pool.submit(tasks.stubborn_async, journal.path, timeout=timeout)
        behind = pool.submit(tasks.noted, journal.path, 5)
        await written(journal, 1)
        started = loop.time()
        if timeout is None:
            job.cancel()
        (outcome,) = await settled(job)
        assert isinstance(outcome, asyncio.CancelledError if timeout is None else aioipc.TaskTimeout)
        assert 0.45 < loop.time() - started < 5
        assert journal.lines()[:2] == ["started", "ignored"]
        assert await behind == 5
        await gone(*before)
        assert pool.statistics().quarantined == 0


async def test_cancel_what_is_queued_and_what_waits_in_a_worker(journal: Journal, gate: Gate) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
        assert await settled(*(pool.submit(tasks.noted, journal.path, -1) for _ in range(20))) == [-1] * 20
        running = pool.submit(tasks.held, journal.path, gate.path, 0)
        jobs = [pool.submit(tasks.noted, journal.path, i) for i in range(1, 400)]
        await written(journal, 21)
        for job in jobs[::2]:
            assert job.cancel()
        assert all(isinstance(each, asyncio.CancelledError) for each in await settled(*jobs[::2]))
        assert not running.done()
        gate.open()
        assert await running == 0
        assert await settled(*jobs[1::2]) == list(range(2, 400, 2))
        counts = journal.counts()
    assert all(counts[i] == (i % 2 == 0) for i in range(1, 400))


async def test_cancel_a_task_of_a_stopped_worker(journal: Journal) -> None:
    async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1, grace=0.3) as pool:
        job = pool.submit(tasks.stop_here, journal.path)
        await written(journal, 1)
        job.cancel()
        assert isinstance((await settled(job))[0], asyncio.CancelledError)
        assert await pool.run(abs, -1) == 1


@pytest.mark.parametrize("function", [tasks.sleeping, tasks.sleeping_async])
async def test_cancel_at_the_very_start(function: Callable[[float], Any]) -> None:
    """As the task arrives in its worker, before its first step or just after it."""
    async with asyncio.timeout(20), aioipc.Pool(1, concurrency=4, shutdown=1) as pool:
        before = await ready_pids(pool, 1)
        chance = random.Random(5)
        for _ in range(300):
            jobs = [pool.submit(function, 0.001 * chance.randrange(2)) for _ in range(4)]
            for _ in range(chance.randrange(1, 4)):
                await asyncio.sleep(0)
            for job in jobs:
                job.cancel()
            for outcome in await settled(*jobs):
                assert isinstance(outcome, asyncio.CancelledError | float | int)
        assert await pool.run(tasks.sleeping_async, 0.001) == 0.001
        assert pids(pool) == before


HALF_IMPORTED = {
    "__init__.py": """
        import os
        from .part import *
        if os.getpid() != int(os.environ["MASTER"]):
            with open(os.environ["JOURNAL"], "a") as file:
                print("importing", file=file)
            with open(os.environ["GATE"]) as file:
                file.read()
        __all__ = part.__all__  # bound by the import of the submodule, unless that has happened before
        def answer():
            return 42
    """,
    "part.py": "__all__ = []",
}


def import_inside() -> int:
    from half_imported import answer  # type: ignore[import-not-found]

    result: int = answer()
    return result


@pytest.mark.parametrize("where", ["function of the module", "import in the function"])
async def test_cancel_during_an_import(
    where: str, journal: Journal, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that is broken off leaves a package that cannot be imported again; tasks to come must not see it."""
    package = tmp_path / "half_imported"
    package.mkdir()
    for name, source in HALF_IMPORTED.items():
        (package / name).write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, value in {"MASTER": os.getpid(), "JOURNAL": journal.path, "GATE": gate.path}.items():
        monkeypatch.setenv(name, str(value))
    function = importlib.import_module("half_imported").answer if where.startswith("function") else import_inside
    try:
        async with asyncio.timeout(20), aioipc.Pool(1, shutdown=1) as pool:
            job = pool.submit(function)
            await written(journal, 1)
            job.cancel()
            await asyncio.sleep(0.1)  # it strikes now, if it strikes at all
            gate.open()
            assert isinstance((await settled(job))[0], asyncio.CancelledError)
            assert await settled(*(pool.submit(function) for _ in range(3))) == [42] * 3
            assert pool.statistics().crashes == 0
    finally:
        for name in ("half_imported", "half_imported.part"):
            sys.modules.pop(name, None)


async def test_storm_of_cancellations() -> None:
    """Thousands of tasks of all kinds, cancelled at random moments of their lives; the books balance."""
    storm = Storm(random.Random(11), 4000)
    async with asyncio.timeout(50), aioipc.Pool(2, shutdown=1, concurrency=8, grace=10) as pool:
        await storm.blow(pool)
        statistics = pool.statistics()
    assert set(storm.ends.values()) == {1}
    assert len(storm.ends) == statistics.submitted == storm.count
    kinds = Counter(storm.kinds.values())
    assert (statistics.done, statistics.failed, statistics.cancelled) == (
        kinds["done"],
        kinds["failed"],
        kinds["cancelled"],
    )
    assert statistics.done + statistics.failed + statistics.cancelled == statistics.submitted
    assert statistics.queued == statistics.in_flight == 0
    assert kinds["cancelled"] > storm.count // 10
    assert kinds["done"] > storm.count // 10
    assert (statistics.crashes, statistics.restarts) == (0, 0)  # none of it needed force


class Storm:
    """Submits tasks in bursts and cancels them at once, a turn later, after a moment, or when another ends."""

    def __init__(self, chance: random.Random, count: int) -> None:
        self.count = count
        self.ends: Counter[int] = Counter()
        self.kinds: dict[int, str] = {}
        self._chance = chance
        self._jobs: list[aioipc.Job[Any]] = []

    async def blow(self, pool: aioipc.Pool) -> None:
        """Returns when every job is done."""
        while len(self._jobs) < self.count:
            for _ in range(min(self._chance.randrange(1, 120), self.count - len(self._jobs))):
                self._submit(pool)
            await asyncio.sleep(self._chance.choice((0, 0, 0.001, 0.005)))
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _submit(self, pool: aioipc.Pool) -> None:
        number, chance = len(self._jobs), self._chance
        kind = chance.randrange(6)
        if kind < 2:
            job: aioipc.Job[Any] = pool.submit(abs, -number)
        elif kind == 2:
            job = pool.submit(tasks.failing, number)
        elif kind == 3:
            job = pool.submit(tasks.sleeping, chance.random() * 0.002)
        else:
            job = pool.submit(tasks.sleeping_async, chance.random() * 0.004)
        job.add_done_callback(lambda job: self._ended(number, job))
        self._jobs.append(job)
        self._maybe_cancel(job)

    def _maybe_cancel(self, job: aioipc.Job[Any]) -> None:
        loop, chance = asyncio.get_running_loop(), self._chance
        when = chance.randrange(8)
        if when == 0:
            job.cancel()
        elif when == 1:
            loop.call_soon(job.cancel)
        elif when <= 3:
            loop.call_later(chance.random() * 0.02, job.cancel)
        elif when == 4:
            chance.choice(self._jobs).add_done_callback(lambda _: job.cancel())

    def _ended(self, number: int, job: aioipc.Job[Any]) -> None:
        self.ends[number] += 1
        if job.cancelled():
            self.kinds[number] = "cancelled"
        elif isinstance(job.exception(), LookupError):
            self.kinds[number] = "failed"
        else:
            assert job.exception() is None
            self.kinds[number] = "done"


# -- masters with odd signal masks -----------------------------------------------------------------------------


def test_master_that_blocks_every_signal() -> None:
    """The mask is inherited by exec; a zygote that kept it would never hear that a worker has ended."""
    source = """
        import os, signal, aioipc
        from tests.pool import fault_functions as tasks

        async def main():
            async with aioipc.Pool(1) as pool:
                pid = await pool.run(os.getpid)
                os.kill(pid, signal.SIGKILL)
                assert await pool.run(os.getpid) != pid
                print("done", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        aioipc.run(main)
    """
    assert run_script(source, timeout=5).check().stdout == "done\n"


def test_master_that_ignores_signals() -> None:
    """As a program under nohup, or in the background of a shell without job control."""
    source = """
        import os, signal, aioipc
        from tests.pool import fault_functions as tasks

        async def main():
            async with aioipc.Pool(1) as pool:
                pid = await pool.run(os.getpid)
                os.kill(pid, signal.SIGTERM)
                assert await pool.run(os.getpid) != pid
                print("done", flush=True)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        aioipc.run(main)
    """
    assert run_script(source, timeout=10).check().stdout == "done\n"
