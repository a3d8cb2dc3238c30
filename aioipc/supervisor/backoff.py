"""How long to wait before the next try (pure): not at all the first time, then 0.1 s, doubling to 5 s (decision 12)."""

from __future__ import annotations

BOOT_BUDGET = 3
"""Deaths in a row before READY after which there is no further try."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
HEALTHY_AFTER = 10.0
"""Seconds after which whoever is ready has shown that it works: its earlier failures are forgotten."""


def backoff(failures: int) -> float:
    """Return how many seconds to wait before the next try, after so many failures in a row."""
    if failures <= 1:
        return 0.0
    if failures > 32:  # 2.0 ** 1024 is an OverflowError
        return LONGEST_PAUSE
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 2))


class BackOff:
    """The pauses of one that is started again and again."""

    __slots__ = ("failures",)

    def __init__(self) -> None:
        self.failures: int = 0

    def failed(self, healthy_for: float = 0.0) -> float:
        """Count a failure after ``healthy_for`` seconds of being ready; return the pause before the next try."""
        if healthy_for >= HEALTHY_AFTER:
            self.failures = 0
        self.failures += 1
        return backoff(self.failures)

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0
