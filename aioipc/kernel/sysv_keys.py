"""How programs find a System V object: by its key (``ftok(3)``), which leads to its id; and how one is made."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeAlias

from aioipc._sys import sysv
from aioipc._sys.sysv import IPC_CREAT, IPC_EXCL

from .names import check_range

Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


def ftok(path: Path, id: int, *, allow_zero: bool = False) -> int:
    """Return the key that ``ftok(3)`` makes of a file that exists and a number.

    Of ``id`` only the low 8 bits count. ``allow_zero`` accepts those that are 0 there (256, 1024), as C does, to meet
    a program that has this mistake.

    The key holds the low 16 bits of the file's inode and 8 of its device: two files may well have the same. And a file
    that is made anew has another key.

    Raises `ValueError` where the low 8 bits are 0, `TypeError` where ``id`` is no integer, and the `OSError` of
    ``stat(2)``, as `FileNotFoundError`.
    """
    number = check_range("id", id, -(1 << 31), (1 << 32) - 1) & 0xFF
    if number == 0 and not allow_zero:
        raise ValueError(f"of the id only the low 8 bits count, and those of {id} are 0, so it tells nothing apart")
    if isinstance(path, int):  # stat(2) would take it for a descriptor
        raise TypeError("path must be a str, bytes or a path, not an int")
    found = os.stat(path)
    key = number << 24 | (found.st_dev & 0xFF) << 16 | found.st_ino & 0xFFFF
    return key - (1 << 32) if key >= 1 << 31 else key


def check_key(key: object) -> int:
    """Return a key as C has it, a signed number of 32 bits."""
    number = check_range("key", key, -(1 << 31), (1 << 32) - 1)
    if number == 0:
        raise ValueError("the key 0 (IPC_PRIVATE) stands for a private object: give None, or no key")
    return number - (1 << 32) if number >= 1 << 31 else number


def make_or_find(
    get: Callable[[int, int], int], kind: str, limit: str, key: int | None, mode: int, exist_ok: bool
) -> tuple[int, bool]:
    """Make an object, or with ``exist_ok`` find it; return its id and whether it was made.

    ``get`` is msgget or semget, of key and flags.
    """
    if key is None:
        return _explaining(get, kind, limit, sysv.IPC_PRIVATE, IPC_CREAT | IPC_EXCL | mode), True
    while True:
        try:
            return _explaining(get, kind, limit, key, IPC_CREAT | IPC_EXCL | mode), True
        except FileExistsError:
            if not exist_ok:
                raise
        with contextlib.suppress(FileNotFoundError):  # removed since: make it after all
            return _explaining(get, kind, limit, key, 0), False


def find(get: Callable[[int, int], int], kind: str, key: int) -> int:
    """Find an object by its key; return its id."""
    return _explaining(get, kind, "", key, 0)


def _explaining(get: Callable[[int, int], int], kind: str, limit: str, key: int, flags: int) -> int:
    try:
        return get(key, flags)
    except OSError as error:
        number = error.errno or 0
        shown = f"{key & 0xFFFFFFFF:#010x}"
        texts = {
            errno.EEXIST: f"there is a {kind} with the key {shown} already; exist_ok=True takes it as it is",
            errno.ENOENT: f"there is no {kind} with the key {shown}",
            errno.EACCES: f"the permissions of the {kind} with the key {shown} forbid this to uid {os.geteuid()}",
            errno.ENOSPC: f"no {kind} can be made: there are as many as there may be ({limit})",
        }
        if number not in texts:
            raise
        raise OSError(number, texts[number]) from None
