"""The pool as a `concurrent.futures.Executor`: for threads, and for libraries that ask for an executor.

    any thread                                          the loop's thread
    submit ── pickles, puts the task into the Inbox ──> hands all that has come to the master
    cancel ── settles the future by itself ───────────> takes the task out of the queue
    result <── waits on the future ──────────────────── settles the future

The first call of a burst wakes the loop, the others find it awake. There is no lock: a finalizer or a signal
handler may submit or cancel in the midst of another call. A task must not start once its future was cancelled,
so the master claims the future (PENDING to RUNNING, under the future's own lock) before it sends the task.
"""

from __future__ import annotations

import asyncio
import functools
import time
from asyncio import _get_running_loop  # public by asyncio's __all__; None instead of an exception
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ..exceptions import PoolClosed, RemoteError
from .functions import FunctionTable
from .job import Task

if TYPE_CHECKING:
    from .master import Master

P = ParamSpec("P")
T = TypeVar("T")

LOOK_AROUND = 1.0
"""Seconds after which a waiting thread looks whether the loop was closed under the pool; nothing else would tell it."""


class ExecutorTask(Task):
    """A task whose future other threads may cancel until it is claimed."""

    __slots__ = ()

    def claim(self) -> bool:
        """See `Task.claim`."""
        return isinstance(self.sink, PoolFuture) and self.sink.claim()


class PoolFuture(Future[T]):
    """What `PoolExecutor.submit` returns: a `concurrent.futures.Future` that refuses to block the pool's own loop.

    It is running from when its task is sent to a worker, and cannot be cancelled from then on. Its callbacks are
    called in the loop's thread, or in the thread that cancels it.
    """

    def __init__(self, inbox: Inbox, executor: PoolExecutor) -> None:
        super().__init__()
        self._inbox = inbox
        self._executor = executor
        self._task: ExecutorTask | None = None  # until it has settled
        self._claimed = False  # read and written in the loop's thread only

    def result(self, timeout: float | None = None) -> T:
        """Wait, at most ``timeout`` seconds, and return what the function returned.

        Raises what the function raised or `Pool.submit` lists, TimeoutError, `concurrent.futures.CancelledError`.
        Raises RuntimeError where it would have to wait in the thread of the pool's loop.
        """
        self._wait(timeout)
        try:
            return super().result(0)
        finally:
            del self  # the exception's traceback leads here, and from here to the exception

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait, at most ``timeout`` seconds, and return the exception, or ``None``; raises as `result` does."""
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Settle it as cancelled, so that its task never starts; False where that is sent to a worker already."""
        cancelled = super().cancel()
        if cancelled and (task := self._task) is not None:
            self._inbox.put_cancel(task)
        return cancelled

    def _wait(self, timeout: float | None) -> None:
        """Wait until it is done or the time is over."""
        if self.done() or (timeout is not None and timeout <= 0):
            return
        self._inbox.check_thread("waiting for this future", "'await asyncio.wrap_future(future)', or 'await pool.run'")
        end = None if timeout is None else time.monotonic() + timeout
        while not self.done() and (end is None or time.monotonic() < end):
            pause = LOOK_AROUND if end is None else min(LOOK_AROUND, end - time.monotonic())
            with suppress(TimeoutError):
                super().exception(max(0.0, pause))
            self._inbox.look_around()

    # -- in the loop's thread ------------------------------------------------------------------------

    def claim(self) -> bool:
        """Go from PENDING to RUNNING, unless another thread has cancelled it; may be called again."""
        if not self._claimed:
            self._claimed = True
            return self.set_running_or_notify_cancel()
        return not self.cancelled()

    def succeed(self, task: Task, value: T) -> None:
        """See `Sink`."""
        self._settle(self.set_result, value)

    def fail(self, task: Task, error: BaseException) -> None:
        """See `Sink`."""
        self._settle(self.set_exception, error)

    def stopped(self, task: Task) -> None:
        """See `Sink`."""
        if not self._claimed:
            self._settle(self._drop, None)
        elif self._inbox.open:
            self._settle(
                self.set_exception, RemoteError(f"{task!r} cancelled itself", type_name="asyncio.CancelledError")
            )
        else:
            self._settle(self.set_exception, PoolClosed(f"the pool was closed before {task!r} had ended"))

    def _settle(self, how: Callable[[Any], None], value: Any) -> None:
        """Settle it in a callback of its own: what users have attached to it does not run inside of the master."""
        self._inbox.call_soon(self._settle_now, how, value)

    def _settle_now(self, how: Callable[[Any], None], value: Any) -> None:
        self._inbox.unsettled.discard(self)
        self._task = None
        if how == self._drop:
            self._drop()
        elif self.claim():
            how(value)

    def _drop(self, _: None = None) -> None:
        """Settle it as cancelled, and tell those who wait for it among others."""
        super().cancel()
        self.claim()

    def abandon(self) -> None:
        """Settle it from any thread: nothing runs in the loop any more."""
        with suppress(InvalidStateError, RuntimeError):
            self.set_exception(PoolClosed("the event loop was closed with the pool still open"))


