"""What comes of the rounds: a figure for each peer, and how aioipc stands beside them. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .case import Case
from .entry import OURS, Entry


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
    """All rounds of one peer in one case; ``median`` is the sum where the case counts what should not be."""

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


def summarise(rounds: Iterable[Round], *, is_sum: bool = False) -> Summary:
    """The median of the rounds, or their sum; where most had no figure, the reason of the last of those."""
    rounds = list(rounds)
    values = [each.value for each in rounds if each.value is not None]
    notes = [each.note for each in rounds if each.note]
    if len(values) * 2 <= len(rounds):
        return Summary(None, notes[-1] if notes else "")
    return Summary(sum(values) if is_sum else statistics.median(values), notes[-1] if notes else "")


@dataclass(frozen=True)
class Verdict:
    """aioipc in one case beside the best peer, and beside the rival that the target is about."""

    ours: float | None
    best_peer: str
    best: float | None
    best_ratio: float | None
    rival: str
    ratio: float | None
    met: bool | None


def judge(case: Case, entries: Iterable[Entry], summaries: dict[str, Summary], ours: str = "") -> Verdict:
    """Compare one of ours, by default the case's, with the best of all peers and with the best of its rivals.

    An absolute target needs no peer. The figure of a floor is compared with nothing.
    """
    ours = ours or case.ours
    goal = case.goal(ours)
    peers = [entry.name for entry in entries if not entry.name.startswith(OURS) and not entry.floor]
    medians = {peer: median for peer in peers if (median := summaries[peer].median) is not None}
    figures = {peer: median for peer, median in medians.items() if math.isfinite(median)}
    best_peer, best = _best(case, figures)
    rival, to_beat = _best(case, {peer: figures[peer] for peer in goal.rivals or figures if peer in figures})
    own = summaries[ours].median if ours in summaries else None
    ratio = _ratio(own, to_beat)
    judged = own if case.absolute else ratio
    met = None if judged is None else case.met(judged, goal.target)
    return Verdict(own, best_peer, best, _ratio(own, best), rival, ratio, met)


def _best(case: Case, figures: dict[str, float]) -> tuple[str, float | None]:
    if not figures:
        return "", None
    peer = (max if case.higher_is_better else min)(figures, key=lambda peer: figures[peer])
    return peer, figures[peer]


def _ratio(own: float | None, other: float | None) -> float | None:
    return own / other if own is not None and other else None
