"""Which objects ``aioipc rm`` is about: by id, key, name and path, each one and no other."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import aioipc
from aioipc import Inventory, KernelObject, ObjectKind

from .failure import CommandError
from .object_kinds import ALL_KINDS, SYSV

_FILES: dict[int, ObjectKind] = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "unix-socket"}


@dataclass(frozen=True, slots=True)
class Search:
    """What was found under a word of the command line: one object, or why there is none."""

    word: str
    found: KernelObject | None
    reason: str = "there is none"


def look(kinds: Collection[ObjectKind], ids: Iterable[int], keys: Iterable[int], names: Iterable[str]) -> list[Search]:
    """Find everything that was named; `CommandError` where a word means several objects.

    Nothing is done before all of them were found.
    """
    seen = aioipc.inventory(kinds or ALL_KINDS)
    return [
        *(_one(f"id {id}", [each for each in seen if each.id == id]) for id in ids),
        *(_one(f"key {key & 0xFFFFFFFF:#x}", list(_with_key(seen, key))) for key in keys),
        *(_named(name, seen, kinds or ALL_KINDS) for name in names),
    ]


def real_path(text: str) -> str:
    """The path as processes that have it open show it: absolute, without links on the way there."""
    return os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))


def _with_key(seen: Inventory, key: int) -> Iterator[KernelObject]:
    signed = key - (1 << 32) if key >= 1 << 31 else key
    return (each for each in seen if each.kind in SYSV and each.key == signed)


def _named(name: str, seen: Inventory, kinds: Collection[ObjectKind]) -> Search:
    path = real_path(name)
    matching = [each for each in seen if each.name == (path if each.kind in ("fifo", "unix-socket") else name)]
    found = [each for each in matching if not each.removed] or matching
    if "posix-queue" in kinds and not any(each.kind == "posix-queue" for each in found):
        found += _unlisted_queue(name)
    if not any(each.kind in _FILES.values() for each in found):
        found += [each for each in _unlisted_file(path) if each.kind in kinds]
    if not found and os.path.lexists(path):
        return Search(name, None, "is neither a FIFO nor a socket")
    return _one(name, found)


def _unlisted_queue(name: str) -> list[KernelObject]:
    """A POSIX queue that nobody has open is in no list where /dev/mqueue is not mounted."""
    try:
        aioipc.PosixMessageQueue.open(name, access="receive").close()
    except PermissionError:  # it is there; its removal will tell
        pass
    except (OSError, ValueError, aioipc.IPCError):
        return []
    return [KernelObject(kind="posix-queue", name=name)]


def _unlisted_file(path: str) -> list[KernelObject]:
    """A FIFO that nobody has open is in no list, nor is the file of a socket that is gone."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return []
    kind = _FILES.get(stat.S_IFMT(found.st_mode))
    return [] if kind is None else [KernelObject(kind=kind, name=path, uid=found.st_uid, inode=found.st_ino)]


def _one(word: str, found: list[KernelObject]) -> Search:
    if len(found) > 1:
        kinds = " and a ".join(each.kind for each in found)
        raise CommandError(f"{word} is a {kinds}: say which one with --kind; nothing was removed")
    return Search(word, found[0]) if found else Search(word, None)
