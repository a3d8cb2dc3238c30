"""What becomes of the tasks of a dead worker."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.pool.autopsy import SOLO_DEATHS, judge
from aioipc.pool.functions import Function
from aioipc.pool.job import Task

FUNCTION = Function(1, "function", False, b"")
_numbers = count(1)


class NoSink:
    """A judge settles nothing."""


def task(retries: int = 0) -> Task:
    return Task(next(_numbers), FUNCTION, b"", NoSink(), retries=retries)  # type: ignore[arg-type]


def verdict_alone(each: Task, *, deliberate: bool = False) -> str:
    [(judged, verdict)] = judge([each], deliberate=deliberate)
    assert judged is each
    return verdict


@pytest.mark.parametrize(("retries", "verdicts"), [(0, ["crashed"]), (1, ["retry", "crashed"])])
def test_alone_until_its_retries_are_used_up(retries: int, verdicts: list[str]) -> None:
    each = task(retries)
    assert [verdict_alone(each) for _ in verdicts] == verdicts
    assert each.attempts == each.solo_deaths == len(verdicts)
    assert each.suspect


@pytest.mark.parametrize("retries", [SOLO_DEATHS - 1, SOLO_DEATHS, 100])
def test_alone_it_is_quarantined_after_so_many_deaths_whatever_its_retries(retries: int) -> None:
    each = task(retries)
    verdicts = [verdict_alone(each) for _ in range(SOLO_DEATHS)]
    assert verdicts == ["retry"] * (SOLO_DEATHS - 1) + ["quarantined"]


def test_a_death_in_company_makes_suspects_and_charges_nobody() -> None:
    tasks = [task(retries=100) for _ in range(3)]
    for death in range(1, 10):
        assert judge(tasks, deliberate=False) == [(each, "retry") for each in tasks]
        assert all(each.suspect for each in tasks)
        assert [each.solo_deaths for each in tasks] == [0] * 3
        assert [each.attempts for each in tasks] == [death] * 3


def test_in_company_without_retries_each_is_lost_as_it_may_run_once_only() -> None:
    tasks = [task(), task(retries=1), task()]
    assert [verdict for _, verdict in judge(tasks, deliberate=False)] == ["crashed", "retry", "crashed"]


def test_the_innocent_come_through_when_they_are_tried_alone() -> None:
    """Of those that died together only the one that also dies alone is ever charged."""
    guilty, innocent = task(retries=10), task(retries=10)
    judge([guilty, innocent], deliberate=False)
    assert [verdict_alone(guilty) for _ in range(SOLO_DEATHS)][-1] == "quarantined"
    assert innocent.solo_deaths == 0


@pytest.mark.parametrize(("ending", "verdict"), [("cancel", "stopped"), ("timeout", "timeout")])
def test_a_deliberate_kill_ends_its_target_and_spares_the_others(ending: str, verdict: str) -> None:
    target, victim, poor = task(retries=5), task(retries=1), task()
    target.ending = ending  # type: ignore[assignment]
    verdicts = judge([victim, target, poor], deliberate=True)
    assert verdicts == [(victim, "retry"), (target, verdict), (poor, "crashed")]
    assert [each.suspect for each in (target, victim, poor)] == [False] * 3
    assert [each.solo_deaths for each in (target, victim, poor)] == [0] * 3
    assert target.attempts == 0, "what was ended on purpose is not tried again"
    assert (victim.attempts, poor.attempts) == (1, 1), "it was begun, and may not be begun more often than was allowed"


def test_a_victim_alone_with_its_killer_is_not_charged() -> None:
    """Ours was the hand that did it, also where only one other task was there."""
    victim = task(retries=5)
    assert verdict_alone(victim, deliberate=True) == "retry"
    assert (victim.suspect, victim.solo_deaths) == (False, 0)


def test_nobody_was_running() -> None:
    assert judge([], deliberate=False) == []


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30), st.integers(0, 20))
def test_only_deaths_alone_count(deaths: list[tuple[bool, bool]], retries: int) -> None:
    """Whatever happens to a task: it is begun ``retries`` + 1 times at most and charged with its own deaths only."""
    each = task(retries)
    own = 0
    for begun, (alone, deliberate) in enumerate(deaths, 1):
        company = [] if alone else [task(retries=100)]
        verdict = dict(judge([*company, each], deliberate=deliberate))[each]
        own += alone and not deliberate
        assert each.solo_deaths == own
        assert each.attempts == begun
        if own >= SOLO_DEATHS:
            assert verdict == "quarantined"
            return
        assert verdict == ("retry" if begun <= retries else "crashed")
        if verdict == "crashed":
            return
