"""`Pool`: run functions in worker processes and await them."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import pickle
import time
import warnings
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, TypeVarTuple, Unpack, overload

from .._loop.finish import finish
from ..exceptions import PoolClosed, SerializationError
from ..supervisor.serialization import dump
from ..supervisor.shutdown import shutdown_deadline
from ..wire.pool_protocol import CONTEXT, STREAM
from .executor import PoolExecutor
from .functions import FunctionTable
from .host import PoolHost
from .inbox import Inbox
from .job import Job, Task
from .mapping import MAP_BYTES, MapResults, MapState, MapTask
from .master import Master
from .options import PoolOptions, check_count, check_task_options, taking_options
from .statistics import PoolStatistics, WorkerStatistics
from .streaming import STREAM_BYTES, StreamResults, StreamState, StreamTask
from .window import window_size
from .worker_handle import WorkerHandle

_log = logging.getLogger("aioipc.pool")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Source = Iterable[Any] | AsyncIterable[Any]
_UNSET = object()


class Pool:
    """Worker processes that run functions for the tasks of one event loop::

        async with aioipc.Pool(workers=4) as pool:
            total = await pool.run(count_words, path)

    Functions may be sync or async, lambdas, closures, or defined in the running script. A worker runs one sync
    task, or up to ``concurrency`` async ones. A worker that dies takes only the tasks with it that it had started;
    they fail with WorkerCrashed, or run again where they have ``retries``.

    Leaving the ``async with`` waits for all accepted tasks. Leaving it by an exception drops those that no worker
    has yet, gives the others ``shutdown`` seconds and then kills them. Either way no process is left.

    Parameters
    ----------
    workers
        How many processes; by default ``WEB_CONCURRENCY``, else as many as this process has CPUs (its affinity
        and its control group's quota).
    concurrency
        Async tasks that one worker runs at once.
    heartbeat_timeout
        Seconds (at least 4) after which a worker that is stopped, whose GIL is held or whose loop is blocked while
        it has tasks is killed. A sync task that runs long is none of these.
    grace
        Seconds that a cancelled or timed-out task gets to end by itself before its worker is killed.
    shutdown
        Seconds that running tasks get when the pool is left by an exception.
    preload
        Names of modules that the workers' parent imports once, before it forks them.
    start_method
        ``"zygote"`` forks workers from a small single-threaded process; ``"spawn"`` has each run a fresh
        interpreter.
    spin
        Seconds that an idle worker keeps asking for more work before it sleeps: less latency for more CPU.
    logs
        Whether what workers log comes out of this process's `logging`.
    capture
        What becomes of the workers' standard output and error: ``False`` leaves them as they are inherited,
        ``True`` logs each line to ``aioipc.output``, a function is called with each line, in the loop.

    min_workers, idle_timeout
        Start with ``min_workers`` processes, add one at a time while tasks find none free, and let those go that
        had nothing to do for ``idle_timeout`` seconds. By default there are always ``workers``.
    threads
        Run sync functions in threads, up to ``concurrency`` at once in each worker, beside async ones: for
        functions that wait more than they compute.
    boot_timeout
        Seconds that a worker, its ``initializer`` included, may take to be ready.
    initializer, initargs
        A function, sync or async, that each worker calls before its first task. What it returns is
        ``current_worker().state`` for the tasks. Where it raises, the worker cannot start.
    finalizer
        A function, sync or async, that each worker calls with that state when it ends in good order.
    contextvars
        Context variables whose values at `submit`, `map` or `stream` the task finds set.
    max_tasks, max_memory, max_age, jitter
        A worker is replaced after so many tasks, when it holds so many bytes of memory (by default nine tenths of
        the control group's limit divided by the workers), or after so many seconds. Up to the part ``jitter`` is
        taken off at random from tasks and age, not from 1 task. The new worker is ready before the old one stops.
    max_pending, max_pending_bytes
        How many tasks, or bytes of them as they are sent, may be accepted and not settled. Past that `submit`
        raises PoolFull, `run` and `map` wait. One task is accepted whatever its size.

    Raises TypeError and ValueError for options that cannot be, UnsupportedPlatform elsewhere than on Linux.
    Opening it raises SerializationError where initializer or finalizer cannot be sent, WorkerBootError where
    workers cannot start.
    """

    @taking_options(PoolOptions)
    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._size, self._sizing = self._options.size()
        self._functions = FunctionTable(threads=options.threads)
        self._inbox = Inbox(self._functions)
        self._executor = PoolExecutor(self._inbox)
        self._master: Master | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._final: PoolStatistics | None = None
        self._host: PoolHost | None = None

    def __repr__(self) -> str:
        if self._master is None:
            return f"<Pool of {self._size}, {'closed' if self._closed else 'not open'}>"
        s = self.statistics()
        return f"<Pool of {self._size}, open, {s.queued} queued, {s.in_flight} in flight, {s.done} done>"

    def __del__(self) -> None:
        if getattr(self, "_master", None) is not None:
            warnings.warn(f"{self!r} was not closed: use 'async with'", ResourceWarning, source=self, stacklevel=2)

    # -- lifetime ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._master is not None or self._closed:
            raise PoolClosed("a Pool is opened once; make a new one")
        settings = self._options.worker_settings()
        self._loop = asyncio.get_running_loop()
        master = Master(self._loop, self._options, self._host)
        master.hire(self._size, settings)
        self._master = master
        _log.info("%s%d workers, by %s", master.whose, self._size, self._sizing)
        self._inbox.start(self._loop, master)
        try:
            await master.wait_ready()
        except BaseException:
            await self._close(drop=True, patience=0.0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._close(drop=False, patience=math.inf)
        else:
            await self._close(drop=True, patience=self._options.shutdown)

    async def aclose(self) -> None:
        """Close the pool as leaving its ``async with`` does: wait for all accepted tasks, then end the workers.

        Being cancelled meanwhile turns it into an end by exception: what is queued is dropped, what runs gets
        ``shutdown`` seconds. It returns, or raises CancelledError, when no process is left. May be called twice.
        """
        await self._close(drop=False, patience=math.inf)

    async def _close(self, *, drop: bool, patience: float) -> None:
        if self._master is not None and self._ending is None:
            self._master.stop_accepting()
            if drop:
                self._master.drop_queued()  # before what was paused is handed out
            else:
                try:
                    await self._master.wait_idle()
                except asyncio.CancelledError:
                    await self._end(drop=True, patience=self._options.shutdown)
                    raise
            await self._end(drop=drop, patience=patience)
        elif self._ending is not None:
            await self._end(drop=drop, patience=patience)

    async def _end(self, *, drop: bool, patience: float) -> None:
        """Have the pool end once, and wait for that, whoever asks; a cancellation comes out when it has ended."""
        master = self._master
        if self._ending is None and master is not None:
            self._ending = asyncio.get_running_loop().create_task(_end(master, drop, patience))
            self._ending.add_done_callback(self._ended)
        if self._ending is not None:
            await finish(self._ending)

    def _kill(self, reason: str, *, dump: bool) -> None:
        """Kill all workers; what they have fails. To be left then."""
        if self._master is not None:
            self._master.kill(reason, dump=dump)

    def _workers(self) -> list[WorkerHandle]:
        return [] if self._master is None else list(self._master.crew.workers.values())

    def _ended(self, ending: asyncio.Task[None]) -> None:
        if self._master is not None:
            self._final = self._snapshot(self._master)
        self._master, self._closed = None, True

    # -- tasks ---------------------------------------------------------------------------------------

    @overload
    async def run(self, function: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts) -> T: ...
    @overload
    async def run(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T: ...
    async def run(self, function: Callable[..., Any], *args: Any) -> Any:  # type: ignore[misc]  # mypy cannot match a TypeVarTuple here
        """Run ``function(*args)`` in a worker and return what it returns; first wait for room where the pool is full.

        Raises what the function raises, and what `submit` and awaiting its Job raise. Cancelling it ends the work
        before CancelledError comes back (see `Job`).
        """
        if self._master is not None:
            await self._master.wait_room()
        return await self.submit(function, *args)

    @overload
    def submit(
        self,
        function: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]],
        *args: *Ts,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
    ) -> Job[T]: ...
    @overload
    def submit(
        self,
        function: Callable[[Unpack[Ts]], T],
        *args: *Ts,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
    ) -> Job[T]: ...
    def submit(  # type: ignore[misc]
        self,
        function: Callable[..., Any],
        *args: Any,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
    ) -> Job[Any]:
        """Accept ``function(*args)`` and return its Job at once; from here on it settles exactly once.

        ``timeout``: seconds from the start of the function after which it is ended (TaskTimeout).
        ``retries``: how often it may be tried again after its worker died, or after an exception in ``retry_on``;
        0 means that it is executed at most once. ``priority``: higher goes first.

        Raises PoolClosed, PoolFull (see ``max_pending``), TypeError or ValueError for options that cannot be,
        SerializationError where function or arguments cannot be sent. Awaiting the Job raises the function's own
        exception with the remote traceback as its cause, WorkerCrashed, TaskTimeout, TaskQuarantined,
        WorkerBootError or RemoteError.
        """
        master = self._open_master()
        if timeout is not None or retries or retry_on or type(priority) is not int:
            retry_on = check_task_options(timeout, retries, retry_on, priority)
        master.room.check()
        record, payload = self._functions.prepare(function, args)
        record.refuse_generator()
        values = self._context() if self._options.contextvars else None
        job: Job[Any] = Job(loop=self._loop)
        task = Task(0, record, payload, job, timeout, retries, retry_on, priority)  # type: ignore[arg-type]
        job._master, job._task = master, task
        self._accept(task, values)
        return job

    def _accept(self, task: Task, values: bytes | None) -> None:
        """Number a task, pack the values of context variables with it, and have it run."""
        if values is not None:
            task.payload = pickle.dumps((values, task.payload), 5)
            task.envelopes |= CONTEXT
        master = self._open_master()
        task.number = master.next_number()
        master.submit(task)

    def _context(self) -> bytes | None:
        """Return the values of the context variables to be sent, by index, as a pickle; ``None`` where none is set."""
        values: dict[int, Any] = {}
        for index, variable in enumerate(self._options.contextvars):
            if (value := variable.get(_UNSET)) is not _UNSET:
                values[index] = value
        try:
            return dump(values) if values else None
        except Exception as error:
            names = [variable.name for variable in self._options.contextvars if not _is_sendable(variable.get(None))]
            text = f"the value of the context variable {', '.join(names)} cannot be sent: {error}"
            raise SerializationError(text) from error

    @overload
    def map(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Source,
        ordered: bool = True,
        window: int | None = None,
        window_bytes: int = MAP_BYTES,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
        return_exceptions: Literal[False] = False,
    ) -> MapResults[T]: ...
    @overload
    def map(
        self,
        function: Callable[..., T],
        *iterables: Source,
        ordered: bool = True,
        window: int | None = None,
        window_bytes: int = MAP_BYTES,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
        return_exceptions: Literal[False] = False,
    ) -> MapResults[T]: ...
    @overload
    def map(
        self,
        function: Callable[..., Any],
        *iterables: Source,
        ordered: bool = True,
        window: int | None = None,
        window_bytes: int = MAP_BYTES,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
        return_exceptions: bool,
    ) -> MapResults[Any]: ...
    def map(
        self,
        function: Callable[..., Any],
        *iterables: Source,
        ordered: bool = True,
        window: int | None = None,
        window_bytes: int = MAP_BYTES,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
        return_exceptions: bool = False,
    ) -> MapResults[Any]:
        """Run the function on every item and return the results as an async iterator, in order or as they come.

        Takes sync and async iterables; of several, one item each per call, until the shortest ends. It is lazy: at
        most ``window`` items are taken ahead of the reader; by default twice what can run at once, more for
        functions that prove quick; and none while arguments and results that wait take ``window_bytes`` or more.
        Where the pool is full (``max_pending``) it waits. ``return_exceptions`` hands exceptions over in place of
        results instead of raising the first. The other options are those of `submit`, for each item.

        Raises as `submit` does; what concerns one item is raised at its place. See `MapResults` for how it ends.
        """
        master = self._open_master()
        kinds = check_task_options(timeout, retries, retry_on, priority)
        if not iterables:
            raise TypeError("map needs at least one iterable")
        for source in iterables:
            if not isinstance(source, Iterable | AsyncIterable):
                raise TypeError(f"map needs iterables, not {source!r}")
        record = self._functions.lookup(function)
        record.refuse_generator()
        if window is not None:
            check_count("window", window)
        check_count("window_bytes", window_bytes)
        values = self._context()

        def size() -> int:
            known = record.seconds
            return window or window_size(self._size, self._options.concurrency, record.is_async, known)

        def new_task(record: Any, payload: bytes, sink: Any) -> MapTask:
            return MapTask(0, record, payload, sink, timeout, retries, kinds, priority)

        def accept(task: MapTask) -> None:
            self._accept(task, values)

        state = MapState(
            master,
            self._functions,
            function,
            iterables,
            ordered=ordered,
            window=size,
            window_bytes=window_bytes,
            return_exceptions=return_exceptions,
            new_task=new_task,
            accept=accept,
        )
        master.maps.add(state)
        return MapResults(state)

    @property
    def executor(self) -> PoolExecutor:
        """The pool as a `concurrent.futures.Executor`, for any thread; the same one until that is shut down."""
        if self._executor.is_shut_down:
            self._executor = PoolExecutor(self._inbox)
        return self._executor

    @overload
    def stream(
        self, function: Callable[[Unpack[Ts]], AsyncIterable[T]], *args: *Ts, window: int = 64, priority: int = 0
    ) -> StreamResults[T]: ...
    @overload
    def stream(
        self, function: Callable[[Unpack[Ts]], Iterable[T]], *args: *Ts, window: int = 64, priority: int = 0
    ) -> StreamResults[T]: ...
    def stream(  # type: ignore[misc]
        self, function: Callable[..., Any], *args: Any, window: int = 64, priority: int = 0
    ) -> StreamResults[Any]:
        """Run a generator function, async or sync, in a worker and return what it yields, as an async iterator::

            async for row in pool.stream(read_rows, path): ...

        The generator goes on while the reader is no more than ``window`` items, or 1 MiB of them, behind; then it
        waits inside its ``yield``. It runs as any task does: an async one beside others, a sync one alone.
        It is never tried again, since items have been handed out. See `StreamResults` for how it ends.

        Raises as `submit` does; what the generator raises comes after its items, and so does WorkerCrashed.
        """
        master = self._open_master()
        check_task_options(None, 0, (), priority)
        check_count("window", window)
        master.room.check()
        record, payload = self._functions.prepare(function, args)
        record.refuse_coroutine()
        record = copy.copy(record)  # how long the function has taken elsewhere says nothing about how long it is read
        record.seconds = None
        state = StreamState(master, window)
        values = self._context()
        if values is not None:
            payload = pickle.dumps((values, payload), 5)
        payload = pickle.dumps((window, STREAM_BYTES, payload), 5)
        state.task = StreamTask(0, record, payload, state, priority=priority, take=state.take)
        state.task.envelopes = STREAM | (0 if values is None else CONTEXT)
        self._accept(state.task, None)
        master.streams.add(state)
        return StreamResults(state)

    # -- how many, and when --------------------------------------------------------------------------

    def resize(self, workers: int) -> None:
        """Have so many workers from here on; it no longer grows and shrinks by itself.

        New ones start at once; of too many, those with the least to do stop when they have done what they have.
        Raises PoolClosed, TypeError or ValueError where ``workers`` is no positive whole number.
        """
        check_count("workers", workers)
        master = self._open_master()
        self._size, self._sizing = workers, "resize"
        master.staffing.resize(workers)

    def pause(self) -> None:
        """Start no more tasks until `resume`; those that run go on, new ones are accepted. Raises PoolClosed."""
        self._open_master().pause()

    def resume(self) -> None:
        """Start tasks again; not paused: do nothing. Raises PoolClosed. Closing the pool resumes it, too."""
        self._open_master().resume()

    async def drain(self) -> None:
        """Wait until every accepted task has settled; the pool stays open.

        Raises PoolClosed, and RuntimeError where it is paused and tasks are queued, so that it would wait for ever.
        Cancelling it changes nothing.
        """
        master = self._open_master()
        if master.paused and master.scheduler.queued:
            raise RuntimeError("the pool is paused: its tasks cannot settle before resume()")
        await master.wait_idle()

    async def wait_room(self) -> None:
        """Wait until another task may be submitted (``max_pending``, ``max_pending_bytes``); raises PoolClosed."""
        await self._open_master().wait_room()

    # -- looking in ----------------------------------------------------------------------------------

    def statistics(self) -> PoolStatistics:
        """Return what the pool is doing, or what it has done once it is closed; raises PoolClosed before it is open."""
        if self._master is not None:
            return self._snapshot(self._master)
        if self._final is not None:
            return self._final
        raise PoolClosed("the pool is not open yet: use 'async with'")

    def _snapshot(self, master: Master) -> PoolStatistics:
        now = time.monotonic()
        workers = tuple(
            WorkerStatistics(w.number, w.pid, w.state, len(w.in_flight), w.finished, now - w.started_at)
            for _, w in sorted(master.crew.workers.items())
        )
        names = ("done", "failed", "cancelled", "timed_out", "retried", "quarantined", "crashes")
        return PoolStatistics(
            workers=workers,
            zygote_pid=master.crew.zygote_pid,
            queued=master.scheduler.queued,
            in_flight=sum(worker.in_flight for worker in workers),
            submitted=master.submitted,
            restarts=master.crew.restarts,
            recycled=master.crew.recycled,
            pending=master.room.tasks,
            pending_bytes=master.room.bytes,
            paused=master.paused,
            **{name: master.counts[name] for name in names},
        )

    def _open_master(self) -> Master:
        master = self._master
        if master is None:
            if not self._closed:
                raise PoolClosed("the pool is not open yet: use 'async with'")
            raise PoolClosed(f"the pool is closed: it takes no more tasks{self._host.advice if self._host else ''}")
        master.check_open()
        return master


def _is_sendable(value: object) -> bool:
    try:
        dump(value)
    except Exception:
        return False
    return True


async def _end(master: Master, drop: bool, patience: float) -> None:
    """End what the pool still has, within ``patience`` seconds, and its processes."""
    loop = asyncio.get_running_loop()
    deadline = min(loop.time() + patience, shutdown_deadline())
    if drop:
        master.drop_queued()
        try:
            async with asyncio.timeout_at(deadline):
                await master.wait_idle()
        except TimeoutError:
            master.cancel_running()
            master.crew.stop_replacing()
            master.crew.kill("the pool was closed")
    await master.let_maps_go()
    await master.crew.stop(max(loop.time() + 1.0, min(deadline, loop.time() + 5.0)))
    master.close()
