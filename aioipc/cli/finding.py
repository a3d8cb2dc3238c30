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
    names = list(names)
    folders = {os.path.dirname(path) for path in map(real_path, names) if is_socket_or_fifo(path)}
    seen = aioipc.inventory(kinds or ALL_KINDS, folders=folders)
    return [
        *(_one(f"id {id}", [each for each in seen if each.id == id]) for id in ids),
        *(_one(f"key {key & 0xFFFFFFFF:#x}", list(_with_key(seen, key))) for key in keys),
        *(_named(name, seen, kinds or ALL_KINDS) for name in names),
    ]


def real_path(text: str) -> str:
    """The path as processes that have it open show it: absolute, without links on the way there."""
    return os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))


def is_socket_or_fifo(path: str) -> bool:
    """Whether that is what lies there."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _with_key(seen: Inventory, key: int) -> Iterator[KernelObject]:
    signed = key - (1 << 32) if key >= 1 << 31 else key
    return (each for each in seen if each.kind in SYSV and each.key == signed)


def _named(name: str, seen: Inventory, kinds: Collection[ObjectKind]) -> Search:
    path = real_path(name)
    matching = [each for each in seen if each.name == (path if each.kind in ("fifo", "unix-socket") else name)]
    found = [each for each in matching if not each.removed] or matching
    if "posix-queue" in kinds and not any(each.kind == "posix-queue" for each in found):
        found += _unlisted_queue(name)
    if found:
        return _one(name, found)
    if os.path.lexists(path) and not is_socket_or_fifo(path):
        return Search(name, None, "is neither a FIFO nor a socket")
    return Search(name, None)


def _unlisted_queue(name: str) -> list[KernelObject]:
    """A POSIX queue that nobody has open is in no list where /dev/mqueue is not mounted."""
    try:
        aioipc.PosixMessageQueue.open(name, access="receive").close()
    except PermissionError:  # it is there; its removal will tell
        pass
    except (OSError, ValueError, aioipc.IPCError):
        return []
    return [KernelObject(kind="posix-queue", name=name)]


def _one(word: str, found: list[KernelObject]) -> Search:
    if len(found) > 1:
        kinds = " and a ".join(each.kind for each in found)
        raise CommandError(f"{word} is a {kinds}: say which one with --kind; nothing was removed")
    return Search(word, found[0]) if found else Search(word, None)
