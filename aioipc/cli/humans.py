"""Sizes, times and permissions as people read them."""

from __future__ import annotations

import time
from datetime import datetime

_UNITS = "BKMGTPE"
_STEPS = ((86400, "d"), (3600, "h"), (60, "m"))


def format_size(size: float) -> str:
    """A number of bytes in at most five characters, as ls(1) does with -h: ``512B``, ``1.5K``, ``24G``."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.0f}{_UNITS[unit]}" if unit == 0 or size >= 9.95 else f"{size:.1f}{_UNITS[unit]}"


def format_age(seconds: float) -> str:
    """How long ago, in its two largest units: ``3d04h``, ``2h07m``, ``5m12s``, ``8s``."""
    whole = max(0, int(seconds))
    for place, (step, unit) in enumerate(_STEPS):
        if whole >= step:
            below, smaller = (*_STEPS, (1, "s"))[place + 1]
            return f"{whole // step}{unit}{whole % step // below:02}{smaller}"
    return f"{whole}s"


def format_time(moment: float) -> str:
    """A moment as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def format_iso(moment: float) -> str:
    """A moment as ISO 8601 with its zone, to the millisecond."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="milliseconds")


def format_key(key: int) -> str:
    """The key of a System V object as ipcs(1) writes it."""
    return f"{key & 0xFFFFFFFF:#010x}"


def printable(text: str) -> str:
    """The text without what would change how a terminal shows the rest: such characters as ``\\xNN``."""
    if text.isprintable():
        return text
    data = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return data.encode("utf-8", "backslashreplace").decode()
