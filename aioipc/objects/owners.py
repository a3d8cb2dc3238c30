"""Whose an object is by the owner records: the maker's pid, when it was made, and whether its owner lives."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator

from aioipc._sys import procfs
from aioipc._sys.exhaustion import raise_if_exhausted
from aioipc._sys.file_identity import file_identity
from aioipc.kernel.owner_records import ObjectKind, OwnerRecord, read_records

from .kernel_object import KernelObject
from .posix_objects import SHARED_MEMORY


class Owners:
    """The records of this user, as far as they are of this boot and IPC namespace."""

    def __init__(self, kinds: Collection[ObjectKind]) -> None:
        self.trouble: str | None = None  # why they could not be read
        self._records: defaultdict[tuple[str, str | int | None], list[OwnerRecord]] = defaultdict(list)
        try:
            records = read_records(kinds)
        except OSError as error:
            raise_if_exhausted(error)
            self.trouble = str(error)
            return
        here = procfs.boot_id(), procfs.namespace("ipc")
        for record in records:
            if (record.boot_id, record.ipc_namespace) == here or record.kind in ("fifo", "unix-socket"):
                self._records[record.kind, record.id if record.name is None else record.name].append(record)

    def names(self, kind: ObjectKind) -> Iterator[str]:
        """Yield the names of a kind that there are records of."""
        for found, name in self._records:
            if found == kind and isinstance(name, str):
                yield name

    def of(self, found: KernelObject) -> OwnerRecord | None:
        """Return the record of an object; that of another object of the same name or id is none."""
        name = found.id if found.name is None else found.name
        records = self._records.get((found.kind, name), ())
        return next((record for record in records if _is_about(record, found)), None)


def is_alive(record: OwnerRecord) -> bool:
    """Return whether the owner lives; true where that cannot be told."""
    try:
        return record.is_alive()
    except OSError:
        return True


def _is_about(record: OwnerRecord, found: KernelObject) -> bool:
    if found.name is None:
        return found.changed is not None and record.changed == int(found.changed)
    if record.file is None:  # its maker died before it could write which file it is
        return False
    if (path := _path(found)) is None:
        return record.file.inode == found.inode
    try:
        return file_identity(path) == record.file
    except OSError:
        return False


def _path(found: KernelObject) -> str | None:
    """Return where an object's file is; that of a queue need not be anywhere."""
    name = found.name or ""
    if found.kind == "posix-memory":
        return SHARED_MEMORY + name
    if found.kind == "posix-semaphore":
        return f"{SHARED_MEMORY}/sem.{name[1:]}"
    return name if os.path.isabs(name) and found.kind != "posix-queue" else None
