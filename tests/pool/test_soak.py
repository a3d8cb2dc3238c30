"""The soak: everything the pool can do, used at once, while its processes are killed and stopped at random.

It goes in rounds, each with a pool of its own, a seed that decides what is asked and tormented, and a ledger: every
accepted task settles exactly once, with its own result or an error that it may have; it is executed no oftener
than allowed, and not after its end. A round that hangs fails with what the pool was doing.

``AIOIPC_SOAK_SECONDS`` says how long (120 unless told; half on each loop), ``AIOIPC_SOAK_SEED`` where the seeds
begin. ``make soak`` goes on for longer and shows how it goes.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import aioipc

from . import soak_functions
from .fault_functions import Journal
from .soak_ledger import Ledger
from .soak_torments import Tormentor
from .soak_users import Users

SECONDS = float(os.environ.get("AIOIPC_SOAK_SECONDS", "120"))
SEED = int(os.environ.get("AIOIPC_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
ROUND = 10.0
HANG = 60.0
"""Seconds without any task ended, or since the pool was left, after which it hangs."""


class Left(Exception):
    """Leaves a pool by an exception."""


class Round:
    """One pool, from its opening to the comparison of the books."""

    def __init__(self, seed: int, seconds: float, directory: Path) -> None:
        self.seed = seed
        self._seconds = seconds
        self._chance = random.Random(seed)
        self.ledger = Ledger(Journal(directory / f"journal-{seed}"), random.Random(seed + 1))
        self._output: list[aioipc.OutputLine] = []
        self._options = self._invent_options()
        self._ending = self._chance.choice(["leave", "leave", "raise", "cancel"])
        self._stage = "opening"
        self._tasks: list[asyncio.Task[None]] = []
        self.pool = aioipc.Pool(**self._options)
        self.tormentor = Tormentor(self.pool, random.Random(seed + 2))
        limited = self._options["max_pending"] is not None
        self._users = Users(self.pool, self.ledger, random.Random(seed + 3), limited=limited)

    def _invent_options(self) -> dict[str, Any]:
        chance = self._chance
        with_state = chance.random() < 0.5
        return {
            "workers": chance.choice([1, 2, 3, 4]),
            "min_workers": chance.choice([None, None, 1]),
            "idle_timeout": 0.5,
            "concurrency": chance.choice([1, 4, 16]),
            "threads": chance.random() < 0.2,
            "heartbeat_timeout": 4,
            "grace": chance.choice([0.1, 0.5]),
            "shutdown": chance.choice([0, 0.5, 5]),
            "start_method": chance.choice(["zygote"] * 9 + ["spawn"]),
            "spin": chance.choice([0, 0, 0.001]),
            "preload": [soak_functions.__name__],
            "initializer": soak_functions.begin if with_state else None,
            "finalizer": soak_functions.end if with_state else None,
            "contextvars": chance.choice([(), (soak_functions.NUMBER,)]),
            "max_tasks": chance.choice([None, None, 1, 50]),
            "max_age": chance.choice([None, None, 1.0]),
            "max_pending": chance.choice([None, None, 5, 100]),
            "capture": chance.choice([True, self._output.append]),
        }

    async def run(self) -> None:
        """Do it all; raises AssertionError with what is wrong."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.ledger.wrong.append(f"in the loop: {context}"))
        main = asyncio.create_task(self._main())
        try:
            await self._watch(main)
        except BaseException:
            await self._give_up(main)
            raise
        finally:
            loop.set_exception_handler(None)
        self._check()

    async def _give_up(self, main: asyncio.Task[None]) -> None:
        """End all tasks, by force where they wait for something that was lost; else there would be no report."""
        print(self.report(), file=sys.stderr, flush=True)  # in case that this does not end either
        self._users.over = True
        with suppress(Exception):
            main.cancel()
        await asyncio.wait([main], timeout=10)
        for _ in range(100):
            left = [task for task in (*self._tasks, main) if not task.done()]
            for task in left:
                waits_for = getattr(task, "_fut_waiter", None)
                if isinstance(waits_for, asyncio.Future) and not isinstance(waits_for, asyncio.Task):
                    asyncio.Future.cancel(waits_for)  # not its own `cancel`: what is broken is not to be asked
                else:
                    with suppress(Exception):
                        task.cancel()
            if left:
                await asyncio.wait(left, timeout=0.05)

    async def _main(self) -> None:
        try:
            await self._use()
        except Left:
            pass
        except asyncio.CancelledError:
            if self._ending != "cancel":
                raise
        self._stage = "the pool is closed"
        await asyncio.gather(*self._tasks)

    async def _use(self) -> None:
        async with self.pool:
            self._stage = "in use"
            self._tasks = self._users.start()
            torment = asyncio.create_task(self.tormentor.run())
            try:
                await asyncio.wait([torment], timeout=self._seconds)
            finally:
                torment.cancel()
                await asyncio.wait([torment])
            self._users.over = True
            self._stage = f"closing ({self._ending})"
            self.ledger.closing = True
            if self._ending != "leave":
                self.ledger.dropping = True
            if self._ending == "raise":
                raise Left
            if self._ending == "cancel":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

    async def _watch(self, main: asyncio.Task[None]) -> None:
        """Wait for the end; raises AssertionError where it hangs."""
        stage, since = self._stage, time.monotonic()
        while not main.done():
            await asyncio.wait([main], timeout=1)
            if stage != self._stage:
                stage, since = self._stage, time.monotonic()
            if time.monotonic() - max(since, self.ledger.last_end) > HANG:
                raise AssertionError(f"it hangs\n{self.report()}")
        main.result()

    def _check(self) -> None:
        statistics = self.pool.statistics()
        if statistics.submitted != statistics.done + statistics.failed + statistics.cancelled:
            self.ledger.wrong.append(f"the sums are wrong: {statistics}")
        try:
            self.ledger.check()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None
        os.unlink(self.ledger.journal.path)

    def report(self) -> str:
        """All there is to say when something is wrong."""
        try:
            statistics = str(self.pool.statistics())
        except aioipc.PoolClosed as error:
            statistics = str(error)
        return "\n".join(
            [
                f"AIOIPC_SOAK_SEED={self.seed}, {self._stage}, Pool({self._options})",
                statistics,
                self.ledger.unsettled(),
                "the last torments:",
                *(f"  {each}" for each in self.tormentor.recent),
            ]
        )

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {name}" for name, count in self.ledger.counts.most_common())
        torments = ", ".join(f"{count} {name}" for name, count in self.tormentor.counts.most_common())
        default = inspect.signature(aioipc.Pool).parameters
        options = {name: value for name, value in self._options.items() if value != default[name].default}
        return f"seed {self.seed}, {self._ending}: {ends}; {torments}; {options}"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS / 2 + 180)
async def test_soak(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # its time is no sign of a hang; that is looked for in here
    begin, seed = time.monotonic(), SEED
    while (left := begin + SECONDS / 2 - time.monotonic()) > 0:
        each = Round(seed, min(ROUND, left), tmp_path)
        await each.run()
        print(f"{time.monotonic() - begin:6.0f} s: {each}", flush=True)
        seed += 1
