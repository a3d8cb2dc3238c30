"""A suite is measured: every case for every peer, in interleaved rounds, each in a fresh process."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from .case import Case
from .entry import Entry
from .report import Report, show, write_json
from .runner import Outcome, adopt_orphans, measure
from .suites import Suite
from .verdict import Round

QUICK_ROUNDS = 1
_progress = Console(stderr=True, highlight=False)


def compare(suite: Suite, case_names: list[str], peer_names: list[str], quick: bool, json_path: Path | None) -> None:
    """Measure, print the table, write the file."""
    adopt_orphans()
    cases = [suite.cases[name] for name in case_names or suite.cases]
    wanted = peer_names or [name for name, entry in suite.entries.items() if not entry.on_request]
    entries = list(_installed(suite, wanted))
    rounds = []
    for each in _measure_all(suite, cases, entries, quick):
        rounds.append(each)
    report = Report(suite.name, cases, entries, rounds, quick)
    show(report, Console(width=None if Console().is_terminal else 200))
    if json_path is not None:
        write_json(report, json_path)


def _installed(suite: Suite, names: list[str]) -> Iterator[Entry]:
    missing = [name for name in names if suite.entries[name].version() is None]
    if missing:
        _progress.print(f"skipped, not installed: {', '.join(missing)} (`make bench` installs them)")
    yield from (entry for name, entry in suite.entries.items() if name in names and name not in missing)


def _measure_all(suite: Suite, cases: list[Case], entries: list[Entry], quick: bool) -> Iterator[Round]:
    wholes = [suite.cases[name] for name in dict.fromkeys(case.part_of or case.name for case in cases)]
    plan = [
        (number, case, entry.name)
        for number in range(1, (QUICK_ROUNDS if quick else suite.rounds) + 1)
        for case in wholes
        for entry in entries
        if (not case.only or entry.name in case.only) and (not entry.only or case.name in entry.only)
    ]
    for done, (number, whole, peer) in enumerate(plan, 1):
        started = time.monotonic()
        found = measure(suite.name, peer, whole.name, whole.quick_size if quick else whole.size, whole.cap)
        seconds = time.monotonic() - started
        for case in cases:
            if whole.name in (case.name, case.part_of):
                outcome = found[case.name]
                what = f"{case.name}, {peer}: {_told(case, outcome)} ({seconds:.1f} s)"
                _progress.print(f"[{done}/{len(plan)}] round {number}: {what}", markup=False, soft_wrap=True)
                yield Round(number, case.name, peer, outcome.value, outcome.note, seconds)


def _told(case: Case, outcome: Outcome) -> str:
    if outcome.value is None or math.isinf(outcome.value):
        return outcome.note
    return f"{outcome.value:,.1f} {case.unit}{f': {outcome.note}' if outcome.note else ''}"
