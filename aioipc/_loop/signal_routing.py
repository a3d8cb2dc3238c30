"""Who hears a signal: the one place of aioipc that installs signal handlers and gives them back.

Each signal has a stack of listeners. The newest hears it; one that is at its end passes it outward, to the next one;
where nobody wants it, it acts as it would have before. So a signal is handled once. Rejected: telling all of them,
by which a program would reload twice, or end although a library has dealt with the signal.

Why not ``loop.add_signal_handler``:

- It replaces whatever was there, and gives the default back instead. For a moment SIGTERM kills.
- asyncio's keeps a signal only as a byte in a socket, which is full after some 280 of them: while the loop is
  blocked, signals get lost.
- With its last handler it takes the wake-up descriptor away, whosever that is.

Here one call of ``signal.signal`` leads from one handler to the next, and back, with no moment in between. The handler
notes the signal and schedules the rest in the loop; nothing else happens in signal context. The wake-up descriptor
(``signal.set_wakeup_fd``) only wakes: nothing is lost where it is full, or is taken by somebody else.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NamedTuple, Protocol

from .._sys import signal_mask
from .._sys.signals import get_action, set_action
from .wake_up import WakeUp, leave_wake_ups

_LOOP_HANDLER_HOMES = ("asyncio.unix_events", "uvloop.loop")
"""Where the placeholders are from that loops give to signal.signal beside their own callback."""


class Listener(Protocol):
    """Who wants to hear signals; called in the loop, not in signal context."""

    def heard(self, signum: signal.Signals) -> bool:
        """A signal has come; False where this listener has done all it can."""


class _Entry(NamedTuple):
    loop: asyncio.AbstractEventLoop
    listener: Listener
    last_resort: Callable[[signal.Signals], object] | None


_routes: dict[signal.Signals, _Route] = {}


class Subscription:
    """A listener at the top of the stacks of some signals, until `close`.

    A signal that the main thread blocks is let in meanwhile. ``last_resort`` is called, while this is the newest
    subscription, with a signal that every listener has refused; by default it acts as it would have before.

    Raises RuntimeError outside of the main thread, and where a loop routes one of the signals to somebody else
    (``loop.add_signal_handler``): that could not be given back to them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        signums: Iterable[signal.Signals],
        listener: Listener,
        last_resort: Callable[[signal.Signals], object] | None = None,
    ) -> None:
        need_main_thread("receiving signals")
        wanted = list(signums)
        for signum in wanted:
            _refuse_foreign_handler(signum)
        self._entry = _Entry(loop, listener, last_resort)
        self._wake_up = WakeUp.of(loop)
        self._routes = [_current_route(signum) for signum in wanted]
        for route in self._routes:
            route.add(self._entry)
        signal_mask.hold(self, wanted, blocked=False)

    def replaced(self) -> signal.Signals | None:
        """Return a signal that is lost to this subscription, because somebody else has installed a handler."""
        self._wake_up.ensure()
        return next((each.signum for each in self._routes if not each.stands()), None)

    def close(self, unread: Iterable[signal.Signals] = ()) -> None:
        """Give the signals back to whoever had them before.

        Those that were noted but not heard, and the ``unread`` that the listener has heard but not used, are sent to
        this thread again: they act as if they had come after this. Raises what the handlers raise by that.
        """
        again = dict.fromkeys(unread)
        signal_mask.release(self)
        for route in self._routes:
            if route.remove(self._entry):
                again[route.signum] = None
        self._wake_up.let_go()
        _send_again(list(again))


