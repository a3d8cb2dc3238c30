"""How a program ends on signals: `run` and `graceful_shutdown`.

The innermost `graceful_shutdown` hears SIGTERM and SIGINT; where there is none, `run` does (how that works:
`aioipc._loop.signal_routing`). The first signal asks, with one absolute deadline for everything below; the second kills
all worker groups at once.

Rejected: raising KeyboardInterrupt in the main task. It may strike between any two bytecodes, also inside the
clean-up that it is meant to start.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import math
import os
import signal
import sys
from asyncio import _get_running_loop  # public by asyncio's __all__
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, TypeVarTuple, Unpack, overload

from .._loop.factory import loop_factory
from .._loop.signal_routing import Listener, Subscription, need_main_thread
from ..exceptions import ShutdownTimeout
from .zygote import kill_every_child

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
DEFAULT_TIMEOUT = 25.0
"""Seconds; containers kill after 30."""
_LAST_RESORT = 2.0

_deadline = math.inf


def shutdown_deadline() -> float:
    """Return the moment (loop time) by which everything must have ended; infinity while no shutdown is under way."""
    return _deadline


def _set_deadline(when: float) -> None:
    global _deadline
    _deadline = when


@contextlib.contextmanager
def _listening(loop: asyncio.AbstractEventLoop, listener: Listener) -> Iterator[None]:
    """Send SIGTERM and SIGINT to the listener; restores the deadline, and gives the signals back."""
    deadline = shutdown_deadline()
    subscription = Subscription(loop, SIGNALS, listener, functools.partial(_end_process, clean=False))
    try:
        yield
    finally:
        _set_deadline(deadline)
        subscription.close()


class GracefulShutdown:
    """What ``graceful_shutdown()`` gives; see there."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.signum: signal.Signals | None = None
        """The signal that asked for the end; ``None`` before that, and after `request`."""
        self._asked = asyncio.Event()
        self._expired = ""
        self._timer: asyncio.TimerHandle | None = None
        self._scope = contextlib.ExitStack()
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    @property
    def is_requested(self) -> bool:
        """Whether the end has been asked for."""
        return self._asked.is_set()

    async def requested(self) -> signal.Signals | None:
        """Wait until the end is asked for and return the signal that did, at once if it has been already.

        Cancelling it changes nothing.
        """
        await self._asked.wait()
        return self.signum

    def request(self) -> None:
        """Ask for the end from inside the program, as a first signal would."""
        if not self._asked.is_set():
            loop = asyncio.get_running_loop()
            _set_deadline(loop.time() + self.timeout)
            self._timer = loop.call_later(self.timeout, self._expire, f"the deadline of {self.timeout:g} s passed")
            self._asked.set()

    def heard(self, signum: signal.Signals) -> bool:
        """Take a signal: the first asks, the second ends everything at once; False for any further one."""
        if self._expired:
            return False
        if self._asked.is_set():
            kill_every_child()
            self._expire(f"a second signal, {signum.name}, asked for an end at once")
        else:
            self.signum = signum
            self.request()
        return True

    def _expire(self, why: str) -> None:
        if not self._expired and self._task is not None:
            self._expired = why
            self._task.cancel()

    async def __aenter__(self) -> Self:
        need_main_thread("graceful_shutdown")
        if self._task is not None:
            raise RuntimeError("a graceful_shutdown is entered once; make a new one")
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._scope.enter_context(_listening(asyncio.get_running_loop(), self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._scope.close()
        if not self._expired or self._task is None:
            return
        remaining = self._task.uncancel()
        if kind is not None and issubclass(kind, asyncio.CancelledError) and remaining <= self._cancelling:
            raise ShutdownTimeout(f"the body of graceful_shutdown did not end by itself: {self._expired}") from error

    def __repr__(self) -> str:
        state = f"requested by {self.signum.name if self.signum else 'the program'}" if self.is_requested else "open"
        return f"<GracefulShutdown {state}, timeout {self.timeout:g} s>"


def graceful_shutdown(timeout: float = DEFAULT_TIMEOUT) -> GracefulShutdown:
    """Take SIGTERM and SIGINT as a request to finish, in an ``async with``::

        async with aioipc.graceful_shutdown(timeout=25) as shutdown:
            await shutdown.requested()
            ...                             # finish: ``timeout`` seconds are left

    The innermost of several hears the signals; leaving it gives them back to whoever had them. Past the deadline the
    body is cancelled and ShutdownTimeout raised; a second signal does so at once and kills all worker processes. The
    deadline also bounds the pools that are closed meanwhile.

    Raises ValueError for a timeout that is negative; entering raises RuntimeError outside of the main thread.
    """
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds from 0 on, not {timeout!r}")
    return GracefulShutdown(timeout)


class _Main:
    """The listener of `run`: cancels the main task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self.signum: signal.Signals | None = None
        self._loop = loop
        self._task = task
        self._timers: list[asyncio.TimerHandle] = []

    def heard(self, signum: signal.Signals) -> bool:
        """Take a signal."""
        if self.signum is None:
            self.signum = signum
            deadline = self._loop.time() + DEFAULT_TIMEOUT
            _set_deadline(deadline)
            self._timers.append(self._loop.call_at(deadline + _LAST_RESORT, self._end_now))
            self._task.cancel()
        else:
            self._end_now()
        return True

    def _end_now(self) -> None:
        """Kill the children; what then still does not end is ended by the signal itself."""
        kill_every_child()
        self._task.cancel()
        self._timers.append(self._loop.call_later(_LAST_RESORT, self._die))

    def _die(self) -> NoReturn:
        assert self.signum is not None
        print(f"aioipc: main did not end within its deadline after {self.signum.name}", file=sys.stderr)
        _end_process(self.signum, clean=False)

    def close(self) -> None:
        """Forget the timers."""
        for timer in self._timers:
            timer.cancel()


@overload
def run(main: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts) -> T: ...
@overload
def run(main: Coroutine[Any, Any, T]) -> T: ...
def run(main: Any, *args: Any) -> Any:  # type: ignore[misc]  # mypy cannot match a TypeVarTuple here
    """Run ``main(*args)``, or a coroutine, on uvloop where it is installed, and return its result.

    SIGTERM and SIGINT cancel it; its clean-up, pools included, then has 25 s. Where it ends by that cancellation,
    the process ends as the signal says: SIGINT by SystemExit(130), SIGTERM by SIGTERM itself (as PID 1, where
    the kernel ignores that, by SystemExit(143)). A second signal kills all worker processes at once. Where main
    returns in spite of the signal, its result is returned; where it raises, that is raised.

    Raises RuntimeError where a loop is running in this thread already, or outside of the main thread, TypeError where
    ``main`` is neither a function nor a coroutine, or does not return an awaitable.
    """
    try:
        need_main_thread("aioipc.run")
        if _get_running_loop() is not None:
            raise RuntimeError(
                "aioipc.run needs to start the loop, and one runs in this thread: await main there instead"
            )
    except RuntimeError:
        if inspect.iscoroutine(main):
            main.close()
        raise
    if not (callable(main) or inspect.iscoroutine(main)):
        raise TypeError(f"aioipc.run needs an async function or a coroutine, not {main!r}")
    if inspect.iscoroutine(main) and args:
        main.close()
        raise TypeError("aioipc.run takes arguments only together with a function")
    with _handlers_restored(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        result, signum = runner.run(_supervise(main, args))
    if signum is not None:
        _end_process(signum, clean=True)
    return result


@contextlib.contextmanager
def _handlers_restored() -> Iterator[None]:
    """Have the same handlers at the end as at the beginning."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None and signal.getsignal(signum) is not handler:
                signal.signal(signum, handler)


async def _supervise(main: Any, args: tuple[Any, ...]) -> tuple[Any, signal.Signals | None]:
    """Run main as a task; returns its result, and the signal that ended it where one did."""
    loop = asyncio.get_running_loop()
    awaitable: Awaitable[Any] = main if inspect.iscoroutine(main) else main(*args)
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"{main!r} returned {awaitable!r}, which cannot be awaited: aioipc.run needs an async function")
    task = asyncio.ensure_future(awaitable)
    listener = _Main(loop, task)
    try:
        with _listening(loop, listener):
            return await task, None
    except asyncio.CancelledError:
        if listener.signum is None:
            raise
        for signum in SIGNALS:  # a further one ends the process at once: Python's own would break into the closing loop
            signal.signal(signum, signal.SIG_DFL)
        return None, listener.signum
    finally:
        listener.close()


def _end_process(signum: signal.Signals, *, clean: bool) -> NoReturn:
    """End this process as the signal would have, after clean-up where that is still possible."""
    if signum == signal.SIGINT or os.getpid() == 1:
        if clean:
            raise SystemExit(128 + signum)
        os._exit(128 + signum)
    if clean:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the signal is blocked: still no way back
