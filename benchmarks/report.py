"""The table for people and the file for programs."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import aioipc

from .case import Case
from .entry import OURS, Entry
from .verdict import Round, Summary, Verdict, judge, summarise

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Report:
    """What was measured."""

    suite: str
    cases: list[Case]
    entries: list[Entry]
    rounds: list[Round]
    quick: bool

    def summaries(self, case: Case) -> dict[str, Summary]:
        """Peer -> its rounds of the case, summed up."""
        return {
            entry.name: summarise(
                (each for each in self.rounds if (each.case, each.peer) == (case.name, entry.name)), is_sum=case.is_sum
            )
            for entry in self.entries
        }

    def verdict(self, case: Case, ours: str = "") -> Verdict:
        """How one of ours, by default the one that the case is about, does in it."""
        return judge(case, self.entries, self.summaries(case), ours)


def show(report: Report, console: Console) -> None:
    console.print(table(report))


def table(report: Report) -> Table:
    """A column for each case, a row for each peer, and below what comes of it."""
    result = Table(box=box.SIMPLE_HEAD, title=f"medians; {describe_machine()}", title_justify="left")
    result.add_column("")
    for case in report.cases:
        result.add_column(f"{case.title}\n{case.unit}", justify="right")
    for entry in report.entries:
        result.add_row(entry.name, *(_figure(report, case, entry) for case in report.cases))
    result.add_section()
    verdicts = [(case, report.verdict(case)) for case in report.cases]
    result.add_row("best peer", *(_ratio(verdict.best_ratio, verdict.best_peer) for _, verdict in verdicts))
    result.add_row("target", *(_target(case, verdict) for case, verdict in verdicts))
    result.add_row("reached", *(_ratio(verdict.ratio, "") for _, verdict in verdicts))
    result.add_row("met", *({None: "", True: "[green]yes", False: "[red]no"}[verdict.met] for _, verdict in verdicts))
    return result


def _figure(report: Report, case: Case, entry: Entry) -> str:
    """The figure; before that of one of ours that the case is not about, its ratio, and whether that is enough."""
    text = report.summaries(case)[entry.name].text
    if not entry.name.startswith(f"{OURS}-") or entry.name == case.ours:
        return text
    verdict = report.verdict(case, entry.name)
    sign = {None: "", True: "[green]✓[/] ", False: "[red]✗[/] "}[verdict.met if entry.name in case.goals else None]
    return text if verdict.ratio is None else f"{sign}{_ratio(verdict.ratio, '')}  {text}"


def _ratio(ratio: float | None, of: str) -> str:
    return of if ratio is None else f"{ratio:.2f} {TIMES} {of}".rstrip()


def _target(case: Case, verdict: Verdict) -> str:
    sign = "≥" if case.higher_is_better else "≤"
    if case.absolute:
        return f"{sign} {case.target:g}"
    return f"{sign} {case.target:g} {TIMES} {verdict.rival or ' or '.join(case.rivals)}".rstrip()


def describe_machine() -> str:
    return f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Linux {platform.release()}"


def write_json(report: Report, path: Path) -> None:
    """Everything: where it ran, what was compared, each round, and the verdicts."""
    document = {
        "suite": report.suite,
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
            **{entry.name: entry.version() for entry in report.entries if not entry.name.startswith(OURS)},
        },
        "quick": report.quick,
        "cases": {case.name: _case_for_json(report, case) for case in report.cases},
        "rounds": [asdict(each) for each in report.rounds],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(document), indent=1) + "\n")


def _case_for_json(report: Report, case: Case) -> dict[str, object]:
    return {
        "title": case.title,
        "unit": case.unit,
        "higher_is_better": case.higher_is_better,
        "target": case.target,
        "absolute": case.absolute,
        "rivals": case.rivals,
        "ours": case.ours,
        "medians": {peer: each.figure for peer, each in report.summaries(case).items()},
        "verdict": asdict(report.verdict(case)),
        "goals": {
            ours: {**asdict(goal), "verdict": asdict(report.verdict(case, ours))} for ours, goal in case.goals.items()
        },
    }


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
