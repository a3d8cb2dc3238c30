"""What the calls of this room take: checked at once, with an error that names the argument."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from aioipc.kernel.owner_records import KINDS, ObjectKind


def check_kinds(kinds: object) -> tuple[ObjectKind, ...]:
    """Return the kinds of a collection, in the order of `KINDS`; all of them for ``None``."""
    if kinds is None:
        return KINDS
    if isinstance(kinds, str):
        raise TypeError(f"kinds must be a collection such as [{kinds!r}], not a str")
    if not isinstance(kinds, Iterable):
        raise TypeError(f"kinds must be a collection of str, not {type(kinds).__name__}")
    wanted = list(kinds)
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise ValueError(f"there is no kind {min(map(repr, unknown))}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in wanted)


def check_folders(folders: object) -> list[str]:
    """Return the absolute paths of a collection of paths."""
    if isinstance(folders, str | bytes | os.PathLike):
        shown = os.fspath(folders)
        raise TypeError(f"folders must be a collection such as [{shown!r}], not a {type(folders).__name__}")
    if not isinstance(folders, Iterable):
        raise TypeError(f"folders must be a collection of paths, not {type(folders).__name__}")
    found = []
    for folder in folders:
        path = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
        if not isinstance(path, str):
            raise TypeError(f"folders must have str or os.PathLike[str], not {type(folder).__name__}")
        found.append(os.path.abspath(path))
    return found


def check_seconds(name: str, seconds: object) -> float:
    """Return a number of seconds, 0 or more."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {seconds}")
    return float(min(seconds, sys.maxsize))
