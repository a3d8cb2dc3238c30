"""What is shown of the progress, where there is no terminal to look at."""

from __future__ import annotations

import logging

import pytest

from aioipc.cli.display import choose_display, count_in_background
from aioipc.cli.progress import Counters, Lines, SayWarnings, say, summary
from tests.harness.processes import eventually


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; its one item is the time."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_for_logs(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    counters = Counters(total=3000, done=990, failed=10, started=0.0)
    clock[0] = 10.0

    Lines().show(counters)

    assert capsys.readouterr().err == ("aioipc map: 990 of 3,000 done, 10 failed, 100 tasks/s, about 20 s left\n")


def test_lines_while_the_total_is_not_known(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    counters = Counters(done=5, started=0.0)
    clock[0] = 10.0

    Lines().show(counters)

    assert capsys.readouterr().err == "aioipc map: 5 done, 0 failed, 0.5 tasks/s\n"


def test_hours_left_are_told_in_minutes(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    clock[0] = 1.0
    counters = Counters(total=7201, done=1, started=0.0)

    Lines().show(counters)

    assert capsys.readouterr().err.endswith("about 120 min left\n")


def test_the_summary(clock: list[float]) -> None:
    counters = Counters(done=1200, failed=3, started=0.0)
    clock[0] = 2.0

    assert summary(counters, 4) == "1,200 done, 3 failed, 4 retried in 2.0 s (602 tasks/s)"
    counters.dropped = 7
    assert ", 7 not finished in" in summary(counters, 0)


def test_a_run_that_just_began(clock: list[float]) -> None:
    assert summary(Counters(started=0.0), 0) == "0 done, 0 failed, 0 retried in 0.0 s (0.0 tasks/s)"


def test_the_total_is_counted_beside_the_run() -> None:
    counters = Counters()

    count_in_background(counters, lambda: 7)

    eventually(lambda: counters.total == 7)


def test_errors_are_red_unless_colours_are_unwanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    say("wrong", error=True)
    monkeypatch.setenv("NO_COLOR", "1")
    say("wrong", error=True)

    assert capsys.readouterr().err == "\x1b[31maioipc map: wrong\x1b[0m\naioipc map: wrong\n"


def test_warnings_are_shown_and_errors_are_left_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    handler = SayWarnings()
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        record = logging.LogRecord("aioipc.pool", level, __file__, 1, "level %d", (level,), None)
        if level >= handler.level:
            handler.handle(record)

    assert capsys.readouterr().err == "aioipc map: level 30\n"


def test_no_display_where_nobody_asks_for_one() -> None:
    assert choose_display(quiet=True, results_on_terminal=False) is None
    assert isinstance(choose_display(quiet=False, results_on_terminal=False), Lines)