class _Route:
    """The handler of one signal, as given to ``signal.signal``, and its stack of listeners."""

    def __init__(self, signum: signal.Signals) -> None:
        self.signum = signum
        self.entries: list[_Entry] = []  # newest last
        self._before: Any = signal.getsignal(signum)
        self._action = get_action(signum)
        self._noted = False
        signal.signal(signum, self)
        signal.siginterrupt(signum, False)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Note the signal. This runs between any two bytecodes of the main thread."""
        for entry in reversed(self.entries):
            if not entry.loop.is_closed():
                if not self._noted:
                    self._noted = True
                    entry.loop.call_soon_threadsafe(self._deliver, context=contextvars.Context())
                return
        self._act_as_before(frame)

    def stands(self) -> bool:
        """Whether this is still the handler of its signal."""
        handler: object = signal.getsignal(self.signum)
        return handler is self

    def add(self, entry: _Entry) -> None:
        """Put a listener on top of the stack; it hears what another loop has noted and not run long enough to say."""
        self.entries.append(entry)
        if self._noted:
            entry.loop.call_soon(self._deliver, context=contextvars.Context())

    def remove(self, entry: _Entry) -> bool:
        """Take a listener off the stack; True where a signal was noted that has reached nobody."""
        if entry in self.entries:  # not so in a forked child
            self.entries.remove(entry)
            if not self.entries:
                self.give_back()
        if self._noted:  # a signal may come between any two steps here: none of them may forget it
            self._noted = False
            return True
        return False

    def give_back(self) -> None:
        """Put back what there was before, unless somebody has replaced us meanwhile."""
        if _routes.get(self.signum) is self:
            del _routes[self.signum]
        if self.stands():
            before = _still_valid(self.signum, self._before)
            signal.signal(self.signum, before)
            if before is self._before or self._before is None:
                set_action(self.signum, self._action)

    def _deliver(self) -> None:
        if not self._noted:
            return
        self._noted = False
        entries = [entry for entry in reversed(self.entries) if not entry.loop.is_closed()]
        if any(entry.listener.heard(self.signum) for entry in entries):
            return
        if entries and entries[0].last_resort is not None:
            entries[0].last_resort(self.signum)
        else:
            self._act_as_before(None)

    def _act_as_before(self, frame: FrameType | None) -> None:
        """Do what would be done without us: also for who has kept this handler and put it back too late."""
        before = _still_valid(self.signum, self._before)
        if callable(before):
            before(self.signum, frame)
        elif before == signal.SIG_DFL:
            signal.signal(self.signum, signal.SIG_DFL)
            signal.raise_signal(self.signum)


def need_main_thread(what: str) -> None:
    """Raise RuntimeError outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{what} handles signals, which Python allows in the main thread only")


def _current_route(signum: signal.Signals) -> _Route:
    """Return the route of a signal; a new one where there is none, or where somebody has replaced it."""
    route = _routes.get(signum)
    if route is None or not route.stands():
        route = _routes[signum] = _Route(signum)
    return route


def _refuse_foreign_handler(signum: signal.Signals) -> None:
    if getattr(signal.getsignal(signum), "__module__", "") in _LOOP_HANDLER_HOMES:
        raise RuntimeError(
            f"{signum.name} has a handler by loop.add_signal_handler, which would be lost: remove that one"
        )


def _still_valid(signum: signal.Signals, handler: Any) -> Any:
    """Return what to give a signal back to; an `asyncio.Runner` past its end does not want SIGINT back."""
    if handler is None:
        return signal.SIG_DFL
    of_runner = getattr(getattr(handler, "func", None), "__func__", None) is asyncio.Runner._on_sigint  # type: ignore[attr-defined]
    if signum == signal.SIGINT and of_runner and handler.keywords["main_task"].done():
        return signal.default_int_handler
    return handler


def _send_again(signums: list[signal.Signals]) -> None:
    if signums:
        try:
            signal.raise_signal(signums[0])
        finally:  # a handler may raise, as SIGINT's does
            _send_again(signums[1:])


class _Fork(threading.local):
    mask: set[int] | None = None  # of the thread that forks, before that


_fork = _Fork()


def _hold_signals() -> None:
    """Keep a signal for a child that is being forked until the child has handlers of its own."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _routes) if _routes else None


def _let_signals_in() -> None:
    if _fork.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _leave_to_child() -> None:
    """Make a forked child deaf to what only its parent has asked for: it has the handlers that were there before."""
    leave_wake_ups()
    for route in list(_routes.values()):
        route.entries.clear()
        route.give_back()
    _let_signals_in()
    signal_mask.release_all()


os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_in, after_in_child=_leave_to_child)
