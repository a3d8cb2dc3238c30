"""Pools as children of a `Supervisor`: they come, serve, are replaced and go as any child, and lose no job."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

import aioipc
from aioipc import ChildSpec, PoolSpec, Supervisor, SupervisorSpec
from aioipc.cli.master_text import status_lines
from aioipc.master.control_commands import status
from aioipc.master.state_dump import dump_lines
from aioipc.supervisor.zygote import kill_every_child

from ..harness.processes import descendants, eventually_async, is_running
from .pool_functions import fail_as_often, wait_for, write
from .supervising import Journal, failure_of, kill, pids, replica, until

KILL = signal.SIGKILL


def workers(supervisor: Supervisor, name: str = "jobs") -> set[int]:
    """The pids of the workers of the pool that serves, as far as they are ready."""
    found = replica(supervisor, name).pool
    running = () if found is None else [each for each in found.workers if each.state == "RUNNING"]
    return {each.pid for each in running if each.pid is not None}


async def test_life(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    inner = SupervisorSpec([ChildSpec("jobs", PoolSpec(1))])
    spec = SupervisorSpec(
        [
            journal.standing("first"),
            ChildSpec("jobs", PoolSpec(2, initializer=write, initargs=(str(tmp_path / "journal"), "+worker"))),
            journal.standing("last"),
            ChildSpec("backend", inner),
        ]
    )
    async with Supervisor(spec) as supervisor:
        assert journal.lines[0] == "+first.0"
        assert journal.lines.index("+worker") < journal.lines.index("+last.0")
        pool = supervisor.pool("jobs")
        await until(supervisor, lambda: len(workers(supervisor)) == 2)
        assert await pool.run(os.getpid) in workers(supervisor)
        assert await supervisor.pool("backend/jobs").run(os.getpid) in workers(supervisor, "backend/jobs")
        child = next(child for child in supervisor.children() if child.name == "jobs")
        assert (child.kind, child.state, child.replicas, child.ready) == ("pool", "up", 1, 1)
        now = child.processes[0]
        assert now.pool is not None
        assert (now.state, now.pid, now.work) == ("RUNNING", pool.statistics().zygote_pid, 1)
        assert now.status == "2 workers; tasks: 0 queued, 0 in flight, 1 done"
        assert now.memory > 0
        table = "\n".join(status_lines(status(supervisor, "x"), None))
        dump = "\n".join(dump_lines(supervisor.statistics()))
        assert now.status in table
        assert [line.split()[:2] for line in table.splitlines()[2:]] == [
            *(["first.0", "RUNNING"], ["jobs", "RUNNING"], ["jobs.0", "RUNNING"], ["jobs.1", "RUNNING"]),
            *(["last.0", "RUNNING"], ["backend/jobs", "RUNNING"], ["backend/jobs.0", "RUNNING"]),
        ]
        for pid in workers(supervisor):
            assert f"RUNNING, pid {pid}" in dump
        assert "the pool backend/jobs RUNNING" in dump
        before = workers(supervisor)
        assert supervisor.signal_child("jobs", KILL) == 2  # it replaces them by itself
        await until(supervisor, lambda: len(workers(supervisor) - before) == 2)
        assert (replica(supervisor, "jobs").restarts, supervisor.pool("jobs")) == (0, pool)
        with pytest.raises(ValueError, match="its PoolSpec says how many workers"):
            await supervisor.scale("jobs", 2)
        with pytest.raises(TypeError, match="is a function, no pool"):
            supervisor.pool("first")
        with pytest.raises(LookupError, match="no child 'nobody'"):
            supervisor.pool("nobody")
        with pytest.raises(LookupError, match="no child 'nobody'"):
            await supervisor.wait_ready("nobody")
        journal.clear()
    assert journal.lines == ["-last.0", "-first.0"]
    assert not descendants(os.getpid())
    with pytest.raises(aioipc.PoolClosed, match="takes no tasks"):
        supervisor.pool("jobs")
    with pytest.raises(aioipc.ClosedResourceError, match=r"takes no more tasks; await supervisor.wait_ready\('jobs'\)"):
        pool.submit(os.getpid)


async def test_commands() -> None:
    async with Supervisor() as supervisor:
        await supervisor.start_child(ChildSpec("jobs", PoolSpec(1), restart="transient"))
        old = supervisor.pool("jobs")
        await supervisor.restart_child("jobs")
        new = supervisor.pool("jobs")
        assert new is not old
        await supervisor.terminate_child("jobs")
        with pytest.raises(aioipc.PoolClosed, match="is EXITED and takes no tasks"):
            supervisor.pool("jobs")
        waiting = asyncio.ensure_future(supervisor.wait_ready("jobs"))
        await supervisor.restart_child("jobs")
        await waiting
        assert await supervisor.pool("jobs").run(len, "abc") == 3
        waiting = asyncio.ensure_future(supervisor.pool("jobs").run(len, "abcd"))
        await asyncio.sleep(0)
        await supervisor.delete_child("jobs")
        assert await waiting == 4
        with pytest.raises(LookupError):
            supervisor.pool("jobs")
        assert not descendants(os.getpid())


async def test_one_that_cannot_start(tmp_path: Path) -> None:
    count = tmp_path / "count"
    failing = ChildSpec("jobs", PoolSpec(1, initializer=fail_as_often, initargs=(str(count),)))
    count.write_text("1000")
    with pytest.raises(aioipc.SupervisorFailed, match="jobs cannot start: 3 in a row") as caught:
        async with Supervisor(SupervisorSpec([failing])):
            pytest.fail("it was entered")
    assert caught.value.stderr.endswith("RuntimeError: this is why")
    assert str(caught.value).count("RuntimeError: this is why") == 1
    async with Supervisor() as supervisor:
        with pytest.raises(aioipc.WorkerBootError, match="jobs cannot start") as refused:
            await supervisor.start_child(failing)
        assert "this is why" in refused.value.stderr
        assert not supervisor.children()
        count.unlink()
        await supervisor.start_child(failing)
        old = supervisor.pool("jobs")
        count.write_text("1000")
        with pytest.raises(aioipc.ReloadFailed, match="this is why"):
            await supervisor.reload()
        assert supervisor.pool("jobs") is old
        assert await old.run(len, "abc") == 3
        await supervisor.delete_child("jobs")
        slow = PoolSpec(1, initializer=wait_for, initargs=(str(tmp_path / "never"),))
        with pytest.raises(aioipc.WorkerBootError, match=r"it was not ready after 0\.2 s"):
            await supervisor.start_child(ChildSpec("slow", slow, boot_timeout=0.2))
        with pytest.raises(aioipc.SerializationError, match=r"the finalizer .* cannot be sent"):
            await supervisor.start_child(ChildSpec("bad", PoolSpec(finalizer=asyncio.get_running_loop().call_soon)))
        assert not descendants(os.getpid())


async def test_one_that_breaks_is_started_again(tmp_path: Path) -> None:
    """A dead worker is the pool's own affair; that it can start none any more is the supervisor's."""
    count = tmp_path / "count"
    spec = PoolSpec(1, initializer=fail_as_often, initargs=(str(count),))
    async with Supervisor(SupervisorSpec([ChildSpec("jobs", spec), ChildSpec("other", PoolSpec(1))])) as supervisor:
        old, other = supervisor.pool("jobs"), supervisor.pool("other")
        crashed = old.submit(os.kill, 0, KILL)
        with pytest.raises(aioipc.WorkerCrashed):
            await crashed
        assert await old.run(len, "a") == 1
        count.write_text("3")
        with pytest.raises(aioipc.WorkerCrashed):
            await old.run(os.kill, 0, KILL)
        with pytest.raises(aioipc.WorkerBootError, match="this is why"):
            await old.run(len, "queued")
        await supervisor.wait_ready("jobs")
        new = supervisor.pool("jobs")
        assert new is not old
        assert await new.run(len, "abc") == 3
        now = replica(supervisor, "jobs")
        assert now.restarts == 1
        assert "it was given up: workers cannot start: 3 in a row" in now.last_exit
        assert supervisor.pool("other") is other
    async with Supervisor(SupervisorSpec([ChildSpec("jobs", spec)], intensity=0)) as supervisor:
        count.write_text("3")
        supervisor.signal_child("jobs", KILL)
        error = await failure_of(supervisor)
        assert (error.kind, error.child) == ("intensity", "jobs")


async def test_it_goes_with_its_companions(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    inner = SupervisorSpec([journal.standing("a"), ChildSpec("jobs", PoolSpec(1))], strategy="rest_for_one")
    async with Supervisor(SupervisorSpec([ChildSpec("backend", inner)])) as supervisor:
        old = supervisor.pool("backend/jobs")
        kill(supervisor, "backend/a")
        await until(supervisor, lambda: replica(supervisor, "backend/jobs").state != "RUNNING")
        await supervisor.wait_ready("backend/jobs")
        assert supervisor.pool("backend/jobs") is not old


async def test_one_that_somebody_else_closes() -> None:
    async with Supervisor(SupervisorSpec([ChildSpec("jobs", PoolSpec(1))])) as supervisor:
        old = supervisor.pool("jobs")
        await old.aclose()
        await supervisor.wait_ready("jobs")
        assert await supervisor.pool("jobs").run(len, "abc") == 3
        assert replica(supervisor, "jobs").last_exit == "it was closed"


async def test_reload_under_load(tmp_path: Path) -> None:
    """What is submitted while pools are replaced is done once, each."""
    done = tmp_path / "done"
    spec = SupervisorSpec([ChildSpec("backend", SupervisorSpec([ChildSpec("jobs", PoolSpec(2))]))])
    results: list[int] = []

    async def submit(kind: int) -> None:
        number = 0
        while not over:
            number += 1
            while True:
                try:
                    results.append(await supervisor.pool("backend/jobs").run(write, str(done), f"{kind}-{number}"))
                    break
                except aioipc.ClosedResourceError:
                    await supervisor.wait_ready("backend/jobs")

    async with Supervisor(spec) as supervisor:
        over = False
        tasks = [asyncio.ensure_future(submit(kind)) for kind in range(4)]
        for _ in range(3):
            before = len(results)
            await supervisor.reload()
            await eventually_async(lambda before=before: len(results) > before + 20)
        await supervisor.restart_child("backend/jobs")
        over = True
        await asyncio.gather(*tasks)
        assert supervisor.statistics().restarts == 4
    lines = Counter(done.read_text().split())
    assert set(lines.values()) == {1}
    assert len(lines) == len(results)
    assert len(set(results)) >= 4


async def test_the_end_finishes_what_was_accepted(tmp_path: Path) -> None:
    gate, done = tmp_path / "gate", tmp_path / "done"
    async with Supervisor(SupervisorSpec([ChildSpec("jobs", PoolSpec(1))])) as supervisor:
        jobs = [supervisor.pool("jobs").submit(wait_for, str(gate))]
        jobs += [supervisor.pool("jobs").submit(write, str(done), str(n)) for n in range(20)]
        ending = asyncio.ensure_future(supervisor.shutdown())
        await until(supervisor, lambda: replica(supervisor, "jobs").state == "DRAINING")
        assert not jobs[0].done()
        gate.touch()
        await ending
        assert all(job.done() and not job.cancelled() for job in jobs)
    assert done.read_text().split() == [str(n) for n in range(20)]
    assert supervisor.statistics().overdue == 0


@pytest.mark.parametrize("way", ["deadline", "brutal_kill", "quick", "second signal"])
async def test_what_takes_too_long_is_killed(tmp_path: Path, way: str) -> None:
    never = str(tmp_path / "never")
    pool = PoolSpec(1, shutdown=0.3 if way == "deadline" else 60)
    spec = ChildSpec("jobs", pool, shutdown="brutal_kill" if way == "brutal_kill" else None)
    async with Supervisor(SupervisorSpec([spec])) as supervisor:
        running = supervisor.pool("jobs").submit(wait_for, never)
        queued = [supervisor.pool("jobs").submit(wait_for, never) for _ in range(40)]
        await eventually_async(lambda: os.path.exists(f"{never}-begun"))
        (pid,) = workers(supervisor)
        if way == "second signal":
            kill_every_child()
        await supervisor.shutdown(quick=way == "quick")
        assert not is_running(pid)
        if way == "second signal":
            assert all(job.cancelled() for job in [running, *queued])
        else:
            assert isinstance(running.exception(), aioipc.WorkerCrashed), running
            assert {type(job.exception()) for job in queued} == {aioipc.PoolClosed}
        assert supervisor.statistics().overdue == (way == "deadline")
        if way == "deadline":
            assert "wait_for" in running.exception().stacks  # type: ignore[union-attr]


async def test_a_replaced_pool_keeps_to_its_deadline(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    async with Supervisor(SupervisorSpec([ChildSpec("jobs", PoolSpec(1), shutdown=0.3)])) as supervisor:
        old = supervisor.pool("jobs")
        stuck = old.submit(wait_for, gate)
        await supervisor.reload()
        assert supervisor.pool("jobs") is not old
        assert await supervisor.pool("jobs").run(len, "new") == 3
        with pytest.raises(aioipc.WorkerCrashed, match="it did not stop in time"):
            await stuck
        await until(supervisor, lambda: len(supervisor.children()[0].processes) == 1)
        assert pids(supervisor)["jobs.0"] == supervisor.pool("jobs").statistics().zygote_pid
