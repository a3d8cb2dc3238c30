"""A case: what is measured, in which unit, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Measure = Callable[[Any, float], Awaitable[float]]


class Unable(Exception):
    """The peer has no way to do that."""


@dataclass(frozen=True)
class Case:
    """One measurement, which returns one figure.

    ``size`` says how much there is to do: a number of tasks or messages, or the seconds to watch; ``quick_size``
    is that of a first look. The target is a ratio to the best peer (to the best of the ``rivals`` where some are
    named), or a figure by itself where ``absolute``. ``only`` names the peers that can do it, where not all can.
    ``cap``: seconds until a measurement is given up.
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

    async def run(self, peer: Any, size: float) -> float:
        """Measure once, in the process that was made for it."""
        return await self.measure(peer, size)

    async def end(self, peer: Any) -> None:
        """Clean up after that; the process ends in any case."""
        await peer.stop()

    def met(self, value: float) -> bool:
        """Whether a ratio (or figure) reaches the target."""
        return value >= self.target if self.higher_is_better else value <= self.target
