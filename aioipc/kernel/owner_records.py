"""Owner records: whose each named object is, and whether its owner lives.

An object of the kernel outlives the process that has made it, and mostly does not tell who that was. So whoever makes
one writes a record before: a file in the state directory, which its maker keeps locked (``flock(2)``, shared) as long
as it has the object open, and so does every other user of it. The kernel takes a lock away from whoever dies, by any
signal, and from nobody who lives, also when stopped. A pid alone says nothing: it may be another process by now.

A record is a file of lines of JSON. The first says what is to be made, and is written before it is made; the next one
says what has come of it, and is written after. So a record is never half-changed: a line that a dying process has not
finished does not count. Later lines say what else has changed. The name of the file begins with the kind and with what
the object is found by.

Rejected: a daemon that tracks objects, which must be running, and removes what somebody else still uses.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from aioipc._sys.file_identity import FileIdentity
from aioipc._sys.file_locks import flock_within, try_flock

from . import state_directory

ObjectKind: TypeAlias = Literal[
    "sysv-queue",
    "sysv-semaphores",
    "sysv-memory",
    "posix-queue",
    "posix-semaphore",
    "posix-memory",
    "fifo",
    "unix-socket",
]
KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
"""All kinds of objects that can be left over."""

_SUFFIX = ".owner"
_NAME = re.compile(rf"({'|'.join(KINDS)})\.[0-9a-z]+\.[0-9a-f]{{16}}\.owner")
_LARGEST = 65536  # bytes of a record; a path may have 4096
PATIENCE = 5.0
"""Seconds to wait for somebody who is at work on a record, or on a path, and may have to wait for a CPU."""


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """What the maker of an object has written about it."""

    kind: ObjectKind
    name: str | None  #: the name of a POSIX object, the absolute path of a FIFO or socket; None for System V
    id: int | None  #: of a System V object; None where its maker died before it could write it
    key: int | None  #: of a System V object; None for a private one
    pid: int  #: who has made it, as its PID namespace counts
    start_time: int  #: when that process was started, in clock ticks since the machine was
    boot_id: str  #: which run of the machine that was
    ipc_namespace: str  #: in which IPC namespace, as ``/proc/PID/ns/ipc`` has it
    pid_namespace: str
    uid: int  #: the effective user of the maker
    created: float  #: seconds since the epoch, shortly before it was made
    remove: bool  #: it was to be removed with its owner
    made: bool  #: its maker came to write that it was made
    changed: int | None  #: ctime of a System V object, in seconds since the epoch
    file: FileIdentity | None  #: which file the name has led to, where it leads to one
    path: str  #: the file of this record

    def is_alive(self) -> bool:
        """Return True where a living process has the object open through aioipc, its maker or another one.

        That is so where the record is locked (``flock(2)``), whatever the pid says. A process that is stopped lives; so
        does a forked child that has not called ``execve(2)``. Raises `OSError` where it cannot be told.
        """
        with locked_alone(self.path) as (_, state):
            return state == "alive"


def read_records(kinds: Collection[ObjectKind] | None = None) -> list[OwnerRecord]:
    """Return the records of all objects that aioipc has made for this user, or of those of some kinds; oldest first.

    Files that are no records are left out, with a warning. Raises the `OSError` where AIOIPC_STATE_DIR is no directory
    of this user alone.
    """
    with state_directory.existing() as directories:
        found = [record for directory in directories for record in _records(directory)]
    return sorted((each for each in found if kinds is None or each.kind in kinds), key=lambda each: each.created)


def has_successor(record: OwnerRecord) -> bool:
    """Return whether a later System V object got the same id, on the same boot and in a namespace of the same number.

    Then that of the record is gone, though the later one may look the same: ctime counts in seconds, and a container
    that starts again may have made both within one.
    """
    with state_directory.existing() as directories:
        others = [other for each in directories for other in _records(each, place(record.kind, id=record.id))]
    like = record.id, record.boot_id, record.ipc_namespace
    return any((each.id, each.boot_id, each.ipc_namespace) == like and each.created > record.created for each in others)


def sweep_unwritten() -> None:
    """Take away the records whose makers were killed before the first line was whole, and so before they made anything.

    Raises `OSError` as `read_records`.
    """
    with state_directory.existing() as directories:
        for directory in directories:
            for path, content in _contents(directory):
                if b"\n" not in content:
                    with locked_alone(path) as (fd, state):
                        if state == "dead" and b"\n" not in os.pread(fd, _LARGEST, 0):
                            with suppress(OSError):  # the directory may be there to be read only
                                os.unlink(path)


def discard(kind: ObjectKind, name: str, file: FileIdentity) -> None:
    """Take away the record of a file that was removed in its dead owner's place; without one: do nothing."""
    with state_directory.existing() as directories:
        for directory in directories:
            for record in _records(directory, place(kind, name=name)):
                if record.name == name and record.file == file:
                    with locked_alone(record.path) as (_, state):
                        if state == "dead":
                            os.unlink(record.path)


