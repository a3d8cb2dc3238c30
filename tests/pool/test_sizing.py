"""The default number of workers, and which rule gave it."""

from __future__ import annotations

import os

import pytest

from aioipc._sys import cgroup
from aioipc.pool.sizing import default_workers


@pytest.mark.parametrize(
    ("cpus", "quota", "workers"),
    [(8, 2.0, 2), (8, 2.9, 2), (8, 0.25, 1), (8, 7.99, 7), (1, 0.5, 1)],
)
def test_the_quota_wins_where_it_is_less(cpus: int, quota: float, workers: int) -> None:
    assert default_workers({}, cpus, quota) == (workers, f"the control group's quota of {quota:g} CPUs")


@pytest.mark.parametrize(("cpus", "quota"), [(8, 8.0), (8, 64.0), (1, 1.0)])
def test_the_cpus_win_otherwise(cpus: int, quota: float) -> None:
    assert default_workers({}, cpus, quota) == (cpus, f"the {cpus} CPUs this process may use")


@pytest.mark.parametrize(("text", "workers"), [("3", 3), (" 12 \n", 12), ("1", 1), ("1000", 1000), ("007", 7)])
def test_the_variable_wins_over_all(text: str, workers: int) -> None:
    assert default_workers({"WEB_CONCURRENCY": text}, 2, 0.5) == (workers, "WEB_CONCURRENCY")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_none(text: str) -> None:
    assert default_workers({"WEB_CONCURRENCY": text}, 2, 16.0) == (2, "the 2 CPUs this process may use")


@pytest.mark.parametrize("text", ["0", "-1", "+2", "two", "2.5", "1e2", "0x4", "3 4", "²"])
def test_a_variable_that_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="WEB_CONCURRENCY must be a positive number, not"):
        default_workers({"WEB_CONCURRENCY": text}, 2, 16.0)


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    workers, rule = default_workers()
    assert 1 <= workers <= len(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota()
    assert ("quota" in rule) == (quota is not None and quota < cgroup.usable_cpus())
    monkeypatch.setenv("WEB_CONCURRENCY", "77")
    assert default_workers() == (77, "WEB_CONCURRENCY")
