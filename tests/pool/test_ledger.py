"""Twenty thousand tasks, fifty murdered workers: every result exactly once, no task executed oftener than allowed.

The ledger is a file to which each execution appends its number in one write, so it knows what no process can deny.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import aioipc

from ..harness.processes import process
from .fault_functions import Journal, noted, noted_async

TASKS = 20_000
KILLS = 50
RETRIES = 5
PRELOAD = ["tests.pool.fault_functions"]  # so that a new worker is not for long in its first task


class Murderer:
    """Kills workers at random moments, spread over the run: one in each of `KILLS` stretches of it."""

    def __init__(self, pool: aioipc.Pool, chance: random.Random) -> None:
        self.killed: set[int] = set()
        self._pool = pool
        self._chance = chance
        self._stretch = stretch = TASKS * 8 // 10 // KILLS
        self._after = [i * stretch + chance.randrange(stretch) for i in range(KILLS)][::-1]
        self._results = 0
        self._timer: asyncio.TimerHandle | None = None

    def result(self) -> None:
        """One more result has come."""
        self._results += 1
        self._plan()

    async def keep_up(self) -> None:
        """Hold the run up while a kill is overdue: on a slow machine results come quicker than workers come back."""
        while self._after and self._results > self._after[-1] + self._stretch:
            self._plan()
            await asyncio.sleep(0.001)

    def _plan(self) -> None:
        if self._timer is None and self._after and self._results > self._after[-1]:
            self._timer = asyncio.get_running_loop().call_later(self._chance.random() * 0.003, self._kill)

    def _kill(self) -> None:
        """Kill a worker that is ready, if there is one; else the next result brings another try."""
        self._timer = None
        statistics = self._pool.statistics()
        alive = [worker.pid for worker in statistics.workers if worker.state == "RUNNING"]
        alive = [pid for pid in alive if pid not in self.killed and is_child(pid, statistics.zygote_pid)]
        if alive:
            victim = self._chance.choice(alive)
            os.kill(victim, signal.SIGKILL)
            self.killed.add(victim)
            self._after.pop()


def is_child(pid: int, parent: int) -> bool:
    found = process(pid)
    return found is not None and found.ppid == parent and not found.is_zombie


def check(ledger: Journal, results: Counter[int], murderer: Murderer, statistics: aioipc.PoolStatistics) -> None:
    executions = ledger.counts()
    assert results == Counter(range(TASKS))
    assert executions.keys() == set(range(TASKS))
    assert max(executions.values()) <= 1 + RETRIES
    assert len(murderer.killed) == KILLS
    assert statistics.restarts >= KILLS - 2
    assert (statistics.done, statistics.failed, statistics.cancelled) == (TASKS, 0, 0)
    assert executions.total() - TASKS <= statistics.retried


@pytest.mark.timeout(150)
@pytest.mark.parametrize("function", [noted, noted_async])
async def test_submit(function: Callable[[str, int], int], tmp_path: Path) -> None:
    ledger, results = Journal(tmp_path / "ledger"), Counter[int]()
    async with asyncio.timeout(100), aioipc.Pool(2, shutdown=1, preload=PRELOAD) as pool:
        murderer = Murderer(pool, random.Random(3))

        def ended(job: asyncio.Future[int]) -> None:
            results[job.result()] += 1
            murderer.result()

        waiting = set()
        for number in range(TASKS):
            job = pool.submit(function, ledger.path, number, retries=RETRIES)
            job.add_done_callback(ended)
            waiting.add(job)
            await murderer.keep_up()
            if len(waiting) >= 4000:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(waiting)
        statistics = pool.statistics()
    check(ledger, results, murderer, statistics)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("ordered", [True, False])
async def test_map(ordered: bool, tmp_path: Path) -> None:
    ledger, results = Journal(tmp_path / "ledger"), Counter[int]()
    async with asyncio.timeout(100), aioipc.Pool(2, shutdown=1, preload=PRELOAD) as pool:
        murderer = Murderer(pool, random.Random(4))
        paths = (ledger.path for _ in range(TASKS))
        async with pool.map(noted, paths, range(TASKS), retries=RETRIES, ordered=ordered) as stream:
            async for result in stream:
                assert not ordered or result == results.total()
                results[result] += 1
                murderer.result()
                await murderer.keep_up()
        statistics = pool.statistics()
    check(ledger, results, murderer, statistics)
