"""Signals that a handler has noted and that nobody has taken yet."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable

from ..exceptions import BrokenResourceError
from .readiness import Readiness
from .signal_routing import Subscription


class SignalInbox:
    """Listens to signals and keeps them; it is also the readiness that a wait queue needs."""

    def __init__(self, signums: list[signal.Signals]) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: deque[signal.Signals] = deque()
        self._report: Callable[[], bool] | None = None
        self._subscription = Subscription(self._loop, signums, self)

    @property
    def readiness(self) -> Readiness:
        """Who tells that a signal is there."""
        return self

    def heard(self, signum: signal.Signals) -> bool:
        """Keep the signal; one that is here already counts once, as it would in the kernel."""
        if signum not in self._unread:
            self._unread.append(signum)
            if self._report is not None:
                self._report()
        return True

    def take(self) -> signal.Signals:
        """Return what has come first."""
        if self._unread:
            return self._unread.popleft()
        if (lost := self._subscription.replaced()) is not None:
            raise BrokenResourceError(
                f"{lost.name} does not come here any more: somebody has called signal.signal or "
                f"loop.add_signal_handler for it, and has now {signal.getsignal(lost)!r} there"
            )
        raise BlockingIOError

    def arm(self, report: Callable[[], bool]) -> None:
        """Call ``report`` when a signal comes, or soon where one is here."""
        self._report = report
        if self._unread:
            self._loop.call_soon(report)

    def disarm(self) -> None:
        """Stop reporting."""
        self._report = None

    def close(self) -> None:
        """Stop reporting."""
        self._report = None

    def give_back(self) -> None:
        """Stop listening, and have the signals that nobody has taken act as if they came now."""
        self._subscription.close(self._unread)
