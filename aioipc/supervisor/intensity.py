"""How many restarts a supervisor makes before it gives up (pure; Erlang's ``intensity`` and ``period``)."""

from __future__ import annotations

from collections import deque


class Intensity:
    """Counts the restarts of all children of one supervisor together.

    ``limit`` restarts within ``period`` seconds are allowed, one more is not; ``None`` allows any number, 0 none.
    """

    def __init__(self, limit: int | None, period: float) -> None:
        self.limit: int | None = limit
        self.period: float = period
        self._times: deque[float] = deque()

    def add(self, now: float) -> bool:
        """Count a restart at ``now`` (seconds); return whether that is one too many."""
        if self.limit is None:
            return False
        self._times.append(now)
        while self._times[0] < now - self.period:
            self._times.popleft()
        return len(self._times) > self.limit

    def change(self, limit: int | None, period: float) -> None:
        """Go on with other numbers; what has been counted stays counted."""
        self.limit, self.period = limit, period
