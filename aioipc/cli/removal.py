"""The removal of kernel objects: why one is kept, how one is removed, and what came of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import aioipc
from aioipc import KernelObject, OrphanResult, OwnerRecord

from .failure import explain
from .humans import printable

Status = Literal["removed", "would_remove", "gone", "kept", "failed"]
_MOST_NAMED = 3
_FOLDER = "/dev/shm/"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one object, or of a word that named none."""

    label: str
    status: Status
    reason: str | None = None
    found: KernelObject | OwnerRecord | None = None

    @property
    def is_well(self) -> bool:
        """Whether it is gone, or would be."""
        return self.status in ("removed", "would_remove", "gone")

    @property
    def line(self) -> str:
        """It in words."""
        return printable(f"{self.status.replace('_', ' ')} {self.label}" + (f": {self.reason}" if self.reason else ""))

    @property
    def record(self) -> dict[str, object]:
        """It as a value for JSON."""
        found = self.found
        return {
            "kind": None if found is None else found.kind,
            "id": None if found is None else found.id,
            "name": None if found is None else found.name,
            "key": None if found is None else found.key,
            "label": self.label,
            "status": self.status,
            "reason": self.reason,
        }


def why_in_use(found: KernelObject) -> str | None:
    """Who would be hurt if it were removed; None where nobody is known."""
    if not found.in_use:
        return None
    if found.openers:
        named = [f"{each.pid} ({each.command})" for each in found.openers[:_MOST_NAMED]]
        if more := len(found.openers) - len(named):
            named.append(f"{more} more")
        how = "attached by" if found.kind == "sysv-memory" else "open in"
        return f"{how} {'process' if len(found.openers) == 1 else 'processes'} {', '.join(named)}"
    if found.attached:
        return f"attached {found.attached} times" if found.attached > 1 else "attached once"
    if found.waiting:
        return f"{found.waiting} wait for it"
    if found.listening:
        return "somebody listens"
    return "a living program has it open, by aioipc" if found.owner_alive else "somebody uses it"


def label_of(found: KernelObject | OwnerRecord) -> str:
    """What to call it in the output: its kind, and how it is found."""
    if found.name is not None or found.id is not None:
        return f"{found.kind} {found.id if found.name is None else found.name}"
    return f"{found.kind}, key {found.key & 0xFFFFFFFF:#x}" if found.key else f"{found.kind}, private"


def remove(found: KernelObject, *, force: bool, dry_run: bool) -> Outcome:
    """Remove it, unless somebody uses it."""
    label = label_of(found)
    if found.removed:
        return Outcome(label, "kept", "it is removed already and goes with its last user", found)
    if found.kind == "unix-socket" and (found.name or "@").startswith("@"):
        return Outcome(label, "kept", "an abstract socket has no file, it goes with its process", found)
    if not force and (reason := why_in_use(found)) is not None:
        return Outcome(label, "kept", f"{reason}; --force removes it all the same", found)
    if dry_run:
        return Outcome(label, "would_remove", None, found)
    try:
        _REMOVERS[found.kind](found)
    except (OSError, aioipc.IPCError, ValueError) as error:
        return Outcome(label, "failed", explain(error), found)
    return Outcome(label, "removed", None, found)


def orphan_outcome(result: OrphanResult) -> Outcome:
    """What came of an object with an owner record."""
    status: Status = "would_remove" if result.outcome == "removable" else result.outcome
    reason = None if status in ("removed", "would_remove") else result.reason
    return Outcome(label_of(result.record), status, reason, result.record)


def _remove_queue(found: KernelObject) -> None:
    with closing(aioipc.SysVMessageQueue.open(id=found.id)) as queue:
        queue.remove()


def _remove_semaphores(found: KernelObject) -> None:
    with closing(aioipc.SysVSemaphoreSet.open(id=found.id)) as semaphores:
        semaphores.remove()


def _remove_memory(found: KernelObject) -> None:
    with aioipc.SysVSharedMemory.open(id=found.id, readonly=True) as segment:
        segment.remove()


def _remove_posix_queue(found: KernelObject) -> None:
    assert found.name is not None
    with closing(_open_posix_queue(found.name)) as queue:
        if found.inode not in (None, os.fstat(queue.fileno()).st_ino):
            raise FileNotFoundError("another one has taken its name meanwhile")
        queue.remove()


def _open_posix_queue(name: str) -> aioipc.PosixMessageQueue:
    try:
        return aioipc.PosixMessageQueue.open(name, access="receive")
    except PermissionError:  # who may write only may own it all the same
        return aioipc.PosixMessageQueue.open(name, access="send")


def _remove_posix_semaphore(found: KernelObject) -> None:
    assert found.name is not None
    path = f"{_FOLDER}sem.{found.name.removeprefix('/')}"
    _check_same(path, found, stat.S_ISREG)
    try:
        with closing(aioipc.PosixSemaphore.open(found.name)) as semaphore:
            semaphore.remove()  # and its owner record
    except (OSError, ValueError):  # it is broken, or not ours to open
        os.unlink(path)


def _remove_posix_memory(found: KernelObject) -> None:
    assert found.name is not None
    path = _FOLDER + found.name.removeprefix("/")
    _check_same(path, found, stat.S_ISREG)
    try:
        with aioipc.SharedMemory.open(found.name, readonly=True) as memory:
            memory.remove()
    except (OSError, ValueError):  # it is half-made, or not ours to open
        os.unlink(path)


def _remove_path(found: KernelObject) -> None:
    """Remove a FIFO or socket, not opening it: that could meet somebody who waits for a reader."""
    assert found.name is not None
    _check_same(found.name, found, stat.S_ISFIFO if found.kind == "fifo" else stat.S_ISSOCK)
    os.unlink(found.name)


def _check_same(path: str, found: KernelObject, is_kind: Callable[[int], bool]) -> None:
    """Raise `FileNotFoundError` where the name leads to something else by now."""
    now = os.lstat(path)
    known = None if found.kind == "unix-socket" and found.in_use else found.inode  # a live socket's is not its file's
    if not is_kind(now.st_mode) or known not in (None, now.st_ino):
        raise FileNotFoundError("another one has taken its name meanwhile")


_REMOVERS: dict[str, Callable[[KernelObject], None]] = {
    "sysv-queue": _remove_queue,
    "sysv-semaphores": _remove_semaphores,
    "sysv-memory": _remove_memory,
    "posix-queue": _remove_posix_queue,
    "posix-semaphore": _remove_posix_semaphore,
    "posix-memory": _remove_posix_memory,
    "fifo": _remove_path,
    "unix-socket": _remove_path,
}
