"""The run of ``aioipc map``: tasks from the input into the pool, results from the pool to the output.

Why `Pool.submit` and not `Pool.map`: a result line must name its task, in order or not, also where the worker
died and left nothing but an exception; and a stop must drop what is queued yet keep the results of
what runs, which come while the pool is being left. A callback per job gives both.
"""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioipc import IPCError, Job, Pool, PoolClosed, WorkerBootError, WorkerCrashed

from .calling import call, call_async
from .output import ResultWriter
from .progress import Counters
from .results import describe, error_line, problem, result_line
from .tasks_input import InputError, Task, TaskInput

WINDOW_PER_WORKER = 1024
WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with every task."""

    target: str
    is_async: bool
    concurrency: int = 16
    ordered: bool = False
    timeout: float | None = None
    retries: int = 0
    fail_fast: bool = False


class Stop(enum.Enum):
    """Why a run starts no more tasks."""

    SIGNAL = "stopping"
    FAILED_TASK = "stopping after a failed task"
    INPUT_BROKEN = "the input broke off"
    OUTPUT_BROKEN = "the output broke"
    POOL_BROKEN = "workers cannot start"


class Stopped(Exception):
    """Raised through the pool's ``async with``: it drops what is queued and lets what runs finish."""


class MapRun:
    """One run: ``await run()`` inside the pool, then leave the pool, then `finish`."""

    def __init__(self, pool: Pool, work: Work, source: TaskInput, writer: ResultWriter, counters: Counters) -> None:
        self._pool = pool
        self._work = work
        self._call: Callable[[str, object], Any] = call_async if work.is_async else call
        self._source = source
        self._writer = writer
        self._counters = counters
        workers = len(pool.statistics().workers)
        self._least = 2 * workers * (work.concurrency if work.is_async else 1)
        self._most = max(self._least, WINDOW_PER_WORKER * workers)
        self._line_size = 1
        self._jobs: dict[int, Job[bytes]] = {}
        self._held: dict[int, bytes] = {}
        self._bytes = 0
        self._count = 0
        self._next = 0
        self._wake_at = -1
        self._changed = asyncio.Event()
        self._main = asyncio.current_task()
        self._feeder: asyncio.Task[None] | None = None
        self.stop_reason: Stop | None = None
        self.error: Exception | None = None

    async def run(self) -> None:
        """Feed all tasks and wait for their results; `Stopped` where `stop` was called before the end."""
        if self.stop_reason is not None:
            self._source.close()
            raise Stopped
        self._feeder = asyncio.ensure_future(self._feed())
        try:
            await asyncio.wait([self._feeder])
        finally:
            self._feeder.cancel()
            self._source.close()
        if not self._feeder.cancelled() and isinstance(error := self._feeder.exception(), InputError):
            self.stop(Stop.INPUT_BROKEN, error)
        if self.stop_reason is not None:
            raise Stopped
        self._feeder.result()

    @property
    def _ended_by_force(self) -> bool:
        """True once a second signal, or the deadline, has had the workers killed and the main task cancelled."""
        return self._main is not None and self._main.cancelling() > 0

    def stop(self, reason: Stop, error: Exception | None = None) -> None:
        """Start no more tasks; without an output, end those that run too."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.error = error
            self._counters.running_out = reason.value
        if self._feeder is not None:
            self._feeder.cancel()
        if reason is Stop.OUTPUT_BROKEN:
            for job in list(self._jobs.values()):
                if job.state != "queued":  # the pool drops those itself
                    job.cancel()

    def finish(self) -> None:
        """Write what was held back for the order's sake, once no more results can come."""
        for index in sorted(self._held):
            self._writer.write(self._held[index])
        self._held.clear()

    async def _feed(self) -> None:
        while (batch := await self._source.next_batch()) is not None:
            room = 0
            for task in batch:
                if not room:
                    room = await self._wait_room()
                if self.stop_reason is not None:
                    return
                room -= 1
                self._start(task)
            await asyncio.sleep(0)  # a batch may hold no task that runs: signals must get their turn
        while self._jobs:
            await self._wait_change()

    async def _wait_room(self) -> int:
        """Wait until tasks may be started; returns how many."""
        while True:
            await self._writer.wait_room()
            if room := self._room():
                return room
            await self._wait_change()

    async def _wait_change(self) -> None:
        """Wait until a good part of what is under way is done; waking for every task would cost more than the task."""
        self._wake_at = self._window() * 3 // 4
        self._changed.clear()
        await self._changed.wait()
        self._wake_at = -1

    def _room(self) -> int:
        """How many tasks may be started now: results that are held back count, and bytes of both."""
        if not self._jobs:
            return self._window()
        if self._bytes >= WINDOW_BYTES:
            return 0
        return max(0, self._window() - len(self._jobs) - len(self._held))

    def _window(self) -> int:
        """How many tasks may be between input and output: few at first, until the size of results is known."""
        return max(self._least, min(self._most, 2 * self._counters.settled, WINDOW_BYTES // self._line_size))

    def _start(self, task: Task) -> None:
        index = self._count
        self._count += 1
        if task.problem is not None:
            self._fail(index, task, problem(task.problem, "JSONDecodeError"))
            return
        work = self._work
        retry_on = (Exception,) if work.retries else ()
        try:
            job: Job[bytes] = self._pool.submit(
                self._call,
                work.target,
                task.value,
                timeout=work.timeout,
                retries=work.retries,
                retry_on=retry_on,
            )
        except (PoolClosed, WorkerBootError) as error:
            self.stop(Stop.POOL_BROKEN, error.__cause__ if isinstance(error.__cause__, WorkerBootError) else error)
            return
        except IPCError as error:  # this task cannot be sent; the next one may
            self._fail(index, task, describe(error, work.target))
            return
        self._jobs[index] = job
        self._bytes += len(task.shown)
        job.add_done_callback(functools.partial(self._settle, index, task))

    def _settle(self, index: int, task: Task, job: asyncio.Future[bytes]) -> None:
        del self._jobs[index]
        self._bytes -= len(task.shown)
        if job.cancelled():
            self._cancelled(index, task)
            return self._go_on()
        if self.stop_reason is not None:
            self._cancel_queued()
        if (error := job.exception()) is None:
            self._counters.done += 1
            self._emit(index, result_line(index, task, job.result()))
        elif isinstance(error, PoolClosed | WorkerBootError):
            self._drop(index)
            self.stop(Stop.POOL_BROKEN, error)
        elif isinstance(error, WorkerCrashed) and self._ended_by_force:
            self._drop(index)
        else:
            self._fail(index, task, describe(error, self._work.target))
        return self._go_on()

    def _go_on(self) -> None:
        if len(self._jobs) + len(self._held) <= self._wake_at:
            self._changed.set()

    def _cancel_queued(self) -> None:
        """Cancel what a worker has given back since the pool dropped its queue, before another takes it."""
        for job in list(self._jobs.values()):
            if job.state == "queued":
                job.cancel()

    def _cancelled(self, index: int, task: Task) -> None:
        if self.stop_reason is None:  # nobody here has cancelled it: the function itself has
            self._fail(index, task, problem("the task cancelled itself", "CancelledError"))
        else:
            self._drop(index)

    def _drop(self, index: int) -> None:
        self._counters.dropped += 1
        self._emit(index, b"")

    def _fail(self, index: int, task: Task, error: dict[str, object]) -> None:
        self._counters.failed += 1
        self._emit(index, error_line(index, task, error))
        if self._work.fail_fast:
            self.stop(Stop.FAILED_TASK)

    def _emit(self, index: int, line: bytes) -> None:
        # The largest line of late, forgotten slowly: tasks under way will give results of about that size.
        self._line_size = max(len(line), self._line_size - self._line_size // 64, 1)
        if not self._work.ordered:
            self._writer.write(line)
            return
        self._held[index] = line
        self._bytes += len(line)
        while (line_or_none := self._held.pop(self._next, None)) is not None:
            self._bytes -= len(line_or_none)
            self._writer.write(line_or_none)
            self._next += 1
