"""The small pure decisions: back-off, intensity, strategies, and the table of states."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.supervisor.backoff import LONGEST_PAUSE, BackOff, backoff
from aioipc.supervisor.intensity import Intensity
from aioipc.supervisor.states import TRANSITIONS, State, moved
from aioipc.supervisor.strategies import companions


def test_pauses() -> None:
    assert [backoff(failures) for failures in range(10)] == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert backoff(100_000) == LONGEST_PAUSE


@given(st.lists(st.floats(0, 30), max_size=30))
def test_pauses_grow_until_one_was_healthy(healths: list[float]) -> None:
    one, last = BackOff(), 0.0
    for healthy in healths:
        pause = one.failed(healthy)
        assert pause == 0.0 if healthy >= 10 else last <= pause <= LONGEST_PAUSE
        last = pause
    one.reset()
    assert one.failed() == 0.0


@given(st.lists(st.floats(0, 3), max_size=40), st.none() | st.integers(0, 5), st.floats(0.1, 10))
def test_intensity(gaps: list[float], limit: int | None, period: float) -> None:
    one, now, times = Intensity(limit, period), 100.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        recent = [when for when in times if when >= now - period]
        assert one.add(now) == (limit is not None and len(recent) > limit)


def test_intensity_that_changes() -> None:
    one = Intensity(5, 10.0)
    assert not one.add(0.0)
    one.change(1, 10.0)
    assert one.add(1.0)


def test_companions() -> None:
    assert list(companions("one_for_one", 1, 4)) == []
    assert list(companions("one_for_all", 1, 4)) == [0, 1, 2, 3]
    assert list(companions("rest_for_one", 1, 4)) == [2, 3]
    assert list(companions("rest_for_one", 3, 4)) == []


def test_the_table_of_states() -> None:
    """Every state is in it, can be left, and can be reached; what has died never serves again without a start."""
    states = set(get_args(State))
    assert set(TRANSITIONS) == states
    assert set().union(*TRANSITIONS.values()) == states
    assert all(TRANSITIONS.values())
    with_process = {"STARTING", "RUNNING", "DRAINING", "STOPPING"}
    for state in states - with_process:
        assert TRANSITIONS[state] & with_process == {"STARTING"}
    for old in states:
        for new in states:
            if new in TRANSITIONS[old]:
                assert moved(old, new) == new
            else:
                with pytest.raises(AssertionError, match=f"{old} -> {new}"):
                    moved(old, new)
