"""One limit of the system: what it is now, how much of it is used, and whether that is worth a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LimitUnit = Literal["bytes", "count", "pages", "cpus", "yes or no"]

NEAR = 0.8
"""The share of a limit from which on it counts as near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit, in its unit. A page has as many bytes as ``os.sysconf("SC_PAGE_SIZE")`` says."""

    name: str
    value: float | None
    """``None``: there is no limit."""
    used: float | None
    """How much of it is in use, ``None`` where that cannot be told. Of a limit that holds for each object: by the
    object that uses most."""
    unit: LimitUnit
    source: str
    """The file, or the call, that it was read from."""
    meaning: str
    remedy: str
    """How to change it; ``N`` stands for the new value."""
    hint: str | None = None
    """What is wrong with it, if something is: it is nearly used up, or smaller than programs expect."""

    @property
    def share(self) -> float | None:
        """How much of it is used, 1.0 for all; ``None`` where that cannot be told."""
        if self.value is None or self.used is None or self.unit == "yes or no":
            return None
        return self.used / self.value if self.value else 1.0


def hint(value: float | None, used: float | None, least: float | None, why: str) -> str | None:
    """Say what is wrong with a limit: too near, or below ``least``, because of ``why``."""
    if value is None:
        return None
    if used is not None and value > 0 and used >= NEAR * value:
        return f"{used / value:.0%} of it is used"
    if least is not None and value < least:
        return f"it is less than {_round(least)}: {why}"
    return None


def _round(number: float) -> str:
    mebi = number / (1 << 20)
    return f"{mebi:.0f} MiB" if mebi >= 1 and mebi.is_integer() else f"{number:g}"
