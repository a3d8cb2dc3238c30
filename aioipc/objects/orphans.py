"""Clean up after processes that were killed: remove the objects whose owners are dead and that nobody uses.

Only objects with an owner record are removed, so only what aioipc has made for this user, and what was to be removed
with its owner. While one is looked at and removed its record is locked alone: two clean-ups never meet at one, and
whoever opens the object at that moment waits for the lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aioipc._sys import procfs
from aioipc.kernel.owner_records import (
    LockState,
    ObjectKind,
    OwnerRecord,
    locked_alone,
    read,
    read_records,
    sweep_unwritten,
)

from .arguments import check_kinds, check_seconds
from .file_leftovers import find_file
from .leftovers import Leftover, Uncertain
from .sysv_leftovers import find_sysv

OrphanOutcome: TypeAlias = Literal["removed", "removable", "gone", "kept", "failed"]

_SURVIVE = ("fifo", "unix-socket")  # a boot
_NOT_DEAD: dict[LockState, tuple[OrphanOutcome, str]] = {
    "alive": ("kept", "a living process has it"),
    "examined": ("kept", "another clean-up looks at it right now"),
    "gone": ("gone", "it was removed just now"),
}


@dataclass(frozen=True, slots=True)
class OrphanResult:
    """What `remove_orphans` did with one object, and why."""

    record: OwnerRecord
    """Which object, and whose."""
    outcome: OrphanOutcome
    """``removed``; ``removable``: a dry run would have removed it; ``gone``: it was not there any more, only its
    record was; ``kept``; ``failed``: it could not be removed."""
    reason: str
    """Why, as a sentence for people."""


def remove_orphans(
    *, kinds: Collection[ObjectKind] | None = None, older_than: float = 0.0, dry_run: bool = False
) -> list[OrphanResult]:
    """Remove what killed processes have left behind, and say of every object with an owner record what was done.

    An object is removed if aioipc has made it for this user, it was to be removed with its owner (``remove=True``), no
    living process has it open through aioipc, and nobody else is seen to use it. What is not surely the object of its
    record is kept, and so is what belongs to another IPC or PID namespace. Who uses it through aioipc with another
    state directory, or as another user, is not seen by that: set AIOIPC_STATE_DIR alike, or make it with
    ``remove=False``.

    ``kinds`` are those to look at, by default all. ``older_than`` spares objects made within the last so many seconds.
    ``dry_run`` removes nothing.

    It is a plain call that takes some milliseconds, and more where a FIFO makes it look through /proc.

    Raises `OSError` where AIOIPC_STATE_DIR is relative, or no directory of this user alone; `TypeError` or `ValueError`
    for wrong arguments. What cannot be removed is no error: its outcome is ``failed``.
    """
    wanted, older_than = check_kinds(kinds), check_seconds("older_than", older_than)
    if not dry_run:
        sweep_unwritten()
    return [_clean_up(record, older_than, dry_run) for record in read_records(wanted)]


def _clean_up(record: OwnerRecord, older_than: float, dry_run: bool) -> OrphanResult:
    try:
        with locked_alone(record.path) as (fd, state):
            if state == "dead":
                known = read(fd, record.path)  # its maker may have written more until it died
                record = record if known is None else known
            return OrphanResult(record, *_settle(record, state, older_than, dry_run))
    except Uncertain as error:
        return OrphanResult(record, "kept", str(error))
    except (OSError, ValueError) as error:
        return OrphanResult(record, "failed", str(error))


def _settle(record: OwnerRecord, state: LockState, older_than: float, dry_run: bool) -> tuple[OrphanOutcome, str]:
    """Remove the object if it is to be removed; return what was done, and why."""
    if state != "dead":
        return _NOT_DEAD[state]
    if time.time() - record.created < older_than:
        return "kept", f"it was made within the last {older_than:g} s"
    found = None if _lost_with_boot(record) else _find(record)
    if found is None:
        if not dry_run:
            os.unlink(record.path)
        return "gone", "it is not there any more, only its record was"
    try:
        if not record.remove:
            return "kept", "it was to stay when its owner ends (remove=False)"
        if use := found.use():
            return "kept", use
        if dry_run:
            return "removable", "its owner is dead and nobody uses it"
        found.remove()
    finally:
        found.close()
    with contextlib.suppress(OSError):  # the next clean-up finds it gone
        os.unlink(record.path)
    return "removed", "its owner is dead and nobody uses it"


def _lost_with_boot(record: OwnerRecord) -> bool:
    """Return whether the machine was started anew since, and the object went with that. Raises `Uncertain`."""
    if record.kind in _SURVIVE:
        return False
    if not record.boot_id or not procfs.boot_id():
        raise Uncertain("cannot tell whether the machine was started anew since: /proc is not there, or was not then")
    return record.boot_id != procfs.boot_id()


def _find(record: OwnerRecord) -> Leftover | None:
    if record.boot_id == procfs.boot_id() and record.kind != "unix-socket":  # which answers in any namespace
        for what, theirs in (("ipc", record.ipc_namespace), ("pid", record.pid_namespace)):
            if theirs != procfs.namespace(what):
                raise Uncertain(f"it belongs to another {what.upper()} namespace, {theirs}")
    return find_sysv(record) if record.name is None else find_file(record)
