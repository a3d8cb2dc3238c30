"""The pool's workers as a group: started, replaced when they die, stopped at the end.

A death after READY is replaced at once; deaths that follow each other without a task done in between wait longer
each time. Three deaths in a row before READY end the pool (decision 12), unless it has a worker that is well.

A worker that has served long enough is retired: another one is started, and when that is ready the old one stops
with what it still has. One at a time, the next when the last one is gone, so there is never more than one too many.
Where the one on its way out still has a long task, those that may take no more tasks and run none go before their
turn, and are replaced then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import WorkerBootError
from ..supervisor.backoff import BOOT_BUDGET, backoff
from ..supervisor.child import ExitReport
from ..supervisor.recycling import Limits
from ..supervisor.relays import RelayOptions
from ..supervisor.zygote import Zygote
from ..wire.pool_protocol import ResultItem
from .worker_handle import WorkerHandle, WorkerOwner

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("aioipc.pool")


class CrewOwner(WorkerOwner, Protocol):
    """Who hears of the crew as a whole, and of each worker."""

    def crew_failed(self, error: WorkerBootError) -> None:
        """No worker can be started any more."""

    def worker_leaves(self, worker: WorkerHandle) -> None:
        """It is to get no more tasks."""

    def crew_doomed(self) -> None:
        """All workers are about to be killed, since the program is told to end at once."""


class Crew:
    """``size`` workers under one zygote at a time. Everything happens in callbacks; only `stop` is awaited.

    ``settings`` is what each worker is told; ``limits``, less up to ``jitter`` of them, is how long each serves;
    ``whose`` stands before what is logged of the crew as a whole.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        size: int,
        owner: CrewOwner,
        settings: dict[str, Any],
        *,
        preload: Sequence[str],
        fresh: bool,
        relay: RelayOptions,
        boot_timeout: float,
        limits: Limits,
        jitter: float,
        whose: str = "",
    ) -> None:
        self.workers: dict[int, WorkerHandle] = {}
        self.size: int = size
        self.restarts: int = 0
        self.recycled: int = 0
        self._loop = loop
        self._owner = owner
        self._settings = settings
        self._preload = preload
        self._fresh = fresh
        self._relay = relay
        self._boot_timeout = boot_timeout
        self._limits = limits
        self._jitter = jitter
        self._whose = whose
        self._retiring: deque[WorkerHandle] = deque()  # the first is the one whose turn it is
        self._dismissed: set[WorkerHandle] = set()
        self._lost = 0  # workers that died and were not replaced yet
        self._boot_failures = 0
        self._fruitless = 0
        self._stopping = False
        self._gone: asyncio.Future[None] | None = None
        self._refill: asyncio.TimerHandle | None = None
        self._zygote = self._start_zygote()
        self._fill()

    @property
    def zygote_pid(self) -> int:
        """The zygote's process id."""
        return self._zygote.pid

    @property
    def is_starting(self) -> bool:
        """Whether a worker is on its way."""
        return any(worker.state == "STARTING" for worker in self.workers.values())

    def resize(self, size: int) -> None:
        """Have so many workers: start some, or stop those with the least to do."""
        self.size = size
        surplus = self._serving() - size
        if surplus > 0:
            for worker in sorted(self._staff(), key=lambda worker: (len(worker.in_flight), -worker.number))[:surplus]:
                self._let_go(worker)
        self._fill()

    def retire(self, worker: WorkerHandle, why: str) -> None:
        """Replace a worker: the new one is ready before the old one stops."""
        if worker.leaving or self._stopping or worker in self._retiring:
            return
        _log.info("%r is to be replaced: %s", worker, why)
        self._retiring.append(worker)
        self._fill()

    def dismiss_idle(self) -> None:
        """Let workers go that take no more tasks and run none, where their turn may be far: one on its way out is busy.

        They come back one for one, so there is still never more than one too many.
        """
        if any(worker.leaving and worker.in_flight for worker in self.workers.values()):
            for worker in [worker for worker in self._retiring if worker.spent and not worker.in_flight]:
                self.recycled += 1
                self._dismissed.add(worker)
                self._let_go(worker)

    async def stop(self, deadline: float) -> None:
        """Stop all workers, kill those that are left at ``deadline`` (loop time), end the zygote."""
        self.stop_replacing()
        self._gone = self._loop.create_future()
        for worker in self.workers.values():
            worker.stop()
        timer = self._loop.call_at(deadline, self.kill, "it did not stop in time")
        if self.workers:
            await self._gone
        timer.cancel()
        await self._zygote.aclose()

    def stop_replacing(self) -> None:
        """Start no more workers."""
        self._stopping = True
        if self._refill is not None:
            self._refill.cancel()

    def kill(self, reason: str, *, dump: bool = False) -> None:
        """Kill all workers at once, with ``dump`` those that are busy after they have written down what they do."""
        for worker in list(self.workers.values()):
            if dump and worker.in_flight:
                worker.condemn(reason)
            else:
                worker.kill(reason)

    # -- how many there are --------------------------------------------------------------------------

    def _staff(self) -> list[WorkerHandle]:
        return [worker for worker in self.workers.values() if not worker.leaving]

    def _serving(self) -> int:
        return sum(not worker.leaving for worker in self.workers.values())

    def _has_running(self) -> bool:
        return any(w.state == "RUNNING" and not w.kill_reason and not w.spent for w in self._staff())

    def _let_go(self, worker: WorkerHandle) -> None:
        """Have a worker stop with what it has; it gets nothing more."""
        if worker in self._retiring:
            self._retiring.remove(worker)
        self._owner.worker_leaves(worker)
        worker.stop()

    def _hand_over(self) -> None:
        """Let the worker go whose turn it is to be replaced, once there is one too many."""
        ready = sum(worker.state == "RUNNING" for worker in self._staff())
        if self._retiring and self._may_replace() and ready > self.size:
            self.recycled += 1
            self._let_go(next((worker for worker in self._retiring if not worker.in_flight), self._retiring[0]))
            self.dismiss_idle()

    def _may_replace(self) -> bool:
        """Whether no worker is still on its way out."""
        return not any(worker.leaving for worker in self.workers.values())

    # -- starting ------------------------------------------------------------------------------------

    def _start_zygote(self) -> Zygote:
        self._zygote_proven = False
        return Zygote(
            self._loop,
            entry="aioipc.pool.worker_main:main",
            preload=[*self._relay.preload, *self._preload],
            on_up=self._zygote_up,
            on_lost=self._zygote_lost,
            on_doom=self._doomed,
        )

    def _zygote_up(self, problem: str | None) -> None:
        if problem is not None:
            self._fail(f"a module to preload cannot be imported:\n{problem}", stderr=problem)

    def _zygote_lost(self, how: str, stderr: str) -> None:
        """Start another; a zygote that died before one of its workers was ready is one failed boot, not many."""
        if not self._zygote_proven:
            self._boot_failed(ExitReport(None, f"lost its zygote, which {how}"), stderr)
        if self._stopping:
            return
        try:
            self._zygote = self._start_zygote()
        except OSError as error:
            self._fail(f"the zygote cannot be started: {error}")
        else:
            self._fill()

    def _doomed(self) -> None:
        self.stop_replacing()
        self._owner.crew_doomed()

    def _fill(self) -> None:
        """Start the workers that are missing, and one more where one is to be replaced."""
        self._refill = None
        if self._stopping:
            return
        wanted = self.size + (1 if self._retiring and self._may_replace() else 0) - len(self._dismissed)
        free = (number for number in range(self.size + len(self.workers) + 1) if number not in self.workers)
        for number in list(islice(free, max(0, wanted - self._serving()))):
            if not self._stopping:
                self._start_worker(number)

    def _start_worker(self, number: int) -> None:
        limits = self._limits.draw(random.random() * self._jitter)
        try:
            worker = WorkerHandle(self._loop, number, self, self._settings, self._relay, limits)
        except OSError as error:
            hint = " (RLIMIT_NOFILE, ulimit -n)" if error.errno == errno.EMFILE else ""
            self._boot_failed(ExitReport(None, f"was not even asked for: {error}{hint}"), "")
            return
        self.workers[number] = worker
        if self._lost:
            self._lost -= 1
            self.restarts += 1
        worker.spawn(self._zygote, fresh=self._fresh)
        worker.boot_timer = self._loop.call_later(
            self._boot_timeout, worker.kill, f"it was not ready after {self._boot_timeout:g} s"
        )

    # -- WorkerOwner: passes on to the pool what is not about starting and ending --------------------

    def worker_ready(self, worker: WorkerHandle) -> None:
        """See `WorkerOwner`."""
        self._boot_failures = 0
        self._zygote_proven = True
        worker.end_boot()
        _log.info("%r is ready after %.0f ms", worker, (time.monotonic() - worker.started_at) * 1000)
        if worker.leaving:  # it was one too many before it was ready
            return
        self._owner.worker_ready(worker)
        self._hand_over()

    def worker_answered(self, worker: WorkerHandle, results: list[ResultItem]) -> None:
        """See `WorkerOwner`."""
        self._fruitless = 0
        self._owner.worker_answered(worker, results)

    def worker_streamed(self, worker: WorkerHandle, item: ResultItem) -> None:
        """See `WorkerOwner`."""
        self._owner.worker_streamed(worker, item)

    def worker_gave_back(self, worker: WorkerHandle, slots: list[int]) -> None:
        """See `WorkerOwner`."""
        self._owner.worker_gave_back(worker, slots)

    def worker_exited(self, worker: WorkerHandle, report: ExitReport) -> None:
        """See `WorkerOwner`."""
        del self.workers[worker.number]
        if worker in self._retiring:
            self._retiring.remove(worker)
        self._dismissed.discard(worker)
        self._lost += not worker.leaving
        was_ready = worker.end_boot()
        quiet = self._stopping or (report.exitcode == 0 and not worker.in_flight)
        if worker.stacks:
            _log.warning("%r was doing this:\n%s", worker, worker.stacks)
        _log.log(
            logging.INFO if quiet else logging.WARNING,
            "%r ended after %.1f s: %s",
            worker,
            time.monotonic() - worker.started_at,
            report.reason,
        )
        stderr = worker.child.stderr_tail()
        if was_ready and not worker.in_flight and not report.with_zygote and not worker.leaving:
            self._fruitless += 1
        self._owner.worker_exited(worker, report)
        if report.with_zygote:
            pass  # `_zygote_lost` is next, and starts them all again
        elif not was_ready:
            self._boot_failed(report, stderr)
        else:
            self._replace_later(0.0 if worker.leaving else backoff(self._fruitless))
        if self._gone is not None and not self.workers and not self._gone.done():
            self._gone.set_result(None)

    def _boot_failed(self, report: ExitReport, stderr: str) -> None:
        if self._stopping:
            return
        self._boot_failures += 1
        if self._boot_failures < BOOT_BUDGET or self._has_running():
            said = f"\n{stderr}" if stderr else ""
            _log.error("%sa worker cannot start: it %s%s", self._whose, report.reason, said)
            self._replace_later(backoff(self._boot_failures))
            return
        text = f"workers cannot start: {self._boot_failures} in a row ended before they were ready; "
        text += f"the last one {report.reason}"
        if stderr:
            text += f"\n--- end of its stderr ---\n{stderr}"
        self._fail(text, stderr=stderr, exitcode=report.exitcode)

    def _fail(self, text: str, *, stderr: str = "", exitcode: int | None = None) -> None:
        if not self._stopping:
            self.stop_replacing()
            _log.error("%sthe pool is given up: %s", self._whose, text)
            self.kill("the pool was given up")
            self._owner.crew_failed(WorkerBootError(text, stderr=stderr, exitcode=exitcode))

    def _replace_later(self, delay: float) -> None:
        if self._stopping:
            return
        if self._refill is not None:
            self._refill.cancel()
        # Even at once means in the next turn: a lost zygote is replaced before its workers are.
        self._refill = self._loop.call_later(delay, self._fill) if delay else None
        if self._refill is None:
            self._loop.call_soon(self._fill)
