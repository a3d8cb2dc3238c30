"""Which owner record is the one of an object that somebody has just opened.

Ids, keys, names and inodes are given again: System V ids begin at 0 after each boot and in each IPC namespace, and the
number of a namespace goes to a later one. So a record counts only if all that is known fits; of those that do, the
latest counts, for what was made before is gone where its name, or its id in its namespace, is another one's.

A record whose maker is still at it does not say yet what it is about: this object, or none, since its maker will find
that there is one already. So whoever finds nothing better waits for that maker, and looks again.
"""

from __future__ import annotations

import errno
import os
import time
from typing import NamedTuple

from aioipc._sys import procfs
from aioipc._sys.file_identity import FileIdentity

from . import state_directory
from .free_descriptors import descriptor_limit
from .owner_records import PATIENCE, ObjectKind, OwnerRecord, find_files, open_record, place, read


class _Rank(NamedTuple):
    """How well a record fits, the more the greater."""

    sure: bool
    created: float


class Wanted(NamedTuple):
    """An object that is open, whose record is looked for."""

    kind: ObjectKind
    name: str | None
    id: int | None
    key: int | None  #: of a System V object, 0 for a private one; None where it is not known
    changed: int | None  #: ctime of a System V object; None where it could not be looked at
    file: FileIdentity | None

    def rank(self, record: OwnerRecord) -> _Rank | None:
        """Return how well a record fits; ``None`` where it is another one's."""
        if self.name is None:
            return self._rank_by_id(record)
        if record.name != self.name or (record.made and record.file != self.file):
            return None
        return _Rank(record.made, record.created)

    def _rank_by_id(self, record: OwnerRecord) -> _Rank | None:
        """One by whose maker it may just have been made counts, too: it does not know its id yet.

        The ctime need not be that of the record, for anybody may have changed the object; but it was not made later.
        It is in whole seconds of the kernel's coarse clock, which may show the second before.
        """
        found = record.id == self.id if record.made else bool(self.key)
        if not found or (self.key is not None and (record.key or 0) != self.key) or not _of_here(record):
            return None
        if self.changed is not None and int(record.created) - 1 > self.changed:
            return None
        return _Rank(record.made and record.changed == self.changed, record.created)


class Found(NamedTuple):
    """A record that fits."""

    fd: int  #: open
    path: str
    unwritten: bool  #: its maker lives and has not written yet what it has made; look again when it has


def find_record(wanted: Wanted) -> Found | None:
    """Return the record of an object; ``None`` where there is none. Raises `OSError`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, missed = _look(wanted)
        if found is not None or not missed or time.monotonic() > deadline:
            return found


def _look(wanted: Wanted) -> tuple[Found | None, bool]:
    """Return the record that fits best, and whether one was gone before it could be read.

    That may be the one: a record that is completed gets another name. So where something was missed only a record that
    is sure counts.
    """
    fitting: list[tuple[_Rank, OwnerRecord]] = []
    missed = False
    for path in _paths(wanted):
        try:
            record = _read(path)
        except FileNotFoundError:
            missed = True
        else:
            if record is not None and (rank := wanted.rank(record)) is not None:
                fitting.append((rank, record))
    fitting.sort(key=lambda each: each[0], reverse=True)
    if not fitting or (missed and not fitting[0][0].sure):
        return None, missed
    rank, best = fitting[0]
    unwritten = None if rank.sure else next((record for _, record in fitting if _is_unwritten(record)), None)
    path = (unwritten or best).path
    try:
        return Found(open_record(path), path, unwritten is not None), missed
    except FileNotFoundError:
        return None, True


def _paths(wanted: Wanted) -> list[str]:
    prefixes = place(wanted.kind, name=wanted.name, id=wanted.id), place(wanted.kind)
    with state_directory.existing() as directories:
        return [os.path.join(each.path, name) for each in directories for name in find_files(each, prefixes)]


def _read(path: str) -> OwnerRecord | None:
    """Read one; what is no record is left out, with a warning. Raises `OSError` where it, or its like, cannot be."""
    try:
        fd = open_record(path)
        try:
            return read(fd, path)
        finally:
            os.close(fd)
    except ValueError as error:
        state_directory.say_once(str(error))
    except OSError as error:
        if error.errno == errno.ENOENT or descriptor_limit(error.errno) is not None:
            raise
        state_directory.say_once(f"{path} is no owner record: {error.strerror}")
    return None


def _is_unwritten(record: OwnerRecord) -> bool:
    """Return whether its maker is about to write what the object is: lives, and keeps the record locked."""
    if record.made:
        return False
    is_ours = record.pid_namespace == procfs.namespace("pid")  # else its pid says nothing
    if is_ours and not procfs.is_running(record.pid, record.start_time):
        return False
    return record.is_alive()


def _of_here(record: OwnerRecord) -> bool:
    """Return whether a record is of this boot and IPC namespace, as far as /proc tells, or has told its maker."""
    here = (record.boot_id, procfs.boot_id()), (record.ipc_namespace, procfs.namespace("ipc"))
    return all(theirs == ours or not theirs or not ours for theirs, ours in here)
