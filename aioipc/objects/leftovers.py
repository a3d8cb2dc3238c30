"""The object that an owner record speaks of: is it still there, is it that one, does anybody use it.

Ids, names and inodes are given again to other objects. So an object counts as the one of the record only if all fits:
key, maker and time of change of a System V object; device, inode and time of birth of a file. A maker that was killed
before it could write those has left an object with a mark on it (`aioipc.kernel.claims.UNFINISHED`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from aioipc.kernel.owner_records import OwnerRecord, read_records


class Uncertain(Exception):
    """It cannot be told whether an object may be removed; the text says why."""


class Leftover(Protocol):
    """An object that is there, and is the one of a record."""

    def use(self) -> str | None:
        """Return in words who uses it; ``None`` where nobody does. Raises `Uncertain` where that cannot be told."""

    def remove(self) -> None:
        """Remove it, if it is still the one. Raises `OSError`, `Uncertain`."""

    def close(self) -> None:
        """Let go of what was needed to look at it."""


def unclaimed(record: OwnerRecord, is_of: Callable[[OwnerRecord], bool]) -> bool:
    """Return True where an object that fits an unfinished record belongs to no other one.

    Look for the object first: whoever has made it has written a record before. Raises `Uncertain` where a living
    process makes such an object at this moment.
    """
    for other in _others(record):
        if other.made:
            if is_of(other):
                return False
        elif (other.name, other.key) == (record.name, record.key) and other.is_alive():
            raise Uncertain("a living process makes another one of that kind right now")
    return True


def _others(record: OwnerRecord) -> Iterator[OwnerRecord]:
    return (other for other in read_records([record.kind]) if other.path != record.path)
