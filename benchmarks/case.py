"""A case: what is measured, in which unit, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .entry import OURS


class Unable(Exception):
    """The peer has no way to do that."""


@dataclass(frozen=True)
class Figures:
    """What a measurement gives that is good for several cases: their figures by name, and what there is to say."""

    values: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)


Measure = Callable[[Any, float], Awaitable[float | Figures]]


@dataclass(frozen=True)
class Goal:
    """What is wanted of one of ours: a ratio to the best of the ``rivals`` (of all peers where none is named)."""

    target: float
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One measurement, which returns one figure; or `Figures`, for itself and the cases that are a ``part_of`` it.

    ``size`` says how much there is to do: a number of tasks or messages, or the seconds to watch; ``quick_size``
    is that of a first look. The target is a ratio to the best peer (to the best of the ``rivals`` where some are
    named), or a figure by itself where ``absolute``. It is about ``ours``; others of ours may have ``goals`` of their
    own. ``is_sum``: of its rounds not the median is shown, but the sum, for a count of what should not be at all.
    ``only`` names the peers that can do it, where not all can. ``cap``: seconds until a measurement is given up.
    """

    name: str
    title: str
    unit: str
    measure: Measure
    size: float
    quick_size: float
    target: float
    higher_is_better: bool = False
    absolute: bool = False
    rivals: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    cap: float = 60
    ours: str = OURS
    part_of: str = ""
    is_sum: bool = False
    goals: Mapping[str, Goal] = field(default_factory=dict)

    def goal(self, ours: str) -> Goal:
        """What is wanted of one of ours."""
        return self.goals.get(ours) or Goal(self.target, self.rivals)

    async def run(self, peer: Any, size: float) -> float | Figures:
        """Measure once, in the process that was made for it."""
        return await self.measure(peer, size)

    async def end(self, peer: Any) -> None:
        """Clean up after that; the process ends in any case."""
        await peer.stop()

    def met(self, value: float, target: float) -> bool:
        """Whether a ratio (or figure) reaches the target."""
        return value >= target if self.higher_is_better else value <= target
