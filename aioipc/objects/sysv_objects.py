"""System V queues, semaphore sets and memory, from the kernel's tables and by the calls that only look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aioipc._sys import sysv_messages, sysv_semaphores
from aioipc._sys.open_files import OpenFiles
from aioipc._sys.sysvipc import Row, table

from .kernel_object import KernelObject, ObjectKind, SemaphoreState, openers

_SHM_DEST = 0o1000


def queues() -> Iterator[KernelObject]:
    """Yield the message queues."""
    for row in table("msg") or ():
        yield _object(
            "sysv-queue",
            row,
            row["msqid"],
            size=_max_bytes(row["msqid"]),
            used=row["cbytes"],
            messages=row["qnum"],
            last_pids=_pids(row, "lspid", "lrpid"),
            last_used=_latest(row["stime"], row["rtime"]),
        )


def semaphores() -> Iterator[KernelObject]:
    """Yield the semaphore sets."""
    for row in table("sem") or ():
        states = _states(row["semid"], row["nsems"])
        pids = sorted({state.last_pid for state in states or ()} - {0})
        yield _object(
            "sysv-semaphores",
            row,
            row["semid"],
            count=row["nsems"],
            semaphores=states,
            last_pids=tuple(pids),
            last_used=_latest(row["otime"]),
            in_use=any(state.waiting or state.waiting_for_zero for state in states or ()),
        )


def memory(users: OpenFiles) -> Iterator[KernelObject]:
    """Yield the segments of shared memory."""
    for row in table("shm") or ():
        yield _object(
            "sysv-memory",
            row,
            row["shmid"],
            size=row["size"],
            used=row["rss"] + row["swap"],
            attached=row["nattch"],
            openers=openers(users.segments.get(row["shmid"])),
            creator=row["cpid"] or None,
            last_pids=_pids(row, "lpid"),
            last_used=_latest(row["atime"], row["dtime"]),
            removed=bool(row["perms"] & _SHM_DEST),
            in_use=row["nattch"] > 0,
        )


def _object(kind: ObjectKind, row: Row, id: int, **more: Any) -> KernelObject:
    """Return an object with what every kind has in the kernel's table, and more."""
    return KernelObject(
        kind=kind,
        id=id,
        key=row["key"],
        uid=row["uid"],
        gid=row["gid"],
        mode=row["perms"] & 0o777,
        changed=float(row["ctime"]),
        **more,
    )


def _states(set_id: int, count: int) -> tuple[SemaphoreState, ...] | None:
    """Look at each semaphore; None where the set cannot be read, or has just been removed."""
    try:
        values = sysv_semaphores.values(set_id, count)
        return tuple(
            SemaphoreState(
                value,
                sysv_semaphores.waiting(set_id, index),
                sysv_semaphores.waiting_for_zero(set_id, index),
                sysv_semaphores.last_pid(set_id, index),
            )
            for index, value in enumerate(values)
        )
    except OSError:
        return None


def _max_bytes(queue: int) -> int | None:
    try:
        return sysv_messages.status(queue).max_bytes
    except OSError:
        return None


def _pids(row: Row, *names: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(row[name] for name in names if row[name]))


def _latest(*times: int) -> float | None:
    return float(max(times)) or None
