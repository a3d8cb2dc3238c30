"""Which objects ``aioipc ls`` is to show: kinds by long, short and group names, patterns, and whose they are."""

from __future__ import annotations

import fnmatch
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from aioipc import Inventory, KernelObject, ObjectKind

from .where import Condition

KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)

_GROUPS: dict[str, tuple[ObjectKind, ...]] = {
    "sysv": ("sysv-queue", "sysv-semaphores", "sysv-memory"),
    "posix": ("posix-queue", "posix-semaphore", "posix-memory"),
    "queue": ("sysv-queue", "posix-queue"),
    "semaphore": ("sysv-semaphores", "posix-semaphore"),
    "memory": ("sysv-memory", "posix-memory"),
    "msg": ("sysv-queue", "posix-queue"),
    "sem": ("sysv-semaphores", "posix-semaphore"),
    "shm": ("sysv-memory", "posix-memory"),
    "pmsg": ("posix-queue",),
    "psem": ("posix-semaphore",),
    "pshm": ("posix-memory",),
    "socket": ("unix-socket",),
    "unix": ("unix-socket",),
}


def find_kinds(word: str) -> tuple[ObjectKind, ...]:
    """The kinds that a word stands for, in the singular or the plural; none where it is no kind."""
    lower = word.lower()
    for name in (lower, lower.removesuffix("s"), lower + "s"):
        if name in KINDS:
            return tuple(kind for kind in KINDS if kind == name)
        if name in _GROUPS:
            return _GROUPS[name]
    return ()


def sort_words(words: Sequence[str]) -> tuple[set[ObjectKind], list[str]]:
    """Tell kinds from patterns: the kinds to list, all where none was named, and the patterns."""
    kinds = {kind for word in words for kind in find_kinds(word)}
    return kinds or set(KINDS), [word for word in words if not find_kinds(word)]


@dataclass(frozen=True, slots=True)
class Selection:
    """What an object must be to be shown."""

    patterns: Sequence[str] = ()
    uid: int | None = None
    pid: int | None = None
    orphans: bool = False
    where: Condition | None = None

    def choose(self, found: Inventory) -> list[KernelObject]:
        """Those that fit, in their order."""
        return [each for each in found if self._fits(each, found.time)]

    def _fits(self, found: KernelObject, now: float) -> bool:
        return (
            (not self.patterns or any(_is_like(found, pattern) for pattern in self.patterns))
            and (self.uid is None or found.uid == self.uid)
            and (self.pid is None or self.pid in _pids(found))
            and (not self.orphans or found.orphan)
            and (self.where is None or self.where(found, now))
        )


def _is_like(found: KernelObject, pattern: str) -> bool:
    """Whether its name fits a pattern, or holds a text without ``*``, ``?`` and ``[``; or id or key are that number."""
    if found.name is not None:
        wild = any(sign in pattern for sign in "*?[")
        base = os.path.basename(found.name)
        return any(fnmatch.fnmatchcase(name, pattern) for name in (found.name, base)) if wild else pattern in found.name
    try:
        number = int(pattern, 0)
    except ValueError:
        return False
    return number == found.id or (found.key is not None and number in (found.key, found.key & 0xFFFFFFFF))


def _pids(found: KernelObject) -> set[int]:
    """The processes that have it open, made it or were the last to use it."""
    creator = () if found.creator is None else (found.creator,)
    return {*(each.pid for each in found.openers), *creator, *found.last_pids}


def find_user(word: str) -> int:
    """The number of a user, given as such or by name; `ValueError` where there is none of that name."""
    if word.isdecimal():
        return int(word)
    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {word!r}") from None
