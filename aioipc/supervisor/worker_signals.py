"""The signals of a child process of ours, and of processes that are forked from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


def take_signals(handlers: dict[int, Handler], leave_to_child: Callable[[], None]) -> None:
    """Install handlers, in the main thread, and let in SIGTERM, which is blocked since the fork.

    A process that is forked later does not act as the one it is a copy of: signals find their default action there,
    and ``leave_to_child`` closes in it what it must not hold.
    """
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    mask: set[signal.Signals | int] = set()

    def hold() -> None:
        """A signal for a process that is being forked must not meet our handlers there."""
        mask.clear()
        mask.update(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT}))

    def let_in() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def become_another() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        leave_to_child()
        let_in()

    os.register_at_fork(before=hold, after_in_parent=let_in, after_in_child=become_another)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
