"""A file of a file system, mapped into memory (``mmap(2)``): what is written to it is in the file, for everybody.

It is shared memory that outlives its users, and the machine's last hour. All of the file is allocated when it is made
or grows, so a full disk is an error here and no SIGBUS in the midst of an assignment. What cannot be prevented is that
somebody shortens the file: whoever then looks behind its end is killed by SIGBUS. So every call here that looks at the
file says so in time, and the permission to write to it is for those whom you trust.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from aioipc._sys.mappings import map_file
from aioipc.exceptions import BrokenResourceError

from .file_sync import FileSync
from .names import FilePath, check_mode, check_path, check_range, unlink_if_same
from .pipes import above_stdio
from .segment import Segment

_LARGEST = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class MappedFileStatistics:
    """A mapped file at one moment; after closing all is 0."""

    size: int  #: bytes that are mapped
    file_size: int  #: bytes of the file: more where it has grown since, less where somebody has shortened it
    allocated: int  #: bytes of the disk that it takes


class MappedFile(Segment):
    """A file as shared memory; `create` or `open` makes the object.

    ``buffer`` and ``array`` are views of it. Nobody orders what processes write here: take a `FileLock`, or a
    `GuardedMemory` with one.
    """

    _fd = -1

    def __init__(self, fd: int, path: str, *, readonly: bool, remove: bool) -> None:
        """Take over a descriptor; the class methods do that."""
        size = _check_file(fd, path)
        super().__init__(map_file(fd, size, readonly=readonly), size, f"mapped file {path}", readonly=readonly)
        self._fd = fd
        self._remover = os.getpid() if remove else None
        self._sync: FileSync | None = None
        self.path: str = path

    @classmethod
    def create(
        cls, path: FilePath, size: int, *, exist_ok: bool = False, remove: bool = False, mode: int = 0o600
    ) -> Self:
        """Make a file of ``size`` bytes, all zero, and map it, at once.

        ``exist_ok`` maps one that is there already; one that is shorter grows. ``remove`` takes the file away when
        this object is closed, if it has made it. ``mode`` are the permissions, less the umask.

        Raises `FileExistsError` where there is one, `OSError` with ENOSPC or EDQUOT where the disk has not so much
        room and with EFBIG above RLIMIT_FSIZE, `FileNotFoundError` without the directory, `PermissionError`,
        `TypeError` or `ValueError` for wrong arguments and kinds of file.
        """
        name = check_path(path, "a file to map")
        check_range("size", size, 1, _LARGEST)
        check_mode(mode)
        while True:
            try:
                fd = above_stdio(os.open(name, _flags(False) | os.O_CREAT | os.O_EXCL, mode))
            except FileExistsError:
                if not exist_ok:
                    raise FileExistsError(errno.EEXIST, "exists already; exist_ok=True maps it", name) from None
            else:
                return cls._make(fd, name, size, remove)
            with contextlib.suppress(FileNotFoundError):  # removed since: make it after all
                return cls._take(name, partial(_allocate, size=size), readonly=False)

    @classmethod
    def open(cls, path: FilePath, *, readonly: bool = False) -> Self:
        """Map a file that exists, as large as it is now, at once.

        ``readonly`` maps it so that writing is a `TypeError`, and needs the permission to read only.

        Raises `FileNotFoundError`, `PermissionError`, `BlockingIOError` for an empty file, which cannot be mapped,
        `TypeError` or `ValueError` for wrong arguments and kinds of file.
        """
        return cls._take(check_path(path, "a file to map"), None, readonly=readonly)

    @classmethod
    def _make(cls, fd: int, path: str, size: int, remove: bool) -> Self:
        made = os.fstat(fd)
        try:
            _allocate(fd, path, size=size)
            return cls(fd, path, readonly=False, remove=remove)
        except BaseException:
            os.close(fd)
            unlink_if_same(path, made)
            raise

    @classmethod
    def _take(cls, path: str, prepare: Callable[[int, str], None] | None, *, readonly: bool) -> Self:
        fd = above_stdio(os.open(path, _flags(readonly)))
        try:
            if prepare is not None:
                prepare(fd, path)
            return cls(fd, path, readonly=readonly, remove=False)
        except BaseException:
            os.close(fd)
            raise

    def resize(self, size: int | None = None) -> None:
        """Let the file grow to ``size`` bytes, the new ones zero, and map all of it; without ``size`` as it is now.

        Others who have it mapped see what they saw; they call `resize` without a size to see the rest. A file is never
        shortened: that would kill those who look behind its end.

        Raises `BufferError` while there are views of it, `ValueError` for less than it has, `OSError` where the disk
        has not so much room, `PermissionError` where it is mapped to be read, `ClosedResourceError`.
        """
        mapping = self._open()
        if mapping.has_views():
            raise BufferError(f"the {self._label} cannot be mapped anew while there are views of it")
        if size is not None:
            check_range("size", size, 1, _LARGEST)
            if size < os.fstat(self._fd).st_size:
                raise ValueError(f"the {self._label} cannot be shortened to {size} bytes: others may look behind that")
            if self.readonly:
                raise PermissionError(errno.EACCES, "is mapped to be read only, so it cannot grow", self.path)
            _allocate(self._fd, self.path, size=size)
        size = _check_file(self._fd, self.path)
        fresh = map_file(self._fd, size, readonly=self.readonly)
        self._mapping = fresh
        self.size: int = size
        mapping.unmap()

    def flush(self) -> None:
        """Bring what was written to the disk, and wait for that in this thread (``fsync(2)``).

        Other processes see every write at once, without it; it is for the case that the machine loses its power.

        Raises `OSError` with EIO where the disk fails, `BrokenResourceError` where somebody has shortened the file,
        `ClosedResourceError` after closing.
        """
        self.check()
        os.fsync(self._fd)

    async def aflush(self) -> None:
        """Do what `flush` does in a thread; tasks that ask at the same time share one call.

        Raises what `flush` raises, and `ClosedResourceError` where it is closed meanwhile. Cancelled: it may go on.
        """
        self.check()
        if self._sync is None:
            self._sync = FileSync(self._label)
            self._sync.add(fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 3))
        await self._sync.run()

    def check(self) -> None:
        """Raise `BrokenResourceError` where somebody has shortened the file, so that using all of it would be fatal.

        Nobody can keep them from doing it right after this. Raises `ClosedResourceError` after closing.
        """
        self._open()
        there = os.fstat(self._fd).st_size
        if there < self.size:
            raise BrokenResourceError(
                f"the {self._label} has {there} bytes of the {self.size} that are mapped: somebody has shortened it, "
                "and to look at the others would end this process (SIGBUS)"
            )

    def fileno(self) -> int:
        """Return the descriptor, which stays the object's own. Raises `ClosedResourceError` after closing."""
        self._open()
        return self._fd

    def statistics(self) -> MappedFileStatistics:
        """Return how large it is, and what it takes of the disk."""
        if self._fd < 0:
            return MappedFileStatistics(0, 0, 0)
        found = os.fstat(self._fd)
        return MappedFileStatistics(self.size, found.st_size, found.st_blocks * 512)

    def _before_unmapping(self) -> None:
        if self._sync is not None:
            self._sync.close()
        if self._remover == os.getpid():  # not in a forked child
            unlink_if_same(self.path, os.fstat(self._fd))

    def _after_unmapping(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


def _flags(readonly: bool) -> int:
    return (os.O_RDONLY if readonly else os.O_RDWR) | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def _check_file(fd: int, path: str) -> int:
    """Return the size of the file, if it can be mapped."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file, so it is not mapped")
    if not found.st_size:
        raise BlockingIOError(errno.EAGAIN, "is empty, and nothing cannot be mapped", path)
    return found.st_size


def _allocate(fd: int, path: str, *, size: int) -> None:
    """Let the file have ``size`` bytes at least, with the blocks of the disk for them; what it has stays.

    Where that fails half-way it may have got a part of them; somebody else may have mapped that by then.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError(f"{path} is no regular file, so it is not mapped")
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        number = error.errno or errno.EIO
        text = os.strerror(number)
        if number == errno.ENOSPC:
            room = os.fstatvfs(fd)
            text = f"{size} bytes do not fit on the disk, where {room.f_bavail * room.f_frsize} are free"
        elif number == errno.EFBIG:
            text = f"{size} bytes are more than a file may have (RLIMIT_FSIZE, or the file system)"
        raise OSError(number, text, path) from None
