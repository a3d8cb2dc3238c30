"""The table for people and the file for programs."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import aioipc

from .cases import Case
from .peers import ENTRIES

OURS = "aioipc"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Round:
    """One measurement as it goes into the file; ``value`` is None where ``note`` says why there is none."""

    number: int
    case: str
    peer: str
    value: float | None
    note: str
    seconds: float


@dataclass(frozen=True)
class Summary:
    """All rounds of one peer in one case."""

    median: float | None
    note: str

    @property
    def figure(self) -> float | str:
        """The median, or the reason why there is none."""
        return self.note if self.median is None else self.median

    @property
    def text(self) -> str:
        if self.median is None:
            return self.note.partition(":")[0]
        if math.isinf(self.median):
            return "never"
        return f"{self.median:,.0f}" if self.median >= 100 else f"{self.median:.3g}"


def summarise(rounds: Iterable[Round]) -> Summary:
    """The median of the rounds; where most had no figure, the reason of the last of those."""
    rounds = list(rounds)
    values = [each.value for each in rounds if each.value is not None]
    notes = [each.note for each in rounds if each.note]
    if len(values) * 2 <= len(rounds):
        return Summary(None, notes[-1] if notes else "")
    return Summary(statistics.median(values), notes[-1] if notes else "")


@dataclass(frozen=True)
class Verdict:
    """aioipc in one case beside the others."""

    ours: float | None
    best_peer: str
    best: float | None
    ratio: float | None
    met: bool | None


def judge(case: Case, summaries: dict[str, Summary]) -> Verdict:
    """Compare with the case's rival, or the best of all peers; an absolute target needs no peer."""
    figures = {
        peer: each.median
        for peer, each in summaries.items()
        if each.median is not None and math.isfinite(each.median) and not peer.startswith(OURS)
    }
    ours = summaries[OURS].median if OURS in summaries else None
    if case.rival:
        figures = {peer: value for peer, value in figures.items() if peer == case.rival}
    choose = max if case.higher_is_better else min
    best_peer = choose(figures, key=lambda peer: figures[peer]) if figures else ""
    best = figures.get(best_peer)
    ratio = ours / best if ours is not None and best else None
    judged = ours if case.absolute else ratio
    return Verdict(ours, best_peer, best, ratio, None if judged is None else case.met(judged))


def table(cases: list[Case], peers: list[str], rounds: list[Round]) -> Table:
    """A row for each case, a column for each peer."""
    result = Table(box=box.SIMPLE_HEAD, title=f"medians; {describe_machine()}", title_justify="left")
    for heading in ("case", "unit", *peers, "best peer", "ratio", "target", "met"):
        result.add_column(heading, justify="left" if heading in ("case", "unit") else "right")
    for case in cases:
        summaries = summaries_of(case, peers, rounds)
        verdict = judge(case, summaries)
        result.add_row(case.title, case.unit, *(summaries[peer].text for peer in peers), *_verdict_cells(case, verdict))
    return result


def _verdict_cells(case: Case, verdict: Verdict) -> tuple[str, str, str, str]:
    sign, kind = "≥" if case.higher_is_better else "≤", "" if case.absolute else f" {TIMES}"
    ratio = "" if verdict.ratio is None else f"{verdict.ratio:.2f} {TIMES}"
    met = {None: "", True: "[green]yes", False: "[red]no"}[verdict.met]
    return verdict.best_peer, ratio, f"{sign} {case.target:g}{kind}", met


def summaries_of(case: Case, peers: list[str], rounds: list[Round]) -> dict[str, Summary]:
    """Peer -> its rounds of the case, summed up."""
    return {peer: summarise(each for each in rounds if (each.case, each.peer) == (case.name, peer)) for peer in peers}


def describe_machine() -> str:
    return f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Linux {platform.release()}"


def write_json(path: Path, cases: list[Case], peers: list[str], rounds: list[Round], quick: bool) -> None:
    """Everything: where it ran, what was compared, each round, and the verdicts."""
    document = {
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "usable_cpus": len(os.sched_getaffinity(0)),
            "load": os.getloadavg(),
            "python": sys.version,
        },
        "versions": {
            "aioipc": aioipc.__version__,
            **{peer: ENTRIES[peer].version() for peer in peers if not peer.startswith(OURS)},
        },
        "quick": quick,
        "cases": {
            case.name: {
                "title": case.title,
                "unit": case.unit,
                "higher_is_better": case.higher_is_better,
                "target": case.target,
                "absolute": case.absolute,
                "medians": {peer: each.figure for peer, each in summaries_of(case, peers, rounds).items()},
                "verdict": asdict(judge(case, summaries_of(case, peers, rounds))),
            }
            for case in cases
        },
        "rounds": [asdict(each) for each in rounds],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(document), indent=1) + "\n")


def _finite(thing: object) -> object:
    """JSON knows no infinity: "never" instead."""
    if isinstance(thing, dict):
        return {key: _finite(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_finite(value) for value in thing]
    return "never" if thing == math.inf else thing


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def show(console: Console, cases: list[Case], peers: list[str], rounds: list[Round]) -> None:
    console.print(table(cases, peers, rounds))
