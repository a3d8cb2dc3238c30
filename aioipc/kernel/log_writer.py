"""Writing to a record log, for whoever holds its lock."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from functools import partial

from aioipc._sys.allocation import reserve
from aioipc.exceptions import BrokenResourceError, ObjectRemovedError
from aioipc.wire.records import HEADER_SIZE, LogHeader, encode

from .buffers import Buffer
from .file_lock import FileLock
from .file_sync import FileSync
from .log_cursor import last_end
from .log_files import READING, make_next, put_in_place, read_header, write_all, write_header
from .pipes import above_stdio

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than a file may be (RLIMIT_FSIZE)",
}


class LogWriter:
    """The file of a log, open for writing, and its lock. The methods need the lock; they do not block for others."""

    def __init__(self, path: str, *, create: bool, mode: int, max_bytes: int | None, keep: int) -> None:
        self.lock: FileLock = FileLock.open(path, create=create, mode=mode)
        try:
            self._check(path)
        except BaseException:
            self.lock.close()
            raise
        self.lock._never_create()
        self.file: os.stat_result = os.stat_result([0] * 10)  # which one the next two are about
        self._header: LogHeader | None = None
        self._end = 0  # where the last record ends that is known to be whole, in the file
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self.appended: int = 0
        self.appended_bytes: int = 0
        self.rotations: int = 0
        self.repaired: int = 0  # bytes cut off

    def write(self, bodies: Sequence[Buffer], before: Callable[[os.stat_result], None] | None) -> list[int]:
        """Append the records, all or none, and return their positions; begin a new file before, if it is time.

        ``before`` is called with the file as the last thing that may fail before the records are there.
        """
        header = self._prepare()
        data, positions = self._encode(header, bodies)
        if self._max_bytes is not None and HEADER_SIZE < self._end > self._max_bytes - len(data):
            header = self._rotate(header)
            data, positions = self._encode(header, bodies)
        if before is not None:
            before(self.file)
        self._put(data, together=len(bodies) > 1)
        self._end += len(data)
        self.appended += len(bodies)
        self.appended_bytes += sum(map(len, bodies))
        return positions

    def rotate(self) -> None:
        """Begin a new file, also where the current one has no record."""
        self._rotate(self._prepare())

    def _check(self, path: str) -> None:
        fd = self.lock.fileno()
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise PermissionError(errno.EACCES, "may be read only, not appended to; readonly=True opens it", path)
        read_header(fd, path)

    def _prepare(self) -> LogHeader:
        """Learn what there is now, cut off what a killed writer has left, and return the header."""
        fd = self.lock.fileno()
        file = os.fstat(fd)
        header = self._header
        if header is None or not os.path.samestat(file, self.file):
            header = self._look_at_new(fd, header)
            file = os.fstat(fd)
        if file.st_size < self._end:
            raise BrokenResourceError(f"somebody has shortened {self._path}: records are gone")
        end, torn = last_end(fd, header.base, self._end, file.st_size)
        if torn:
            os.ftruncate(fd, end)
            self.repaired += file.st_size - end
        self._end = end
        return header

    def _look_at_new(self, fd: int, before: LogHeader | None) -> LogHeader:
        """Read the header of a file that somebody else has begun, or write that of an empty one."""
        header = read_header(fd, self._path)
        if before is not None and (header is None or header.serial != before.serial):
            raise ObjectRemovedError(errno.ENOENT, "the log is gone: another one is there now", self._path)
        if header is None:
            header = write_header(fd, 0)
        self.file, self._header, self._end = os.fstat(fd), header, HEADER_SIZE
        return header

    def _encode(self, header: LogHeader, bodies: Sequence[Buffer]) -> tuple[bytes, list[int]]:
        at = header.base + self._end - HEADER_SIZE
        pieces, positions = [], []
        for body in bodies:
            piece = encode(body, at)
            pieces.append(piece)
            positions.append(at)
            at += len(piece)
        return b"".join(pieces), positions

    def _put(self, data: bytes, *, together: bool) -> None:
        """Write; of several records, for which there must be room first, or others would see some of what fails."""
        fd = self.lock.fileno()
        try:
            if together:
                reserve(fd, self._end, len(data))
            write_all(fd, data, self._end)
        except OSError as error:
            number = error.errno or errno.EIO
            text = f"{_NO_ROOM.get(number, os.strerror(number))}; nothing was appended"
            raise OSError(number, text, self._path) from None

    def _rotate(self, header: LogHeader) -> LogHeader:
        fd = make_next(self._path, self.lock.fileno(), header)
        self.lock._switch(fd, partial(put_in_place, self._path, self._keep))
        self.rotations += 1
        return self._look_at_new(self.lock.fileno(), header)


class LogSync(FileSync):
    """Brings the files of a log to the disk, and the directory, where their names are."""

    def __init__(self, path: str) -> None:
        super().__init__(f"record log {path}")
        self._path = path
        self._file: os.stat_result | None = None

    def will_write(self, file: os.stat_result) -> None:
        """Note that a file, which the path leads to, is going to be written to.

        Its descriptor is opened anew: a copy of the one that has the lock would keep the lock.
        """
        if self._file is None or not os.path.samestat(file, self._file):
            for path in (os.path.dirname(self._path), self._path):
                self.add(above_stdio(os.open(path, READING)))
            self._file = file


def check_readable(path: str) -> None:
    """Raise `OSError` where there is no file that may be read, `ValueError` where it is no log."""
    fd = os.open(path, READING)
    try:
        read_header(fd, path)
    finally:
        os.close(fd)
