"""``initializer``, ``finalizer`` and `current_worker`: what a worker sets up once, tasks find and use."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aioipc

from ..harness.processes import descendants, eventually_async
from . import fault_functions as tasks
from . import sample_functions as f
from . import state_functions as s
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, s.__name__, "uvloop"]


def counted(journal: Journal, word: str) -> int:
    return sum(line.startswith(word) for line in journal.lines())


async def all_running(pool: aioipc.Pool, count: int) -> None:
    await eventually_async(
        lambda: [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * count, 20, pool.statistics
    )


# -- state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(s.set_up, s.tear_down), (s.set_up_async, s.tear_down_async)])
@pytest.mark.parametrize("start_method", ["zygote", "spawn"])
async def test_what_the_initializer_returns(up: Any, down: Any, start_method: Any, journal: Journal) -> None:
    arguments = (journal.path, 1, (i for i in range(3)).__class__.__name__)
    options = {"initializer": up, "initargs": arguments, "finalizer": down, "start_method": start_method}
    async with f.open_pool(2, **options, preload=PRELOAD) as pool:
        await all_running(pool, 2)
        assert counted(journal, "up") == 2
        known = {worker.slot: worker.pid for worker in pool.statistics().workers}
        for function in (s.see_state, s.see_state_async):
            for state, slot, pid in await asyncio.gather(*(pool.submit(function) for _ in range(8))):
                assert (state["pid"], state["more"]) == (pid, (1, "generator"))
                assert known[slot] == pid
        if up is s.set_up_async:
            assert await pool.run(s.is_loop_of_state)
        assert counted(journal, "down") == 0
    ups = {line.split()[1] for line in journal.lines() if line.startswith("up")}
    downs = {line.split()[1] for line in journal.lines() if line.startswith("down")}
    assert ups == downs == {str(pid) for pid in known.values()}


async def test_a_task_may_change_the_state(journal: Journal) -> None:
    async with f.open_pool(1, finalizer=lambda state: tasks.note(journal.path, f"state {state}")) as pool:
        assert await pool.run(s.see_state) == (None, 0, pool.statistics().workers[0].pid)
        assert [await pool.run(s.count_up) for _ in range(3)] == [1, 2, 3]
    assert journal.lines() == ["state 3"]


async def test_functions_by_value_and_everywhere(journal: Journal) -> None:
    """A closure as initializer, its state in threads, in streams and in maps."""
    given = {"journal": journal.path}
    async with f.open_pool(1, initializer=lambda: dict(given), threads=True, preload=PRELOAD) as pool:
        given["journal"] = "changed"
        assert (await pool.run(s.see_state))[0] == {"journal": journal.path, "loop": None}
        assert [x async for x in pool.map(lambda _: s.see_state()[1], range(3))] == [0, 0, 0]
        assert [x async for x in pool.stream(lambda: iter([s.see_state()[1]]))] == [0]


def test_outside_of_a_worker() -> None:
    with pytest.raises(RuntimeError, match="no worker of a Pool"):
        aioipc.current_worker()


# -- initializers that fail ------------------------------------------------------------------------------


async def test_an_initializer_that_raises(journal: Journal) -> None:
    with pytest.raises(aioipc.WorkerBootError, match="LookupError: no such table") as caught:
        async with aioipc.Pool(1, initializer=s.cannot_set_up, initargs=(journal.path,), preload=PRELOAD):
            raise AssertionError("opened")
    assert "in cannot_set_up" in caught.value.stderr
    assert 'raise LookupError("no such table")' in caught.value.stderr
    assert len(journal.lines()) == 3
    assert not descendants(os.getpid())


async def test_an_initializer_that_exits() -> None:
    with pytest.raises(aioipc.WorkerBootError) as caught:
        async with aioipc.Pool(2, initializer=s.exits, preload=PRELOAD):
            raise AssertionError("opened")
    assert caught.value.exitcode == 5


async def test_an_initializer_that_takes_too_long(journal: Journal, gate: Gate) -> None:
    begin = time.monotonic()
    with pytest.raises(aioipc.WorkerBootError, match=r"not ready after 0\.4 s"):
        async with aioipc.Pool(
            1, initializer=s.waits_at, initargs=(journal.path, gate.path), boot_timeout=0.4, preload=PRELOAD
        ):
            raise AssertionError("opened")
    assert time.monotonic() - begin >= 3 * 0.4  # three tries
    assert len(journal.lines()) <= 3


async def test_an_initializer_that_fails_later(journal: Journal) -> None:
    """After a crash no worker can be started any more: what waits is told so."""
    broken = Path(f"{journal.path}-broken")

    def set_up() -> None:
        if broken.exists():
            raise LookupError("broken meanwhile")

    with pytest.raises(aioipc.PoolClosed):  # noqa: PT012 - leaving is quiet, submit is what raises
        async with f.open_pool(1, initializer=set_up, preload=PRELOAD) as pool:
            tasks.note(str(broken), 1)
            dying = pool.submit(tasks.die, "SIGKILL")
            waiting = pool.submit(f.square, 3)
            with pytest.raises(aioipc.WorkerCrashed):
                await dying
            async with asyncio.timeout(20):
                with pytest.raises(aioipc.WorkerBootError, match="broken meanwhile"):
                    await waiting
            pool.submit(f.square, 3)


@pytest.mark.parametrize("name", ["initializer", "finalizer", "initargs"])
async def test_what_cannot_be_sent(name: str) -> None:
    """It is said before anything is started."""
    lock = threading.Lock()
    options: dict[str, Any] = {name: lambda *_: lock}
    if name == "initargs":
        options = {"initializer": s.set_up, "initargs": (lock,)}
    pool = aioipc.Pool(1, **options)
    with pytest.raises(aioipc.SerializationError, match=r"the (initializer|finalizer) .* cannot be sent to workers"):
        await pool.__aenter__()
    assert not descendants(os.getpid())
    with pytest.raises(aioipc.PoolClosed):
        pool.submit(f.square, 3)
    await pool.aclose()


# -- finalizers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [s.tear_down, s.tear_down_async])
async def test_when_the_finalizer_runs(down: Callable[..., Any], journal: Journal) -> None:
    """At each end in good order; not where the worker is killed."""
    options = {"initializer": s.set_up, "initargs": (journal.path,), "finalizer": down, "preload": PRELOAD}
    async with f.open_pool(2, **options) as pool:
        await all_running(pool, 2)
        pool.resize(1)
        await eventually_async(lambda: counted(journal, "down") == 1, 20, journal.lines)
        await all_running(pool, 1)
        with pytest.raises(aioipc.WorkerCrashed):
            await pool.run(tasks.die, "SIGKILL")
        assert (await pool.run(f.square, 3), counted(journal, "down")) == (9, 1)
        pid = pool.statistics().workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        await eventually_async(lambda: counted(journal, "down") == 2, 20, journal.lines)
        assert await pool.run(f.async_square, 3) == 9
    assert counted(journal, "down") == 3
    assert counted(journal, "up") == 4


async def test_it_runs_after_the_last_task_when_a_worker_is_recycled(journal: Journal) -> None:
    options = {"initializer": s.set_up, "initargs": (journal.path,), "finalizer": s.tear_down}
    async with f.open_pool(1, max_tasks=1, **options, preload=PRELOAD) as pool:
        states = [await pool.run(s.see_state) for _ in range(3)]
    assert len({state["pid"] for state, _, _ in states}) == 3
    assert counted(journal, "up") == counted(journal, "down") >= 3


@pytest.mark.parametrize("recycle", [False, True])
async def test_a_finalizer_that_raises(recycle: bool, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the pool ends as it would, and no task suffers."""
    caplog.set_level(logging.WARNING)
    options = {"initializer": s.set_up, "initargs": (journal.path,), "finalizer": s.tear_down_badly}
    async with f.open_pool(1, max_tasks=1 if recycle else None, **options, preload=PRELOAD) as pool:
        assert [await pool.run(f.square, i) for i in range(3)] == [0, 1, 4]
    assert counted(journal, "up") == counted(journal, "down")
    assert "cannot be torn down" in caplog.text
    assert "in tear_down_badly" in caplog.text
    assert "the finalizer of aioipc-worker-0 raised" in caplog.text
    assert pool.statistics().crashes == 0


async def test_a_finalizer_that_raises_where_nothing_is_logged(journal: Journal, capfd: Any) -> None:
    options = {"initializer": s.set_up, "initargs": (journal.path,), "finalizer": s.tear_down_badly}
    async with f.open_pool(1, logs=False, **options, preload=PRELOAD):
        pass
    assert "LookupError: cannot be torn down" in capfd.readouterr().err


async def test_a_finalizer_that_hangs(journal: Journal, gate: Gate) -> None:
    """The pool does not wait for it for ever."""
    path, waiting = journal.path, gate.path

    def hang(state: object) -> None:
        s.waits_at(path, waiting)

    async with asyncio.timeout(40):
        with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
            async with aioipc.Pool(1, finalizer=hang, shutdown=0.1) as pool:
                assert await pool.run(f.square, 3) == 9
                raise KeyError("mine")
    assert len(journal.lines()) == 1
