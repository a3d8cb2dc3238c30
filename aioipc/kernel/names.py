"""What a named object is asked for, checked before any system call, and the end of a name."""

from __future__ import annotations

import contextlib
import os
from typing import TypeAlias

FilePath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


def check_posix_name(name: object) -> str:
    """Return the name if it is "/" and up to 250 bytes without a further slash, else `TypeError` or `ValueError`.

    That is the form that means the same everywhere (``mq_overview(7)``, ``sem_overview(7)``, ``shm_overview(7)``).
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as '/jobs', not {type(name).__name__}")
    rest = name[1:]
    if not name.startswith("/") or not rest or "/" in rest or "\0" in rest or rest in (".", ".."):
        raise ValueError(f"name must be a slash and a word without further slashes, such as '/jobs', not {name!r}")
    if (size := len(os.fsencode(rest))) > 250:  # NAME_MAX is 255, and glibc writes "sem." before a semaphore's
        raise ValueError(f"name may have 250 bytes behind its slash, not {size}")
    return name


def check_path(path: FilePath, what: str) -> str:
    """Return the path as absolute text, which leads to the same place later; `TypeError`, `ValueError` for no path."""
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the path of {what}")
    return name if os.path.isabs(name) else os.path.join(os.getcwd(), name)


def check_mode(mode: object) -> int:
    """Return the permissions if they are any, else raise `TypeError` or `ValueError`."""
    if not isinstance(mode, int) or isinstance(mode, bool):
        raise TypeError(f"mode must be an int, not {type(mode).__name__}")
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be permissions between 0 and 0o777, not {mode:#o}")
    return mode


def check_range(what: str, value: object, low: int, high: int) -> int:
    """Return the integer if it is between ``low`` and ``high``, else raise `TypeError` or `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{what} must be between {low} and {high}, not {value}")
    return value


def unlink_if_same(path: str, known: os.stat_result) -> None:
    """Remove the name of a file, unless it is gone or leads to another one by now."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), known):
            os.unlink(path)
