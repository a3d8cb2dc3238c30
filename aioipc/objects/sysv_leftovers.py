"""System V objects of dead owners: queues, semaphore sets, shared memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from aioipc._sys import procfs, sysv, sysv_messages, sysv_semaphores, sysv_shm, sysvipc
from aioipc._sys.sysvipc import Row
from aioipc.kernel.claims import UNFINISHED
from aioipc.kernel.owner_records import ObjectKind, OwnerRecord, has_successor

from .leftovers import Uncertain, unclaimed


class _Kind(NamedTuple):
    """How the kernel's table has it, who uses one of a row, and how it is removed."""

    table: Literal["msg", "sem", "shm"]
    id: str
    use: Callable[[Row], str | None]
    remove: Callable[[int], None]


class SysVLeftover:
    """An object by its id."""

    def __init__(self, record: OwnerRecord, row: Row) -> None:
        self._record = record
        self._row = row
        self._kind = _KINDS[record.kind]

    def use(self) -> str | None:
        """Return who uses it, as far as the kernel knows; see `Leftover.use`."""
        return self._kind.use(self._row)

    def remove(self) -> None:
        """Remove it if nothing about it has changed since it was looked at. Raises `OSError`, `Uncertain`."""
        id = self._row[self._kind.id]
        if (now := _row(self._record.kind, id)) is None:
            return
        if any(now[name] != self._row[name] for name in ("key", "cuid", "ctime")) or self._kind.use(now):
            raise Uncertain("it has changed since it was looked at")
        self._kind.remove(id)

    def close(self) -> None:
        """Do nothing: looking needs nothing."""


def find_sysv(record: OwnerRecord) -> SysVLeftover | None:
    """Return the object, or ``None`` where it is gone. Raises `Uncertain`."""
    row = _finished(record, record.id) if record.id is not None else _unfinished(record)
    return None if row is None else SysVLeftover(record, row)


def _finished(record: OwnerRecord, id: int) -> Row | None:
    row = _row(record.kind, id)
    if row is None or (row["key"], row["cuid"]) != (record.key or 0, record.uid):
        return None  # gone; its id is another one's now
    if has_successor(record):
        return None
    if record.changed is None:
        raise Uncertain("its maker was not allowed to look at it, so it cannot be told from a later one of its id")
    if row["ctime"] != record.changed:
        raise Uncertain("it was changed by somebody since, or is another one with its id and key")
    return row


def _unfinished(record: OwnerRecord) -> Row | None:
    """Return what a maker has left that was killed before it knew the id."""
    kind = _KINDS[record.kind]
    for row in _rows(record.kind):
        ours = (row["key"], row["cuid"]) == (record.key or 0, record.uid) and row["ctime"] >= int(record.created) - 1
        if ours and _marked(record, row) and unclaimed(record, partial(_is_of, row[kind.id])):
            return row
    return None


def _is_of(id: int, record: OwnerRecord) -> bool:
    return record.id == id


def _marked(record: OwnerRecord, row: Row) -> bool:
    if record.kind == "sysv-memory" and row["cpid"] != record.pid:  # the kernel knows who has made it
        return False
    return row["perms"] & UNFINISHED == UNFINISHED


def _row(kind: ObjectKind, id: int) -> Row | None:
    name = _KINDS[kind].id
    return next((row for row in _rows(kind) if row[name] == id), None)


def _rows(kind: ObjectKind) -> list[Row]:
    rows = sysvipc.table(_KINDS[kind].table)
    if rows is None:
        raise Uncertain("cannot see the System V objects: there is no /proc/sysvipc")
    return rows


def _queue_use(row: Row) -> str | None:
    """Nobody knows who waits for a message. So who sent or received last counts, as long as that process lives."""
    for pid, when in ((row["lspid"], row["stime"]), (row["lrpid"], row["rtime"])):
        if pid not in (0, os.getpid()) and _lives_since(pid, when):
            return f"process {pid}, which has sent or received last, lives"
    return None


def _lives_since(pid: int, moment: int) -> bool:
    started = procfs.started_at(pid)
    return started is not None and started <= moment + 1


def _set_use(row: Row) -> str | None:
    try:
        for index in range(row["nsems"]):
            waiting = sysv_semaphores.waiting(row["semid"], index)
            if number := waiting + sysv_semaphores.waiting_for_zero(row["semid"], index):
                return f"{number} wait for semaphore {index}"
    except OSError as error:
        if error.errno not in sysv.GONE:
            raise Uncertain(f"cannot see who waits: {error.strerror}") from None
    return None


def _memory_use(row: Row) -> str | None:
    return f"it is attached, {row['nattch']} times" if row["nattch"] else None


def _removing(remove: Callable[[int], None]) -> Callable[[int], None]:
    def remove_if_there(id: int) -> None:
        try:
            remove(id)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EIDRM):
                raise

    return remove_if_there


_KINDS: dict[ObjectKind, _Kind] = {
    "sysv-queue": _Kind("msg", "msqid", _queue_use, _removing(sysv_messages.remove)),
    "sysv-semaphores": _Kind("sem", "semid", _set_use, _removing(sysv_semaphores.remove)),
    "sysv-memory": _Kind("shm", "shmid", _memory_use, _removing(sysv_shm.remove)),
}
