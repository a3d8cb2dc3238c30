"""Is an object in use, is it an orphan? Decided from what was found, without looking anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aioipc._sys.open_files import UNKNOWN_USER

from .kernel_object import KernelObject

_BY_OPENERS = ("posix-queue", "posix-semaphore", "posix-memory")
"""Kinds that a process has open as long as it uses them."""


def judge(found: KernelObject, hidden: Mapping[int, int], alive: Callable[[int], bool]) -> KernelObject:
    """Return the object with ``in_use`` and ``orphan`` decided.

    ``hidden``: how many processes did not show what they have open, by uid.
    """
    in_use = found.in_use or found.owner_alive is True
    return replace(found, in_use=in_use, orphan=not in_use and _left_behind(found, hidden, alive))


def _left_behind(found: KernelObject, hidden: Mapping[int, int], alive: Callable[[int], bool]) -> bool:
    if found.kind == "unix-socket":
        return True  # a file without a socket behind it
    if found.owner is not None:
        return found.owner.remove  # else it is to stay
    if found.kind in _BY_OPENERS:
        return not may_be_open_unseen(found, hidden)
    known = {*found.last_pids, *([found.creator] if found.creator else [])}
    return bool(known) and not any(alive(pid) for pid in known)


def may_be_open_unseen(found: KernelObject, hidden: Mapping[int, int]) -> bool:
    """Whether one of the processes that hide what they have open could have this open.

    Those of root could have everything open; as there are always some, they only count for what is root's.
    """
    shared = found.mode is None or bool(found.mode & 0o066)
    return any(uid in (found.uid, UNKNOWN_USER) or (shared and uid != 0) for uid, number in hidden.items() if number)
