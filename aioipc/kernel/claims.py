"""The claim to an object that outlives its process: its owner record, and the lock that says that somebody has it.

Whoever makes an object begins a claim before and completes it after; a user of an object that exists joins the record
of its maker, if there is one. Each claim is one descriptor. It ends with the object that has it, or with the process.

What is made can be told from everybody else's at once, though its id or inode is known only when it is there: it is
made with permission to execute, which means nothing for such an object and which nobody gives, and loses that when the
record is complete.

A forked child has the same lock as its parent, for it has the same open file: the object counts as in use until both
are gone, or until the child calls ``execve(2)``. But only the process that has begun a claim removes anything.
"""

from __future__ import annotations

import errno
import os
import time
from functools import lru_cache
from types import TracebackType
from typing import Self

from aioipc._sys import failpoints, procfs
from aioipc._sys.file_identity import FileIdentity

from . import state_directory
from .free_descriptors import descriptor_limit
from .owner_records import PATIENCE, ObjectKind, encode, file_name, lock_shared
from .pipes import above_stdio
from .record_search import Wanted, find_record

UNFINISHED = 0o111
"""Permissions that a new object has until its record says which one it is."""

_TRIES = 3


class Claim:
    """What one object of a process has to do with the record of a kernel object; possibly there is no record."""

    __slots__ = ("_fd", "_kind", "_path", "_pid", "_remove", "token")

    def __init__(self, kind: ObjectKind, *, remove: bool = False) -> None:
        self._fd = -1
        self._kind = kind
        self._path = ""
        self._pid = os.getpid()
        self._remove = remove
        self.token: str = ""  # random, for names that nobody else uses

    @classmethod
    def begin(cls, kind: ObjectKind, name: str | None = None, *, key: int | None = None, remove: bool) -> Self:
        """Write that an object is about to be made, and keep that locked.

        ``name`` is absolute where it is a path. Where the record cannot be written, the claim is there without one, and
        that is said once. Raises `OSError` with EMFILE or ENFILE where there are no descriptors left.
        """
        claim = cls(kind, remove=remove)
        claim.token = os.urandom(8).hex()
        line = encode({"kind": kind, "name": name, "key": key, **_maker(), "created": time.time(), "remove": remove})
        try:
            for _ in range(_TRIES):  # a clean-up may take away what is empty still
                if claim._write(file_name(kind, claim.token, name=name), line):
                    break
        except OSError as error:
            claim.end(gone=True)
            if (limit := descriptor_limit(error.errno)) is not None:
                text = f"no descriptor is free for the owner record of a new object: {limit}"
                raise OSError(error.errno, text) from None
            state_directory.warn_once(str(error))
        failpoints.hit("record-written")
        return claim

    @classmethod
    def join(
        cls,
        kind: ObjectKind,
        name: str | None = None,
        *,
        id: int | None = None,
        key: int | None = None,
        changed: int | None = None,
        file: FileIdentity | None = None,
    ) -> Self:
        """Lock the record of an object that exists and is open, if there is one that may be opened.

        A System V object is told by its ``id``, its ``key`` (0 for a private one, ``None`` where nobody knows) and its
        ctime. Where a clean-up is at work on it, or its maker has not written yet what it has made, wait for that for
        a moment; look then whether the object is still there.
        Raises `OSError` with EMFILE or ENFILE where there are no descriptors left.
        """
        claim = cls(kind)
        try:
            claim._lock(Wanted(kind, name, id, key, changed, file))
        except OSError as error:  # it can be used without
            if (limit := descriptor_limit(error.errno)) is not None:
                text = f"no descriptor is free for the owner record of an object that is opened: {limit}"
                raise OSError(error.errno, text) from None
            state_directory.say_once("objects are opened without a look for their owner records", str(error))
        return claim

    @property
    def removes(self) -> bool:
        """Whether closing takes the object away: it was to be so, and this process has made it, not its parent."""
        return self._remove and self._pid == os.getpid()

    def complete(self, *, id: int | None = None, changed: int | None = None, file: FileIdentity | None = None) -> None:
        """Write what was made: its id and ctime, or which file it is."""
        failpoints.hit("object-made")
        self._append({"made": True, "id": id, "changed": changed, "file": file})
        if id is not None and self._fd >= 0:
            path = os.path.join(os.path.dirname(self._path), file_name(self._kind, self.token, id=id))
            try:
                os.rename(self._path, path)
                self._path = path
            except OSError as error:
                state_directory.logger.debug("%s keeps its name: %s", self._path, error)
        failpoints.hit("record-completed")

    def note_change(self, changed: int | None) -> None:
        """Write that ctime of a System V object is another one by now."""
        self._append({"changed": changed})

    def end(self, *, gone: bool = False) -> None:
        """Let go of the record; take it away where its object is gone, or never came to be. Ended already: nothing."""
        if gone:
            self.forget()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def forget(self) -> None:
        """Take the record away, but not in a forked child."""
        failpoints.hit("object-removed")
        path, self._path = self._path, ""
        if path and self._pid == os.getpid():
            try:
                os.unlink(path)
            except OSError:  # it is gone already, or is left for the next clean-up
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the record away where the making of the object has failed; else the claim goes on."""
        if exc_value is not None:
            self.end(gone=True)

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1  # the garbage collector may have this end first, and then the object that has it
        if fd >= 0:
            os.close(fd)

    def _write(self, name: str, line: bytes) -> bool:
        """Make the file, lock it, and write the line; False where it was taken away in between."""
        made = state_directory.create_file(name)
        if made is None:
            return True
        fd, self._path = made
        self._fd = above_stdio(fd)
        if not lock_shared(self._fd) or not (found := os.fstat(self._fd)).st_nlink:
            self.end()
            return False
        if found.st_mode & 0o777 != 0o600:  # the umask took some away
            os.fchmod(self._fd, 0o600)
        if os.write(self._fd, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        return True

    def _lock(self, wanted: Wanted) -> None:
        """Lock the record as a user, if there is one; where somebody keeps it locked alone for long, have none."""
        deadline = time.monotonic() + PATIENCE
        while (found := find_record(wanted)) is not None:
            self._fd, self._path = above_stdio(found.fd), found.path
            if not lock_shared(self._fd):
                break
            is_there = os.fstat(self._fd).st_nlink > 0
            if (is_there and not found.unwritten) or time.monotonic() > deadline:
                return
            self.end()
            time.sleep(0.001)
        self.end()

    def _append(self, fields: dict[str, object]) -> None:
        if self._fd >= 0:
            try:
                os.write(self._fd, encode(fields))
            except OSError as error:
                if error.errno != errno.EBADF:  # of a user who may only read it; who cleans up keeps what has changed
                    state_directory.warn_once(f"{self._path}: {error.strerror}")


def _maker() -> dict[str, object]:
    """Return who this process is."""
    return {
        "pid": os.getpid(),
        "start_time": _start_time(os.getpid()),
        "boot_id": procfs.boot_id(),
        "ipc_namespace": procfs.namespace("ipc"),
        "pid_namespace": procfs.namespace("pid"),
        "uid": os.geteuid(),
    }


@lru_cache(maxsize=1)
def _start_time(pid: int) -> int:
    return procfs.start_time(pid) or 0
