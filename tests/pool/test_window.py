"""How far a map runs ahead: enough to keep the workers busy, bounded, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.pool.window import AHEAD_SECONDS, MOST_PER_WORKER, window_size

WORKERS = st.integers(1, 500)
CONCURRENCY = st.integers(1, 1000)
SECONDS = st.one_of(st.none(), st.floats(0, 1e6, allow_subnormal=True))


@pytest.mark.parametrize(
    ("workers", "concurrency", "is_async", "seconds", "expected"),
    [
        (4, 100, False, None, 8),
        (4, 100, True, None, 800),
        (4, 1, False, 10.0, 8),
        (4, 1, False, 0.001, 80),
        (4, 1, False, 0.0, 4096),
        (1, 1, False, 1e-9, 1024),
        (2, 100, True, 0.001, 2048),
        (1, 2000, True, 0.001, 4000),
    ],
)
def test_sizes(workers: int, concurrency: int, is_async: bool, seconds: float | None, expected: int) -> None:
    assert window_size(workers, concurrency, is_async, seconds) == expected


@given(WORKERS, CONCURRENCY, st.booleans(), SECONDS)
def test_bounds(workers: int, concurrency: int, is_async: bool, seconds: float | None) -> None:
    at_once = workers * (concurrency if is_async else 1)
    size = window_size(workers, concurrency, is_async, seconds)
    assert 2 * at_once <= size <= max(2 * at_once, workers * MOST_PER_WORKER)
    if seconds:
        assert (size - 2 * at_once) * seconds <= AHEAD_SECONDS * at_once * 1.001


@given(WORKERS, CONCURRENCY, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_slower_tasks_never_get_a_larger_window(
    workers: int, concurrency: int, is_async: bool, a: float, b: float
) -> None:
    quick, slow = sorted((a, b))
    assert window_size(workers, concurrency, is_async, quick) >= window_size(workers, concurrency, is_async, slow)
