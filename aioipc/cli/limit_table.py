"""Limits as a table: what each is, how much of it is used, and what it means."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aioipc import Limit

from . import screen
from .humans import format_size
from .table import Shape, lay_out

USAGE = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue", "/dev/shm")
"""How the names of those begin that limit the objects in the list."""

_SHAPES = (
    Shape("LIMIT"),
    Shape("VALUE", right=True),
    Shape("USED", right=True),
    Shape("USE%", right=True),
    Shape("MEANING", flexible=True),
)


def limit_lines(limits: Sequence[Limit], *, headings: bool, exact: bool) -> list[str]:
    """The lines of the table."""
    rows = [
        [
            limit.name,
            amount(limit, limit.value, exact=exact),
            "-" if limit.used is None else amount(limit, limit.used, exact=exact),
            "-" if limit.share is None else f"{limit.share:.0%}",
            limit.meaning,
        ]
        for limit in limits
    ]
    return lay_out(_SHAPES, rows, width=screen.width(), headings=headings)


def amount(limit: Limit, value: float | None, *, exact: bool = False) -> str:
    """A number in the unit of the limit."""
    if value is None:
        return "none"
    if limit.unit == "bytes" and not exact:
        return format_size(value)
    if limit.unit == "pages" and not exact:
        return format_size(value * os.sysconf("SC_PAGE_SIZE"))
    if limit.unit == "yes or no":
        return "yes" if value else "no"
    return f"{value:g}" if value != int(value) else str(int(value))
