"""The benchmarks work and judge rightly. How fast anything is, no test asks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.case import Case, Goal
from benchmarks.channel_peers import ENTRIES as ENTRIES_OF_CHANNELS
from benchmarks.channel_peers.base import cut
from benchmarks.entry import Entry
from benchmarks.runner import Outcome, Outcomes
from benchmarks.verdict import Round, Summary, judge, summarise

from .harness.scripts import run_script

PROGRAM = 'import runpy; runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)'
PEERS = ("aioipc", "uvloop-streams", "syscalls")


def test_channels_are_measured_and_written_down(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    chosen = [word for peer in PEERS for word in ("--peer", peer)]
    done = run_script(
        PROGRAM, "channels", "--quick", "--case", "round-trip", *chosen, "--json", str(path), timeout=50
    ).check()
    assert all(peer in done.stdout for peer in PEERS)
    assert done.stderr.count("round 1: round-trip") == len(PEERS), "a line for each measurement"
    found = json.loads(path.read_text())
    assert found["suite"] == "channels"
    assert found["quick"] is True
    assert set(found["versions"]) == set(PEERS)
    assert [(each["peer"], each["case"], each["note"]) for each in found["rounds"]] == [
        (peer, "round-trip", "") for peer in PEERS
    ]
    (case,) = found["cases"].values()
    assert all(case["medians"][peer] > 0 for peer in PEERS)
    verdict = case["verdict"]
    assert (verdict["rival"], verdict["best_peer"]) == ("uvloop-streams", "uvloop-streams")
    assert verdict["ratio"] == pytest.approx(case["medians"]["aioipc"] / case["medians"]["uvloop-streams"])


def test_every_mechanism_is_measured(tmp_path: Path) -> None:
    """Ours, and the C programs where there is a compiler."""
    path = tmp_path / "figures.json"
    ours = [name for name in ENTRIES_OF_CHANNELS if name.startswith("aioipc-") and name != "aioipc-asyncio"]
    peers = [*ours, *(["c-sysv-queue", "c-semaphore"] if shutil.which("gcc") else [])]
    chosen = [word for peer in peers for word in ("--peer", peer)]
    cases = [word for case in ("round-trip", "semaphore", "copy") for word in ("--case", case)]
    run_script(PROGRAM, "channels", "--quick", *cases, *chosen, "--json", str(path), timeout=55).check()
    rounds = json.loads(path.read_text())["rounds"]
    assert {each["peer"] for each in rounds} == set(peers)
    assert [each for each in rounds if each["note"]] == []


def test_a_server_is_reloaded_and_several_figures_come_of_one_measurement(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    chosen = ["--peer", "aioipc", "--case", "failed", "--case", "reload"]
    run_script(PROGRAM, "prefork", "--quick", *chosen, "--json", str(path), timeout=55).check()
    failed, reload = json.loads(path.read_text())["rounds"]
    assert (failed["case"], failed["value"], failed["note"]) == ("failed", 0, "")
    assert reload["case"] == "reload"
    assert reload["value"] > 0
    assert reload["seconds"] == failed["seconds"]


def test_a_measurement_that_failed_did_so_for_each_of_its_figures() -> None:
    outcomes = Outcomes({"speed": Outcome(1.5)})
    assert (outcomes["speed"].value, outcomes["other"].value) == (1.5, None)
    assert Outcomes({}, "hangs: no end within 9 s")["other"].note == "hangs: no end within 9 s"


def test_names_are_checked() -> None:
    done = run_script(PROGRAM, "channels", "--case", "teleport")
    assert done.returncode == 2
    assert "one-way" in done.stderr, "it says which there are"


async def never(*_: object) -> float:
    raise AssertionError("is judged only")


LATENCY = Case("latency", "one at a time", "µs", never, 1, 1, 1.2, rivals=("streams",))
ENTRIES = [
    Entry("aioipc", "", ""),
    Entry("aioipc-other", "", ""),
    Entry("streams", "", ""),
    Entry("quick", "", ""),
    Entry("broken", "", ""),
    Entry("kernel", "", "", floor=True),
]
FIGURES = {"aioipc": 11, "aioipc-other": 1, "streams": 10, "quick": 5, "broken": None, "kernel": 2}
SUMMARIES = {peer: Summary(median, "") for peer, median in FIGURES.items()}


def test_the_target_is_about_the_rival_and_the_best_is_told_too() -> None:
    verdict = judge(LATENCY, ENTRIES, SUMMARIES)
    assert (verdict.rival, verdict.ratio, verdict.met) == ("streams", pytest.approx(1.1), True)
    assert (verdict.best_peer, verdict.best_ratio) == ("quick", pytest.approx(2.2)), "neither a floor nor our own"


def test_others_of_ours_may_have_goals_of_their_own() -> None:
    case = replace(LATENCY, goals={"aioipc-other": Goal(0.05, ("quick",))})
    verdict = judge(case, ENTRIES, SUMMARIES, "aioipc-other")
    assert (verdict.rival, verdict.ratio, verdict.met) == ("quick", pytest.approx(0.2), False)
    assert judge(case, ENTRIES, SUMMARIES).rival == "streams"
    about_it = replace(LATENCY, ours="aioipc-other", target=0.1)
    assert judge(about_it, ENTRIES, SUMMARIES).met is True


def test_without_a_rival_nothing_is_judged() -> None:
    verdict = judge(LATENCY, [entry for entry in ENTRIES if entry.name != "streams"], SUMMARIES)
    assert (verdict.rival, verdict.ratio, verdict.met) == ("", None, None)
    assert verdict.best_peer == "quick"


def test_more_may_be_better() -> None:
    speed = Case("speed", "all at once", "/s", never, 1, 1, 2, higher_is_better=True)
    verdict = judge(speed, ENTRIES, SUMMARIES)
    assert (verdict.rival, verdict.ratio, verdict.met) == ("streams", pytest.approx(1.1), False)


def test_the_median_of_the_rounds_that_worked() -> None:
    rounds = [Round(number, "", "", value, "" if value else "failed: why", 1) for number, value in enumerate([3, 1, 2])]
    assert summarise(rounds).median == 2
    assert summarise([*rounds, Round(4, "", "", None, "failed: why", 1)]) == Summary(2, "failed: why")
    assert summarise([Round(1, "", "", None, "failed: why", 1)]) == Summary(None, "failed: why")
    assert summarise(rounds, is_sum=True).median == 6


@pytest.mark.parametrize("size", [1, 3, 8])
def test_messages_are_cut_from_a_stream(size: int) -> None:
    data, rest, messages = bytes(range(50)), b"", []
    for start in range(0, 50, 7):
        more, rest = cut(rest + data[start : start + 7], size)
        messages += more
    assert all(len(message) == size for message in messages)
    assert b"".join(messages) + rest == data
    assert len(rest) < size
