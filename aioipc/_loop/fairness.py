"""The yield rule: an object that is always ready must not starve the loop.

An operation that succeeds at once never gives the loop a turn. A task that reads a saturated pipe in a loop
would so hold up every timer and every other task. Yielding each time would be fair and slow; instead a
thread's operations share one allowance, and whoever finds it spent yields *before* it takes anything, where
a cancellation loses nothing.

The allowance belongs to the thread (hence to its running loop) and not to one object: a task that goes round
a thousand ready objects is as greedy as one that stays at one of them. A task that resumes after a real wait
renews it, since the loop has turned then.
"""

from __future__ import annotations

import threading
from time import monotonic

OPERATIONS = 64
SECONDS = 0.001


class Turn:
    """What one thread may do at once before it has to give its loop a turn."""

    __slots__ = ("_count", "_deadline")

    def __init__(self) -> None:
        self._count = 0
        self._deadline = 0.0

    def spend(self) -> bool:
        """Count one operation that may succeed at once; return True where the caller must yield first.

        That is so after `OPERATIONS` of them, or `SECONDS` after the first of them.
        """
        self._count += 1
        if self._count == 1:
            self._deadline = monotonic() + SECONDS
            return False
        return self._count > OPERATIONS or monotonic() >= self._deadline

    def renew(self) -> None:
        """Start again: the loop has turned."""
        self._count = 0


class _Local(threading.local):
    def __init__(self) -> None:
        self.turn = Turn()


_local = _Local()


def current_turn() -> Turn:
    """Return the allowance of the calling thread."""
    return _local.turn
