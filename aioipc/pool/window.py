"""How far a map runs ahead of its reader: pure."""

from __future__ import annotations

AHEAD_SECONDS = 0.02
MOST_PER_WORKER = 1024


def window_size(workers: int, concurrency: int, is_async: bool, seconds: float | None) -> int:
    """Return how many items a map may have taken from its source and not yet handed to its reader.

    Twice what can run at once; for a function known to take ``seconds`` and be quick, as much as keeps the
    workers busy for `AHEAD_SECONDS`.
    """
    at_once = workers * (concurrency if is_async else 1)
    if seconds is None:
        return at_once * 2
    ahead = int(at_once * AHEAD_SECONDS / max(seconds, 1e-6))
    return max(at_once * 2, min(ahead, workers * MOST_PER_WORKER))
