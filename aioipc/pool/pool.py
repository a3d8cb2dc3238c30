"""`Pool`: run functions in worker processes and await them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import warnings
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, TypeVarTuple, Unpack, overload

import anyio

from ..exceptions import PoolClosed
from ..supervisor.shutdown import shutdown_deadline
from .crew import Crew
from .executor import Inbox, PoolExecutor
from .functions import FunctionTable
from .heartbeat import LEAST_TIMEOUT
from .job import Job, Task
from .mapping import MapResults, MapState, MapTask
from .master import Master
from .output_lines import OutputLine
from .relays import relay_options
from .sizing import default_workers
from .window import window_size

_log = logging.getLogger("aioipc.pool")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Source = Iterable[Any] | AsyncIterable[Any]


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker, as it was when it was asked for."""

    slot: int
    """Its place in the pool, from 0; a replacement takes the place over."""
    pid: int | None
    """``None`` until the process exists."""
    state: str
    """STARTING, RUNNING, DRAINING or STOPPING."""
    in_flight: int
    """Tasks it has, running or waiting in it."""
    finished: int
    """Tasks it has answered."""
    age: float
    """Seconds since it was asked for."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool, as it was when it was asked for. Counts are of tasks since the pool was opened."""

    workers: tuple[WorkerStatistics, ...]
    zygote_pid: int
    queued: int
    """Accepted and not yet with a worker."""
    in_flight: int
    """With a worker."""
    submitted: int
    done: int
    failed: int
    cancelled: int
    timed_out: int
    """Attempts ended by their timeout."""
    retried: int
    """Attempts made again, after a crash or an exception in ``retry_on``."""
    quarantined: int
    crashes: int
    """Workers that died while they ran tasks."""
    restarts: int
    """Workers started beyond the first of each place."""


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

    Raises TypeError and ValueError for options that cannot be, UnsupportedPlatform elsewhere than on Linux.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        concurrency: int = 16,
        heartbeat_timeout: float = 30.0,
        grace: float = 3.0,
        shutdown: float = 25.0,
        preload: Sequence[str] = (),
        start_method: Literal["zygote", "spawn"] = "zygote",
        spin: float = 0.0,
        logs: bool = True,
        capture: bool | Callable[[OutputLine], object] = False,
    ) -> None:
        if workers is None:
            workers, self._sizing = default_workers()
        else:
            self._sizing = "the argument"
        self._size = _count("workers", workers)
        self._concurrency = _count("concurrency", concurrency)
        self._heartbeat_timeout = _seconds("heartbeat_timeout", heartbeat_timeout, LEAST_TIMEOUT)
        self._grace = _seconds("grace", grace)
        self._shutdown = _seconds("shutdown", shutdown)
        self._spin = _seconds("spin", spin)
        if start_method not in ("zygote", "spawn"):
            raise ValueError(f"start_method must be 'zygote' or 'spawn', not {start_method!r}")
        if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
            raise TypeError(f"preload must be a sequence of module names, not {preload!r}")
        self._preload = tuple(preload)
        self._fresh = start_method == "spawn"
        self._relay = relay_options(logs, capture)
        self._functions = FunctionTable()
        self._inbox = Inbox(self._functions)
        self._executor = PoolExecutor(self._inbox)
        self._master: Master | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._final: PoolStatistics | None = None

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
        self._loop = asyncio.get_running_loop()
        master = Master(self._loop, concurrency=self._concurrency, grace=self._grace)
        options = {
            "heartbeat_timeout": self._heartbeat_timeout,
            "concurrency": self._concurrency,
            "spin": self._spin,
        }
        master.crew = Crew(
            self._loop, self._size, master, options, preload=self._preload, fresh=self._fresh, relay=self._relay
        )
        master.watch_hearts(self._heartbeat_timeout)
        self._master = master
        _log.info("%d workers, by %s", self._size, self._sizing)
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
            await self._close(drop=True, patience=self._shutdown)

    async def aclose(self) -> None:
        """Close the pool as leaving its ``async with`` does: wait for all accepted tasks, then end the workers.

        Being cancelled meanwhile turns it into an end by exception: what is queued is dropped, what runs gets
        ``shutdown`` seconds. It returns, or raises CancelledError, when no process is left. May be called twice.
        """
        await self._close(drop=False, patience=math.inf)

    async def _close(self, *, drop: bool, patience: float) -> None:
        if self._master is not None and self._ending is None:
            self._master.stop_accepting()
            if not drop:
                try:
                    await self._master.wait_idle()
                except asyncio.CancelledError:
                    await self._end(drop=True, patience=self._shutdown)
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
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while self._ending is not None and not self._ending.done():
                try:
                    await asyncio.wait([self._ending])
                except asyncio.CancelledError as error:
                    cancelled = error
        if self._ending is not None:
            self._ending.result()
        if cancelled is not None:
            raise cancelled

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
        """Run ``function(*args)`` in a worker and return what it returns.

        Raises what the function raises, and what `submit` and awaiting its Job raise. Cancelling it ends the work
        before CancelledError comes back (see `Job`).
        """
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

        Raises PoolClosed, TypeError or ValueError for options that cannot be, SerializationError where function or
        arguments cannot be sent. Awaiting the Job raises the function's own exception with the remote traceback as
        its cause, WorkerCrashed, TaskTimeout, TaskQuarantined, WorkerBootError or RemoteError.
        """
        master = self._open_master()
        if timeout is not None or retries or retry_on or type(priority) is not int:
            retry_on = _check_options(timeout, retries, retry_on, priority)
        record, payload = self._functions.prepare(function, args)
        job: Job[Any] = Job(loop=self._loop)
        task = Task(master.next_number(), record, payload, job, timeout, retries, retry_on, priority)  # type: ignore[arg-type]
        job._master, job._task = master, task
        master.submit(task)
        return job

    @overload
    def map(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Source,
        ordered: bool = True,
        window: int | None = None,
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
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        priority: int = 0,
        return_exceptions: bool = False,
    ) -> MapResults[Any]:
        """Run the function on every item and return the results as an async iterator, in order or as they come.

        Takes sync and async iterables; of several, one item each per call, until the shortest ends. It is lazy: at
        most ``window`` items are taken ahead of the reader; by default twice what can run at once, more for
        functions that prove quick. ``return_exceptions`` hands exceptions over in place of results instead of
        raising the first. The other options are those of `submit`, for each item.

        Raises as `submit` does; what concerns one item is raised at its place. See `MapResults` for how it ends.
        """
        master = self._open_master()
        retry_on = _check_options(timeout, retries, retry_on, priority)
        if not iterables:
            raise TypeError("map needs at least one iterable")
        for source in iterables:
            if not isinstance(source, Iterable | AsyncIterable):
                raise TypeError(f"map needs iterables, not {source!r}")
        record = self._functions.lookup(function)
        if window is not None:
            _count("window", window)

        def size() -> int:
            known = record.seconds
            return window or window_size(self._size, self._concurrency, record.is_async, known)

        def new_task(record: Any, payload: bytes, sink: Any) -> MapTask:
            return MapTask(master.next_number(), record, payload, sink, timeout, retries, retry_on, priority)

        state = MapState(
            master,
            self._functions,
            function,
            iterables,
            ordered=ordered,
            window=size,
            return_exceptions=return_exceptions,
            new_task=new_task,
        )
        master.maps.add(state)
        return MapResults(state)

    @property
    def executor(self) -> PoolExecutor:
        """The pool as a `concurrent.futures.Executor`, for any thread; the same one until that is shut down."""
        if self._executor.is_shut_down:
            self._executor = PoolExecutor(self._inbox)
        return self._executor

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
            restarts=max(0, master.crew.started - self._size),
            **{name: master.counts[name] for name in names},
        )

    def _open_master(self) -> Master:
        master = self._master
        if master is None:
            state = "closed" if self._closed else "not open yet: use 'async with'"
            raise PoolClosed(f"the pool is {state}")
        master.check_open()
        return master


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


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def _seconds(name: str, value: object, least: float = 0.0) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not value >= least or math.isinf(value):
        raise ValueError(f"{name} must be at least {least:g} s and finite, not {value}")
    return float(value)


def _check_options(
    timeout: object, retries: object, retry_on: object, priority: object
) -> tuple[type[BaseException], ...]:
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"priority must be a whole number, not {priority!r}")
    if timeout is not None and not _seconds("timeout", timeout):
        raise ValueError("timeout must be more than 0 s")
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries must not be negative: {retries}")
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on must be an exception class or a tuple of them, not {retry_on!r}")
    if kinds and not retries:
        raise ValueError("retry_on without retries never tries again: say how often")
    return kinds
