"""What a program does on which signal: a table of responses.

Each signal has at most one response running, as the kernel blocks a signal while its handler runs. What comes
meanwhile makes the response run once more, however often it came.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import signal
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio

from aioipc._loop.signal_routing import Subscription, need_main_thread
from aioipc._sys.signals import name

from .signals import check_signal  # the same signals, refused with the same words

_logger = logging.getLogger("aioipc.signals")


class SignalRunbook:
    """Responds to signals while the body of an ``async with`` runs::

        async with aioipc.SignalRunbook({signal.SIGHUP: reload_config, signal.SIGUSR1: dump_state}):
            await serve()

    ``responses`` are functions without arguments. They run in the event loop, so a sync one must be quick; async ones
    of different signals run side by side. Of one signal a single response runs at a time. Where it comes again
    meanwhile, the response runs once more after that. An exception of a response is logged (logger ``aioipc.signals``)
    and changes nothing else; SystemExit and KeyboardInterrupt end the loop, as in any callback.

    Leaving gives the signals back (see `open_signal_receiver`): what came and was not begun acts as if it came then.
    Running responses have ``shutdown`` seconds to end and are cancelled after that; those that do not end by it within
    another ``shutdown`` seconds are logged and left alone. Cancelling the leaving cancels them at once.

    Raises TypeError for responses that are no functions and for a ``shutdown`` that is no number, ValueError for an
    empty table, a negative ``shutdown``, and signals that cannot be received. Entering raises RuntimeError outside of
    the main thread, where ``loop.add_signal_handler`` has taken a signal, and the second time.
    """

    def __init__(self, responses: Mapping[int, Callable[[], object]], *, shutdown: float = 5.0) -> None:
        self._responses = _check_responses(responses)
        self._shutdown = _check_seconds(shutdown)
        self._waiting: dict[signal.Signals, None] = {}  # in the order in which they came
        self._running: dict[signal.Signals, asyncio.Task[None]] = {}
        self._subscription: Subscription | None = None
        self._context = contextvars.Context()

    @property
    def running(self) -> frozenset[signal.Signals]:
        """The signals whose responses run now."""
        return frozenset(self._running)

    async def __aenter__(self) -> Self:
        need_main_thread("SignalRunbook")
        if self._subscription is not None:
            raise RuntimeError("a SignalRunbook is entered once; make a new one")
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._subscription = Subscription(self._loop, self._responses, self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._subscription is not None
        waiting, self._waiting = self._waiting, {}
        try:
            self._subscription.close(waiting)
        finally:
            await self._let_end()

    def heard(self, signum: signal.Signals) -> bool:
        """Take a signal: respond, or remember that it came while the response runs."""
        if signum in self._running:
            self._waiting[signum] = None
        else:
            self._respond(signum)
        return True

    def _respond(self, signum: signal.Signals) -> None:
        task = self._loop.create_task(
            _run(signum, self._responses[signum]), name=f"response to {signum.name}", context=self._context.copy()
        )
        self._running[signum] = task
        task.add_done_callback(functools.partial(self._responded, signum))

    def _responded(self, signum: signal.Signals, task: asyncio.Task[None]) -> None:
        del self._running[signum]
        if not task.cancelled():
            task.exception()  # SystemExit and the like, which the loop has raised: no need to say so once more
        if signum in self._waiting:
            del self._waiting[signum]
            self._respond(signum)

    async def _let_end(self) -> None:
        """Wait for what runs, also in a cancelled scope; a cancellation from outside comes out when it has ended."""
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            for _ in range(2):
                if not (tasks := list(self._running.values())):
                    break
                try:
                    await asyncio.wait(tasks, timeout=self._shutdown)
                except asyncio.CancelledError as caught:
                    cancelled = caught
                for task in tasks:
                    task.cancel()
            await asyncio.sleep(0)  # for the callbacks of those that have just ended
        for signum in self._running:
            _logger.warning("the response to %s does not end, although it was cancelled", signum.name)
        if cancelled is not None:
            raise cancelled

    def __repr__(self) -> str:
        return f"<SignalRunbook for {', '.join(signum.name for signum in self._responses)}>"


async def _run(signum: signal.Signals, response: Callable[[], Any]) -> None:
    try:
        result = response()
        if inspect.isawaitable(result):
            await result
    except Exception:
        _logger.exception("the response to %s failed", signum.name)


def _check_responses(responses: Mapping[int, Any]) -> dict[signal.Signals, Callable[[], object]]:
    if not isinstance(responses, Mapping):
        raise TypeError(f"SignalRunbook needs a mapping of signals to functions, not {responses!r}")
    if not responses:
        raise ValueError("SignalRunbook needs at least one signal")
    checked = {}
    for signum, response in responses.items():
        number = signal.Signals(check_signal(signum, values=False))
        if not callable(response):
            if inspect.iscoroutine(response):
                response.close()
            raise TypeError(f"the response to {name(number)} must be a function without arguments, not {response!r}")
        checked[number] = response
    return checked


def _check_seconds(shutdown: object) -> float:
    if not isinstance(shutdown, int | float) or isinstance(shutdown, bool):
        raise TypeError(f"shutdown must be a number of seconds, not {shutdown!r}")
    if not shutdown >= 0:
        raise ValueError(f"shutdown must be a number of seconds from 0 on, not {shutdown!r}")
    return float(shutdown)
