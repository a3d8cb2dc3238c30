"""The pool benchmark: every case for every peer, in interleaved rounds, each in a fresh process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from .cases import CASES, Case
from .peers import ENTRIES
from .report import Round, show, write_json
from .runner import adopt_orphans, measure

ROUNDS, QUICK_ROUNDS = 5, 1
_progress = Console(stderr=True, highlight=False)


def run(case_names: list[str], peer_names: list[str], quick: bool, json_path: Path | None) -> None:
    """Measure, print the table, write the file."""
    adopt_orphans()
    cases = [CASES[name] for name in case_names or CASES]
    peers = list(_installed(peer_names or [name for name, entry in ENTRIES.items() if not entry.on_request]))
    rounds = []
    for each in _measure_all(cases, peers, quick):
        rounds.append(each)
    show(Console(width=None if Console().is_terminal else 200), cases, peers, rounds)
    if json_path is not None:
        write_json(json_path, cases, peers, rounds, quick)


def _installed(names: list[str]) -> Iterator[str]:
    missing = [name for name in names if ENTRIES[name].version() is None]
    if missing:
        _progress.print(f"skipped, not installed: {', '.join(missing)} (`make bench` installs them)")
    yield from (name for name in ENTRIES if name in names and name not in missing)


def _measure_all(cases: list[Case], peers: list[str], quick: bool) -> Iterator[Round]:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    plan = [
        (number, case, peer)
        for number in range(1, rounds + 1)
        for case in cases
        for peer in peers
        if not case.only or peer in case.only
    ]
    for done, (number, case, peer) in enumerate(plan, 1):
        started = time.monotonic()
        outcome = measure(peer, case.name, case.quick_size if quick else case.size, case.cap)
        seconds = time.monotonic() - started
        figure = outcome.note or f"{outcome.value:,.1f} {case.unit}"
        _progress.print(
            f"[{done}/{len(plan)}] round {number}: {case.name}, {peer}: {figure} ({seconds:.1f} s)",
            markup=False,
            soft_wrap=True,
        )
        yield Round(number, case.name, peer, outcome.value, outcome.note, seconds)
