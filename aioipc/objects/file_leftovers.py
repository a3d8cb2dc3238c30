"""Objects of dead owners that are files: POSIX memory and semaphores, FIFOs, paths of UNIX sockets, POSIX queues."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from aioipc._sys import open_files, posix_mq, posix_sem
from aioipc._sys.file_identity import FileIdentity, file_identity
from aioipc._sys.leases import is_open_elsewhere
from aioipc.kernel import shared_memory, socket_paths
from aioipc.kernel.claims import UNFINISHED
from aioipc.kernel.owner_records import OwnerRecord, token_of

from .judgement import may_be_open_unseen
from .kernel_object import KernelObject
from .leftovers import Leftover, Uncertain, unclaimed

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Files:
    """The names of one file: its own, and one that it had while it was made."""

    _type: ClassVar[int]

    def __init__(self, record: OwnerRecord, own: str, temporary: str | None = None) -> None:
        self._record = record
        self._own = own
        self._temporary = temporary

    def names(self) -> list[str]:
        """Return those that are there and lead to the file of the record. Raises `Uncertain`."""
        return [name for name in (self._own, self._temporary) if name is not None and self._is_the_one(name)]

    def use(self) -> str | None:
        """Return who uses it; see `Leftover.use`."""
        raise NotImplementedError

    def remove(self) -> None:
        """Take away the names that still lead to it. Raises `OSError`, `Uncertain`."""
        for name in self.names():
            os.unlink(name)

    def close(self) -> None:
        """Do nothing: looking needs nothing."""

    def _is_the_one(self, name: str) -> bool:
        try:
            status, identity = os.lstat(name), file_identity(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise Uncertain(f"cannot see {name}: {error.strerror}") from None
        return stat.S_IFMT(status.st_mode) == self._type and _same(self._record, status, identity, name != self._own)


class _SharedFile(_Files):
    """POSIX shared memory, or a semaphore: a file in /dev/shm."""

    _type = stat.S_IFREG

    def use(self) -> str | None:
        """Ask the kernel for a lease on the file."""
        for name in self.names()[:1]:
            try:
                fd = os.open(name, _OPEN)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise Uncertain(f"cannot see who has it open: {error.strerror}") from None
            try:
                return _opened(fd)
            finally:
                os.close(fd)
        return None


class _Fifo(_Files):
    """A FIFO. Opening it to look would let in somebody who waits for the other side, so /proc is asked."""

    _type = stat.S_IFIFO

    def use(self) -> str | None:
        """Look who has it open."""
        if self._record.file is not None and self._record.file.born is None:
            raise Uncertain("its file system does not tell when it was made, so it may be a later one of its inode")
        return _openers(os.lstat(self._own)) if self.names() else None


class _SocketPath(_Files):
    """The path of a UNIX socket."""

    _type = stat.S_IFSOCK

    def use(self) -> str | None:
        """Try to connect."""
        return "somebody has the socket open" if any(map(socket_paths.answers, self.names())) else None

    def remove(self) -> None:
        """Take the path away, while nobody takes it over."""
        with socket_paths.locked(os.path.dirname(self._own), self._own):
            if self.use():
                raise Uncertain("somebody has just opened a socket there")
            super().remove()


class _Queue:
    """A POSIX queue, open to look at it: its name may lead to no file that can be seen."""

    def __init__(self, record: OwnerRecord, name: str, fd: int) -> None:
        self._record = record
        self._name = name
        self._fd = fd

    def is_the_one(self) -> bool:
        status = os.fstat(self._fd)
        return status.st_nlink > 0 and _same(self._record, status, file_identity(self._fd), False)

    def use(self) -> str | None:
        """Ask the kernel for a lease on the file."""
        return _opened(self._fd)

    def remove(self) -> None:
        """Take the name away, if it still leads to this queue. Raises `OSError`."""
        if self.is_the_one():
            with contextlib.suppress(FileNotFoundError):
                posix_mq.unlink_queue(self._name)

    def close(self) -> None:
        """Close the queue."""
        os.close(self._fd)


def find_file(record: OwnerRecord) -> Leftover | None:
    """Return the object, or ``None`` where it is gone. Raises `Uncertain`."""
    name, token = record.name or "", token_of(record)
    if record.kind == "posix-queue":
        return _find_queue(record, name)
    found: _Files
    if record.kind == "posix-memory":
        found = _SharedFile(record, "/dev/shm" + name, shared_memory.temporary_path(token))
    elif record.kind == "posix-semaphore":
        found = _SharedFile(record, str(posix_sem.path_of(name)))
    elif record.kind == "fifo":
        found = _Fifo(record, name)
    else:
        found = _SocketPath(record, name, socket_paths.temporary_path(name, token))
    return found if found.names() else None


def _find_queue(record: OwnerRecord, name: str) -> _Queue | None:
    try:
        fd = posix_mq.open_queue(name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Uncertain(f"cannot see who has it open: {error.strerror}") from None
    found = _Queue(record, name, fd)
    try:
        ours = found.is_the_one()
    except BaseException:
        found.close()
        raise
    if not ours:
        found.close()
    return found if ours else None


def _same(record: OwnerRecord, status: os.stat_result, identity: FileIdentity, temporary: bool) -> bool:
    """Return whether a file is the one of the record."""
    if record.file is not None:
        return identity == record.file
    if temporary:  # nobody else makes such a name
        return status.st_uid == record.uid
    born = status.st_ctime if identity.born is None else identity.born / 1e9
    marked = status.st_mode & UNFINISHED & stat.S_IXUSR  # the umask may take the others away
    ours = status.st_uid == record.uid and born >= record.created - 1 and bool(marked)
    return ours and unclaimed(record, partial(_is_of, identity))


def _is_of(identity: FileIdentity, record: OwnerRecord) -> bool:
    return record.file == identity


def _opened(fd: int) -> str | None:
    try:
        return "a process has it open or mapped" if is_open_elsewhere(fd) else None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOSYS):
            raise
    return _openers(os.fstat(fd))


def _openers(status: os.stat_result) -> str | None:
    """Look through /proc for who has a file open or mapped."""
    seen = open_files.scan()
    found = sorted(pid for pid in _users(seen, status) if pid != os.getpid() or stat.S_ISFIFO(status.st_mode))
    if found:
        return f"process {found[0]} has it open"
    like = KernelObject(kind="fifo", uid=status.st_uid, mode=stat.S_IMODE(status.st_mode))
    if may_be_open_unseen(like, seen.unreadable):
        raise Uncertain("cannot see whether processes of other users have it open; root can")
    return None


def _users(seen: open_files.OpenFiles, status: os.stat_result) -> Iterator[int]:
    yield from seen.files.get((status.st_dev, status.st_ino), {})