class Inbox:
    """How other threads reach a pool's loop. It is there as long as the pool object, and open as long as the pool."""

    def __init__(self, functions: FunctionTable) -> None:
        self.open: bool = False
        self.used: bool = False
        """Whether any task has come this way, so that the master has to `claim`."""
        self.unsettled: set[PoolFuture[Any]] = set()
        self.functions: FunctionTable = functions
        self._items: deque[tuple[Callable[[ExecutorTask], None], ExecutorTask]] = deque()
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._master: Master | None = None

    def start(self, loop: asyncio.AbstractEventLoop, master: Master) -> None:
        """Let tasks in, for this master."""
        self._loop, self._master = loop, master
        master.inbox = self
        self.open = True

    def close(self) -> None:
        """Hand over what was let in, and let no more in; cancelling goes on."""
        self.open = False
        self._hand_over()

    def check_open(self) -> None:
        """Raise RuntimeError, as executors do, where no task is let in."""
        if self.open and self._loop is not None and not self._loop.is_closed():
            return
        if self._master is None:
            raise RuntimeError("cannot schedule new futures: the pool is not open yet, use 'async with'")
        self.look_around()
        raise RuntimeError("cannot schedule new futures after shutdown: the pool is closed") from self._master.error

    def check_thread(self, what: str, instead: str) -> None:
        """Raise RuntimeError in the thread of the loop while it runs: it would wait for itself."""
        if self._loop is not None and self._loop is _get_running_loop():
            raise RuntimeError(f"{what} in the thread of the pool's event loop would block it for ever; use {instead}")

    def look_around(self) -> None:
        """Settle everything, in whichever thread, if the loop was closed with the pool still open."""
        if self._loop is not None and self._loop.is_closed():
            for future in self.unsettled.copy():
                future.abandon()
                self.unsettled.discard(future)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call a function; for its own thread."""
        assert self._loop is not None
        self._loop.call_soon(function, *arguments)

    def put(self, task: ExecutorTask) -> bool:
        """Let a task in; False where that came too late."""
        item = (self._submit, task)
        self._items.append(item)
        if not self.open:
            with suppress(ValueError):  # it was handed over at the last moment
                self._items.remove(item)
                return False
        return self._wake()

    def put_cancel(self, task: ExecutorTask) -> None:
        """Take the task of a cancelled future out of the master's queue."""
        self._items.append((self._cancel, task))
        self._wake()

    def _wake(self) -> bool:
        if self._awake:
            return True
        self._awake = True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:  # it is closed
            self._awake = False
            return False
        return True

    def _hand_over(self) -> None:
        self._awake = False  # first: what comes from now on wakes the loop again
        for _ in range(len(self._items)):
            hand, task = self._items.popleft()
            hand(task)

    def _submit(self, task: ExecutorTask) -> None:
        assert self._master is not None
        self.used = True
        task.number = self._master.next_number()
        self._master.submit(task)

    def _cancel(self, task: ExecutorTask) -> None:
        assert self._master is not None
        if task.number:  # else it was withdrawn, or is still to come and will not be claimed
            self._master.cancel(task)


class PoolExecutor(Executor):
    """A pool's `concurrent.futures.Executor`, got from `Pool.executor`; its methods may be called in any thread.

    ``with pool.executor as executor:`` shuts this executor down, not the pool.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._shut = False

    def __repr__(self) -> str:
        state = "shut down" if self._shut else "open" if self._inbox.open else "its pool is not open"
        return f"<PoolExecutor, {state}, {len(self._own())} unfinished>"

    @property
    def is_shut_down(self) -> bool:
        """Whether `shutdown` was called."""
        return self._shut

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have ``fn(*args, **kwargs)``, sync or async, run in a worker, and return its future at once.

        Function and arguments are pickled now, in this thread. Whatever is wrong with them is the future's
        exception (SerializationError, TypeError); otherwise it settles as a Job does.

        Raises RuntimeError after `shutdown`, and where the pool is not open.
        """
        self._check_open()
        future: PoolFuture[Any] = PoolFuture(self._inbox, self)
        try:
            function, payload = self._inbox.functions.prepare(functools.partial(fn, **kwargs) if kwargs else fn, args)
            function.refuse_generator()
        except Exception as error:
            future.set_exception(error)
            return future
        task = future._task = ExecutorTask(0, function, payload, future)
        self._inbox.unsettled.add(future)
        if self._shut or not self._inbox.put(task):  # by another thread, meanwhile
            self._inbox.unsettled.discard(future)
            future._drop()  # somebody may have seen it among the unsettled ones
            self._check_open()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept nothing more here, and wait until all futures of this executor are done; the pool stays open.

        ``cancel_futures`` cancels those that no worker has yet.

        Raises RuntimeError, and does nothing, where it would have to wait in the thread of the pool's loop.
        """
        if wait and self._own():
            self._inbox.check_thread("shutdown(wait=True)", "'shutdown(wait=False)', or await the futures first")
        self._shut = True
        own = self._own()
        if cancel_futures:
            for future in own:
                future.cancel()
        if wait:
            for future in own:
                future._wait(None)

    def _check_open(self) -> None:
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._inbox.check_open()

    def _own(self) -> list[PoolFuture[Any]]:
        """The futures of this executor that are not done."""
        return [f for f in self._inbox.unsettled.copy() if f._executor is self and not f.done()]
