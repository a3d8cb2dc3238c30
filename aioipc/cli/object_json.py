"""Objects and limits as JSON values with their types: bytes and counts are numbers, times seconds and ISO text."""

from __future__ import annotations

import dataclasses

from aioipc import Inventory, KernelObject, Limit

from .columns import age
from .humans import format_iso, format_key

SCHEMA = 1
"""Goes up where a key changes its meaning or goes away, not where one comes."""

_TIMES = ("created", "changed", "last_used")


def inventory_json(found: Inventory, objects: list[KernelObject]) -> dict[str, object]:
    """Those of the objects that were asked for, and what was noted."""
    return {
        "schema": SCHEMA,
        "time": found.time,
        "time_iso": format_iso(found.time),
        "objects": [object_json(each, found.time) for each in objects],
        "notes": found.notes,
    }


def object_json(found: KernelObject, now: float) -> dict[str, object]:
    """All fields of an object, and what follows from them."""
    fields: dict[str, object] = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    moments = {name: getattr(found, name) for name in _TIMES}
    return {
        **fields,
        "key_hex": None if found.key is None else format_key(found.key),
        "user": found.user,
        "mode_octal": None if found.mode is None else f"{found.mode:04o}",
        "values": found.values,
        "waiting": found.waiting,
        "age": age(found, now),
        **{f"{name}_iso": None if moment is None else format_iso(moment) for name, moment in moments.items()},
    }


def limit_json(limit: Limit) -> dict[str, object]:
    """All fields of a limit, and the share that is used."""
    return {**{field.name: getattr(limit, field.name) for field in dataclasses.fields(limit)}, "share": limit.share}