def find_files(directory: state_directory.StateDirectory, prefix: str | tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the files that may be records and begin so."""
    for name in os.listdir(directory.fd):
        if name.startswith(prefix) and _NAME.fullmatch(name):
            yield name


def file_name(kind: ObjectKind, token: str, *, name: str | None = None, id: int | None = None) -> str:
    """Return the name of a record's file; ``token`` tells it apart from all others."""
    return f"{place(kind, name=name, id=id)}{token}{_SUFFIX}"


def token_of(record: OwnerRecord) -> str:
    """Return the token of a record's file, with which its maker has made the names that nobody else uses."""
    return os.path.basename(record.path).split(".")[2]


def place(kind: ObjectKind, *, name: str | None = None, id: int | None = None) -> str:
    """Return how the names of the files begin that may be about an object."""
    found_by = "new" if id is None else str(id)
    if name is not None:
        found_by = f"{zlib.crc32(os.fsencode(name)):08x}"
    return f"{kind}.{found_by}."


def encode(fields: dict[str, object]) -> bytes:
    """Return a line for a record."""
    return json.dumps(fields).encode() + b"\n"


def decode(data: bytes, path: str) -> OwnerRecord | None:
    """Return the record, or ``None`` where not even its first line was finished; `ValueError` for anything else."""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    if not lines:
        return None
    fields: dict[str, Any] = {"id": None, "made": False, "changed": None, "file": None}
    try:
        for line in lines:
            fields.update(cast("dict[str, Any]", json.loads(line)))
        if fields["file"] is not None:
            fields["file"] = FileIdentity(*fields["file"])
        return _checked(OwnerRecord(path=path, **fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no owner record: {error}") from None


def open_record(path: str) -> int:
    """Open a record to lock it, and to write to it, if that can be; a directory may be there to be read only."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | flags)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
    return os.open(path, os.O_RDONLY | flags)


def read(fd: int, path: str) -> OwnerRecord | None:
    """Read the record that is open; as `decode`."""
    return decode(os.pread(fd, _LARGEST, 0), path)


LockState: TypeAlias = Literal["dead", "alive", "examined", "gone"]


@contextmanager
def locked_alone(path: str) -> Iterator[tuple[int, LockState]]:
    """Try to lock a record against everybody; give its descriptor, and what that has shown. The lock ends at exit.

    ``"dead"``: nobody alive has the object; the record is locked. ``"alive"``: somebody has. ``"examined"``: nobody
    alive has it, and another clean-up is at work on it. ``"gone"``: there is no record any more.
    """
    try:
        fd = open_record(path)
    except FileNotFoundError:
        yield -1, "gone"
        return
    try:
        yield fd, _lock_alone(fd, os.path.dirname(path))
    finally:
        os.close(fd)


def lock_shared(fd: int) -> bool:
    """Lock a record as a user of its object; False where somebody keeps it locked alone for long."""
    return flock_within(PATIENCE, fd, shared=True)


def _lock_alone(fd: int, directory: str) -> LockState:
    """Who tries takes a lock for a moment, and would look alive to another who tries; so only one does at a time."""
    turn = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not flock_within(PATIENCE, turn, shared=False):
            raise BlockingIOError("another process keeps the state directory locked", directory)
        if try_flock(fd, shared=False):
            return "dead" if os.fstat(fd).st_nlink else "gone"
        if not try_flock(fd, shared=True):
            return "examined"
        fcntl.flock(fd, fcntl.LOCK_UN)
        return "alive"
    finally:
        os.close(turn)


def _records(directory: state_directory.StateDirectory, prefix: str = "") -> Iterator[OwnerRecord]:
    for path, content in _contents(directory, prefix):
        try:
            record = decode(content, path)
        except ValueError as error:
            state_directory.say_once(str(error))
        else:
            if record is not None:
                yield record


def _contents(directory: state_directory.StateDirectory, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the paths of the files that may be records, and what is in them; what is no file is left out."""
    for name in find_files(directory, prefix):
        path = os.path.join(directory.path, name)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory.fd)
        except FileNotFoundError:  # its object has just been removed
            continue
        except OSError as error:
            state_directory.say_once(f"{path} is no owner record: {error.strerror}")
            continue
        try:
            content = os.pread(fd, _LARGEST, 0)
        except OSError as error:  # a directory, a FIFO
            state_directory.say_once(f"{path} is no owner record: {error.strerror}")
            continue
        finally:
            os.close(fd)
        yield path, content


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str, type(None)),
    "id": (int, type(None)),
    "key": (int, type(None)),
    "pid": (int,),
    "start_time": (int,),
    "boot_id": (str,),
    "ipc_namespace": (str,),
    "pid_namespace": (str,),
    "uid": (int,),
    "created": (int, float),
    "remove": (bool,),
    "made": (bool,),
    "changed": (int, type(None)),
}


def _checked(record: OwnerRecord) -> OwnerRecord:
    if record.kind not in KINDS:
        raise ValueError(f"there is no kind {record.kind!r}")
    for name, types in _TYPES.items():
        if not isinstance(value := getattr(record, name), types):
            raise ValueError(f"its {name} is {value!r}")
    if record.kind.startswith("sysv-") == (record.name is not None):
        raise ValueError("it does not say which object it is about")
    return record
