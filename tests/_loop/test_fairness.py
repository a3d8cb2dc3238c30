from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc._loop import fairness
from aioipc._loop.fairness import OPERATIONS, SECONDS, Turn, current_turn


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fairness, "monotonic", clock)
    return clock


def test_64_operations_are_free(clock: Clock) -> None:
    turn = Turn()
    assert [turn.spend() for _ in range(OPERATIONS + 2)] == [False] * OPERATIONS + [True] * 2
    turn.renew()
    assert not turn.spend()


def test_a_millisecond_is_free(clock: Clock) -> None:
    turn = Turn()
    assert not turn.spend()
    clock.now += SECONDS / 2
    assert not turn.spend()
    clock.now += SECONDS / 2
    assert turn.spend()
    turn.renew()
    assert not turn.spend()


def test_the_first_operation_after_a_long_pause_is_free(clock: Clock) -> None:
    turn = Turn()
    turn.spend()
    turn.renew()
    clock.now += 3600
    assert not turn.spend()


@given(st.lists(st.one_of(st.just("spend"), st.just("renew"), st.floats(0, 0.0005)), max_size=300))
def test_the_bound_holds_for_any_history(history: list[str | float]) -> None:
    clock, turn = Clock(), Turn()
    original, fairness.monotonic = fairness.monotonic, clock  # type: ignore[assignment]
    try:
        granted, first = 0, 0.0
        for event in history:
            if isinstance(event, float):
                clock.now += event
            elif event == "renew" or turn.spend():
                turn.renew()
                granted = 0
            else:
                first = first if granted else clock.now
                granted += 1
                assert granted <= OPERATIONS
                assert clock.now - first < SECONDS
    finally:
        fairness.monotonic = original


def test_each_thread_has_its_own() -> None:
    turns = [current_turn()]
    thread = threading.Thread(target=lambda: turns.append(current_turn()))
    thread.start()
    thread.join()
    assert current_turn() is turns[0]
    assert turns[1] is not turns[0]
