"""The worker's event loop: runs up to ``concurrency`` async tasks at once, and never a sync task beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from .._sys import failpoints
from ..wire import pool_protocol as protocol
from ..wire.pool_protocol import ASYNC, CANCELLED, OK, TIMED, ResultItem, TaskItem
from .worker import MasterGone

if TYPE_CHECKING:
    from .worker import Worker

_LEAST_BEAT = 2.0
_runners: list[asyncio.Runner] = []


def run_async_phase(worker: Worker, first: TaskItem, coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Run async tasks, beginning with one that has started already; returns when a sync task is next.

    Raises MasterGone. The loop stays open for the next time.
    """
    if not _runners:
        _runners.append(asyncio.Runner(loop_factory=_loop_factory()))
    worker.scoreboard.loop_runs(True)
    try:
        _runners[0].run(_serve(worker, first, coroutine))
        worker.flush()
        worker.send([])  # what the loop had not got rid of yet
    finally:
        worker.notify_loop = None
        worker.scoreboard.loop_runs(False)


async def _serve(worker: Worker, first: TaskItem, coroutine: CoroutineType[Any, Any, Any]) -> None:
    await AsyncPhase(worker).serve(first, coroutine)


def close_loop() -> None:
    """Close the loop, where there is one."""
    while _runners:
        _runners.pop().close()


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class AsyncPhase:
    """One stay in the event loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()  # a task cancelled before its first step would end without a word
        self._concurrency: int = worker.settings["concurrency"]
        self._beat_every = max(_LEAST_BEAT, worker.settings["heartbeat_timeout"] / 4)
        self._flush_due = False

    async def serve(self, first: TaskItem, coroutine: CoroutineType[Any, Any, Any]) -> None:
        """Run tasks until a sync one is next, or the worker is to end; raises MasterGone."""
        worker, loop = self._worker, self._loop
        worker.notify_loop = self._notified_from_thread
        loop.add_reader(worker.data.fileno(), self._readable)
        self._beat()
        self._begin(first, self._run(first, coroutine))
        self._notified()  # what was cancelled before there was a loop to be told
        try:
            await self._over
        finally:
            self._timer.cancel()
            loop.remove_reader(worker.data.fileno())
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
            loop.remove_writer(worker.data.fileno())

    # -- what comes in -------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            self._worker.receive()
        except MasterGone as error:
            self._end(error)
        else:
            self._start_tasks()

    def _notified_from_thread(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._notified)
        except RuntimeError:  # the loop has just been closed
            pass

    def _notified(self) -> None:
        """Look at what the control thread has changed: cancelled tasks, or that it is time to drain."""
        worker = self._worker
        for number in list(worker.cancelled):
            if (task := self._tasks.get(number)) is not None and number in self._begun:
                worker.cancelled.discard(number)
                task.cancel()
        if worker.orphaned:
            self._end(MasterGone())
        else:
            self._start_tasks()

    def _start_tasks(self) -> None:
        """Start what may start; leave where nothing runs and what is next is not for the loop."""
        worker = self._worker
        while worker.pending and len(self._tasks) < self._concurrency and not worker.draining:
            try:
                task = worker.pending.popleft()
            except IndexError:  # the control thread has just given it back
                break
            if not task[3] & ASYNC:
                worker.pending.appendleft(task)
                break
            self._begin(task, self._run(task, None))
        if not self._tasks and (worker.pending or worker.stopping or worker.draining):
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    # -- tasks ---------------------------------------------------------------------------------------

    def _begin(self, item: TaskItem, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks[item[0]] = self._loop.create_task(coroutine)

    async def _run(self, item: TaskItem, coroutine: CoroutineType[Any, Any, Any] | None) -> None:
        worker = self._worker
        number, slot, function_id, flags, payload = item
        begin = time.perf_counter_ns()
        result: ResultItem
        try:
            if worker.cancelled and number in worker.cancelled:
                worker.cancelled.discard(number)
                if coroutine is not None:
                    coroutine.close()
                raise asyncio.CancelledError
            self._begun.add(number)
            if coroutine is None:
                if flags & TIMED:
                    worker.scoreboard.started_at[slot] = time.monotonic_ns()
                worker.scoreboard.started[slot] = number
                function, arguments = worker.unpack(function_id, payload)
                coroutine = function(*arguments)
                value = await coroutine
            else:
                function = cast("Callable[..., Any]", coroutine)  # only its name is asked for
                value = await coroutine
            if failpoints.armed:
                failpoints.hit("mid-task")
            result = (slot, OK, (time.perf_counter_ns() - begin) // 1000, worker.dump(value, function))
        except asyncio.CancelledError:
            result = (slot, CANCELLED, 0, b"")
        except BaseException as error:
            result = worker.failed(item, error, False, begin)
        del self._tasks[number]
        self._begun.discard(number)
        self._finish(result)

    def _finish(self, result: protocol.ResultItem) -> None:
        if failpoints.armed:
            failpoints.hit("result-computed")
        self._worker.outbox.append(result)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    # -- what goes out -------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Send the results of this turn of the loop, then see what is next."""
        self._flush_due = False
        self._write()
        self._start_tasks()

    def _write(self) -> None:
        """Send the results there are; what a slow master does not take is sent when it does, the loop goes on."""
        worker = self._worker
        results = worker.take_results()
        fd = worker.data.fileno()
        try:
            if worker.post(protocol.encode_results(results) if results else []):
                self._loop.remove_writer(fd)
            else:
                self._loop.add_writer(fd, self._write)
        except MasterGone as error:
            self._end(error)

    def _beat(self) -> None:
        self._worker.scoreboard.loop_beat()
        self._timer = self._loop.call_later(self._beat_every, self._beat)
