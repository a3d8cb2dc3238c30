"""Silent workers are found in time; workers that were only held up together with us are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.supervisor.heartbeat import Heart, Silence

TIMEOUT = 20.0
PERIOD = TIMEOUT / 4
STEPS = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


def test_silence_is_the_time_without_a_new_beat() -> None:
    silence = Silence(PERIOD)
    assert silence.observe(1, 100.0) == 0
    assert silence.observe(1, 103.0) == 3
    assert silence.observe(1, 108.0) == 8
    assert silence.observe(2, 109.0) == 0
    assert silence.observe(2, 110.0) == 1


def test_the_first_look_knows_no_silence() -> None:
    assert Silence(PERIOD).observe(0, 1e6) == 0


def test_what_does_not_beat_is_never_silent() -> None:
    silence = Silence(PERIOD)
    silence.observe(1, 0.0)
    silence.observe(1, 4.0)
    assert silence.observe(None, 5.0) == 0
    assert silence.observe(None, 9.0) == 0
    assert silence.observe(1, 10.0) == 0, "it has begun to beat again, whatever it said before"
    assert silence.observe(1, 11.0) == 1


@given(STEPS)
def test_a_step_counts_for_one_and_a_half_periods_at_most(steps: list[float]) -> None:
    silence, now, expected = Silence(PERIOD), 0.0, 0.0
    silence.observe(7, now)
    for step in steps:
        expected += min(step, 1.5 * PERIOD)
        now += step
        assert silence.observe(7, now) == pytest.approx(expected, abs=1e-3)


@given(STEPS)
def test_one_that_beats_is_well_whatever_our_clock_does(steps: list[float]) -> None:
    heart, now = Heart(TIMEOUT), 0.0
    for beat, step in enumerate(steps):
        now += step
        assert heart.diagnose(beat, beat, "R", now) is None


def test_a_silent_worker_is_found_after_the_timeout_and_not_before() -> None:
    heart = Heart(TIMEOUT)
    looks = 0
    while heart.diagnose(1, None, "S", looks * PERIOD) is None:
        looks += 1
    assert looks == 5


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("T", "it was stopped (SIGSTOP)"),
        ("t", "it was stopped (SIGSTOP)"),
        ("R", "a task held the GIL"),
        ("S", "a task held the GIL"),
        ("?", "a task held the GIL"),
    ],
)
def test_says_why(state: str, cause: str) -> None:
    heart = Heart(TIMEOUT)
    said = [heart.diagnose(1, look, state, look * PERIOD) for look in range(6)]
    assert said == [None] * 5 + [f"no heartbeat for 20 s: {cause}"]


def test_a_blocked_loop() -> None:
    heart = Heart(TIMEOUT)
    said = [heart.diagnose(look, 1, "S", look * PERIOD) for look in range(6)]
    assert said == [None] * 5 + ["no heartbeat of its event loop for 20 s: a task blocked the loop"]


def test_no_loop_is_judged_while_none_runs() -> None:
    heart = Heart(TIMEOUT)
    assert [heart.diagnose(look, None, "R", look * PERIOD) for look in range(50)] == [None] * 50


def test_the_silence_of_the_whole_process_is_told_before_that_of_its_loop() -> None:
    heart = Heart(TIMEOUT)
    said = [heart.diagnose(1, 1, "T", look * PERIOD) for look in range(6)]
    assert said[-1] == "no heartbeat for 20 s: it was stopped (SIGSTOP)"


@pytest.mark.parametrize(("state", "cause"), [("T", "it was stopped (SIGSTOP)"), ("S", "a task held the GIL")])
def test_a_loop_that_fell_silent_a_beat_before_its_thread_is_not_blamed(state: str, cause: str) -> None:
    heart, said = Heart(TIMEOUT), None
    assert heart.diagnose(1, 1, "S", 0.0) is None
    for look in range(1, 8):
        said = said or heart.diagnose(2, 1, state, look * PERIOD)
    assert said == f"no heartbeat for 20 s: {cause}"


@given(
    suspensions=st.lists(st.one_of(st.just(0.0), st.floats(0, 1e7)), min_size=1, max_size=60),
    phase=st.floats(0, PERIOD, exclude_max=True),
)
def test_a_machine_that_sleeps_does_not_kill_when_it_wakes_up(suspensions: list[float], phase: float) -> None:
    """Worker and master live only between the suspensions; the clock that the master reads goes on."""
    heart, now = Heart(TIMEOUT), 0.0
    for look, suspended in enumerate(suspensions):
        lived = look * PERIOD
        now += PERIOD + suspended
        beat = int((lived + phase) // PERIOD)
        assert heart.diagnose(beat, beat, "S", now) is None


def test_one_long_step_does_not_kill_but_the_silence_after_it_does() -> None:
    heart = Heart(TIMEOUT)
    assert heart.diagnose(1, None, "T", 0.0) is None
    assert heart.diagnose(1, None, "T", 1e6) is None
    looks = 0
    while heart.diagnose(1, None, "T", 1e6 + looks * PERIOD) is None:
        looks += 1
        assert looks < 5
    assert looks == 3
