"""The pool as a `concurrent.futures.Executor`: for threads, and for libraries that ask for an executor.

    any thread                                          the loop's thread
    submit ── pickles, puts the task into the Inbox ──> hands all that has come to the master
    cancel ── settles the future by itself ───────────> takes the task out of the queue
    result <── waits on the future ──────────────────── settles the future

A task must not start once its future was cancelled, so the master claims the future (PENDING to RUNNING, under the
future's own lock) before it sends the task.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, overload

from ..exceptions import PoolClosed, RemoteError
from .inbox import Inbox
from .job import Task

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
            with suppress(TimeoutError, CancelledError):
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
        self._task = None
        try:
            if how == self._drop:
                self._drop()
            elif self.claim():
                how(value)
        finally:
            self._inbox.unsettled.discard(self)

    def _drop(self, _: None = None) -> None:
        """Settle it as cancelled, and tell those who wait for it among others."""
        super().cancel()
        self.claim()

    def abandon(self) -> None:
        """Settle it from any thread: nothing runs in the loop any more."""
        with suppress(InvalidStateError, RuntimeError):
            self.set_exception(PoolClosed("the event loop was closed with the pool still open"))


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
