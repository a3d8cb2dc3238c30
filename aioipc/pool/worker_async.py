"""The worker's event loop: runs up to ``concurrency`` async tasks at once, and never a sync task beside them,
unless that runs in a thread (``Pool(threads=True)``).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .._loop.factory import loop_factory
from .._sys import failpoints
from ..supervisor.control_thread import LEAST_BEAT, MasterGone
from ..wire import pool_protocol as protocol
from ..wire.pool_protocol import ASYNC, CANCELLED, OK, STREAM, THREAD, ResultItem, TaskItem
from .worker_streams import Outflow, iterable
from .worker_threads import ThreadCalls, original

if TYPE_CHECKING:
    from .worker import Worker

T = TypeVar("T")

_END = object()
_runners: list[asyncio.Runner] = []
_threads: list[ThreadCalls] = []


def run_async_phase(worker: Worker, first: TaskItem, begun: Any) -> None:
    """Run async tasks, beginning with one whose function may have been called already (``begun`` is what it
    returned); returns when a sync task is next.

    Raises MasterGone. The loop stays open for the next time.
    """
    runner = _runner()
    worker.loop = runner.get_loop()
    worker.scoreboard.loop_runs(True)
    try:
        runner.run(_serve(worker, first, begun))
        worker.flush()
        worker.send([])  # what the loop had not got rid of yet
    finally:
        worker.notify_loop = worker.loop = None
        worker.scoreboard.loop_runs(False)


async def _serve(worker: Worker, first: TaskItem, begun: Any) -> None:
    await AsyncPhase(worker).serve(first, begun)


def run_in_loop(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable in the loop that tasks will run in, or have run in."""

    async def wait() -> T:
        return await awaitable

    return _runner().run(wait())


def _runner() -> asyncio.Runner:
    if not _runners:
        _runners.append(asyncio.Runner(loop_factory=loop_factory()))
    return _runners[0]


def close_loop() -> None:
    """Close the loop, where there is one."""
    while _runners:
        _runners.pop().close()


class AsyncPhase:
    """One stay in the event loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()  # a task cancelled before its first step would end without a word
        self._in_threads: set[int] = set()
        self._concurrency: int = worker.settings["concurrency"]
        self._beat_every = max(LEAST_BEAT, worker.settings["heartbeat_timeout"] / 4)
        self._flush_due = False
        self._context = copy_context()

    async def serve(self, first: TaskItem, begun: Any) -> None:
        """Run tasks until a sync one is next, or the worker is to end; raises MasterGone."""
        worker, loop = self._worker, self._loop
        worker.notify_loop = self._notified_from_thread
        loop.add_reader(worker.data.fileno(), self._readable)
        self._beat()
        self._begin(first, self._run(first, begun))
        self._notified()  # what was cancelled before there was a loop to be told
        if not isinstance(loop, asyncio.SelectorEventLoop):
            worker.signals.join_loop()
        try:
            await self._over
        finally:
            self._timer.cancel()
            loop.remove_reader(worker.data.fileno())
            for number in list(self._tasks):
                self._cancel(number)
            if self._tasks:
                await asyncio.wait(self._tasks.values())
            loop.remove_writer(worker.data.fileno())
            worker.signals.leave_loop()

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
            if number in self._begun:
                worker.cancelled.discard(number)
                self._cancel(number)
        for outflow in list(worker.outflows.values()):
            outflow.roomy()
        if worker.orphaned:
            self._end(MasterGone())
        else:
            self._start_tasks()

    def _cancel(self, number: int) -> None:
        if number in self._in_threads:
            self._thread_calls().interrupt(number)
            if (outflow := self._worker.outflows.get(number)) is not None:
                outflow.abort()  # where no thread runs: it waits for its reader
        else:
            self._tasks[number].cancel()

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
        # Not in the context of whoever calls this, which may be a task that has just ended.
        self._tasks[item[0]] = self._loop.create_task(coroutine, context=self._context.copy())

    async def _run(self, item: TaskItem, begun: Any) -> None:
        worker = self._worker
        number, slot, _, flags, _ = item
        begin = time.perf_counter_ns()
        outflow = Outflow(worker, item) if flags & STREAM else None
        result: ResultItem
        try:
            if worker.cancelled and number in worker.cancelled:
                worker.cancelled.discard(number)
                if inspect.iscoroutine(begun):
                    begun.close()
                raise asyncio.CancelledError
            self._begun.add(number)
            function = begun
            if begun is not None:
                _enter(worker.open_envelopes(item, outflow)[1])
                value = await self._wait(begun, function, outflow)
            else:
                worker.note_start(item)
                function, arguments, context = worker.unpack(item, outflow)
                _enter(context)
                if flags & THREAD:
                    value = await self._in_thread(number, function, arguments, context, outflow)
                else:
                    value = await self._wait(function(*arguments), function, outflow)
            if failpoints.armed:
                failpoints.hit("mid-task")
            result = (slot, OK, (time.perf_counter_ns() - begin) // 1000, worker.dump(value, function))
        except asyncio.CancelledError:
            result = (slot, CANCELLED, 0, b"")
        except BaseException as error:
            result = worker.failed(item, original(error), False, begin)
        del self._tasks[number]
        self._begun.discard(number)
        worker.cancelled.discard(number)
        self._finish(result if outflow is None else outflow.end(result))

    async def _wait(self, begun: Any, function: Any, outflow: Outflow | None) -> Any:
        """Wait for a coroutine, or send on what an async iterator yields."""
        if outflow is None:
            return await begun
        outflow.function = function
        await outflow.pump_async(begun, self._flush_soon)
        return None

    async def _in_thread(
        self, number: int, function: Any, arguments: Any, context: Context | None, outflow: Outflow | None
    ) -> Any:
        """Run a sync function in a thread; what it returns may still be a coroutine, or the items of a stream."""
        threads = self._thread_calls()
        if context is None:
            context = copy_context()  # one for all steps of a stream
        self._in_threads.add(number)
        try:
            value = await threads.call(number, function, arguments, context)
            if outflow is not None and not hasattr(value, "__aiter__"):
                step = partial(threads.call, number, context=context)
                finish = partial(threads.finish, context=context)
                return await self._wait(_each(iterable(value), step, finish), function, outflow)
        finally:
            self._in_threads.discard(number)
            threads.forget(number)
        if outflow is None and not inspect.iscoroutine(value):
            return value
        return await self._wait(value, function, outflow)

    def _thread_calls(self) -> ThreadCalls:
        if not _threads:
            _threads.append(ThreadCalls(self._concurrency, self._worker.drain))
        return _threads[0]

    def _finish(self, result: protocol.ResultItem) -> None:
        if failpoints.armed:
            failpoints.hit("result-computed")
        self._worker.outbox.append(result)
        self._flush_soon()

    # -- what goes out -------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

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
        self._worker.signals.keep_listening()
        self._timer = self._loop.call_later(self._beat_every, self._beat)


def _enter(context: Context | None) -> None:
    """Take on the values of a context in the current task, which has one of its own."""
    if context is not None:
        for variable, value in context.items():
            variable.set(value)


async def _each(
    items: Any, step: Callable[..., Awaitable[Any]], finish: Callable[[Callable[[], Any]], Awaitable[None]]
) -> AsyncIterator[Any]:
    """Iterate in threads; closes the iterator there, too."""
    iterator = await step(iter, (items,))
    try:
        while (item := await step(next, (iterator, _END))) is not _END:
            yield item
    finally:
        if (close := getattr(iterator, "close", None)) is not None:
            await finish(close)
