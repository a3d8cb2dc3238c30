"""The files of a record log: ``PATH``, to which records are appended, and ``PATH.1``, ``PATH.2``, …, older and older.

Each file says in its header which log it belongs to and the position of its first record, so whoever looks for a record
finds it whatever the files are called by then. ``PATH`` is never missing: a new file, complete with its header, takes
the place of the old one by ``rename(2)``, and the old one has its new name already, by ``link(2)``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import NamedTuple

from aioipc.exceptions import ObjectRemovedError
from aioipc.wire.records import HEADER_SIZE, Damaged, LogHeader, Missing, decode_header, encode_header

from .pipes import above_stdio

READING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class OpenedFile(NamedTuple):
    """A log file that is open for reading."""

    fd: int
    header: LogHeader
    size: int

    @property
    def end(self) -> int:
        """The position behind its last byte."""
        return self.header.base + self.size - HEADER_SIZE


def read_header(fd: int, path: str) -> LogHeader | None:
    """Return the header of a file, or `None` where it is empty or its header is not whole.

    Raises `ValueError` for a file that is no log.
    """
    found = decode_header(os.pread(fd, HEADER_SIZE, 0))
    if isinstance(found, Damaged):
        raise ValueError(f"{path}: {found.reason}")
    return None if isinstance(found, Missing) else found


def write_header(fd: int, base: int, serial: int | None = None) -> LogHeader:
    """Write the header of an empty file, with a new serial number or that of the log."""
    header = LogHeader(secrets.randbits(64) if serial is None else serial, base)
    os.ftruncate(fd, 0)
    write_all(fd, encode_header(header), 0)
    return header


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of it, or nothing: where that fails half-way, the file is cut off at ``offset`` again."""
    rest, at = data, offset
    try:
        while rest:
            count = os.pwrite(fd, rest, at)
            at += count
            rest = rest[count:]
    except BaseException:
        if rest:
            os.ftruncate(fd, offset)
        raise


def open_reading(path: str) -> OpenedFile | None:
    """Open a log file for reading; `None` where there is none, or none with a whole header."""
    try:
        fd = above_stdio(os.open(path, READING))
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no regular file, so it is no record log")
        header = read_header(fd, path)
        if header is not None:
            return OpenedFile(fd, header, found.st_size)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def open_all(path: str, serial: int) -> Iterator[OpenedFile]:
    """Open all files of a log, the newest first; each is the caller's to close.

    A file whose number grows meanwhile may come twice, and none is left out: they only move to higher numbers.
    """
    number, missing = 0, 0
    while missing < 2:  # a rotation that was interrupted leaves one number free
        file = _open_one(path, serial, number)
        if file is None:
            missing += bool(number)
        else:
            yield file
        number += 1


def _open_one(path: str, serial: int, number: int) -> OpenedFile | None:
    """Open a file of the log; `None` where there is none, or an older one that is something else."""
    if not number:
        file = open_reading(path)
        if file is None or file.header.serial == serial:
            return file
        os.close(file.fd)
        raise ObjectRemovedError(errno.ENOENT, "the log is gone: another one is there now", path)
    with contextlib.suppress(ValueError):
        file = open_reading(f"{path}.{number}")
        if file is None or file.header.serial == serial:
            return file
        os.close(file.fd)
    return None


def make_next(path: str, old_fd: int, header: LogHeader) -> int:
    """Make the file that will follow the one of ``old_fd``, with its permissions, under a name of its own."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = above_stdio(os.open(next_name(path), flags, 0o600))
    try:
        old = os.fstat(old_fd)
        with contextlib.suppress(PermissionError):
            os.fchown(fd, old.st_uid, old.st_gid)
        os.fchmod(fd, stat.S_IMODE(old.st_mode))
        write_header(fd, header.base + old.st_size - HEADER_SIZE, header.serial)
    except BaseException:
        os.close(fd)
        os.unlink(next_name(path))
        raise
    return fd


def put_in_place(path: str, keep: int) -> None:
    """Have the file that `make_next` has made take the place of the current one, and keep ``keep`` older ones.

    Interrupted at any point, it leaves a log that can be read as before, and that the next rotation puts in order.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.path.samefile(f"{path}.1", path):
            os.unlink(f"{path}.1")  # from a rotation that did not get to its end
    free = 1
    while os.path.lexists(f"{path}.{free}"):
        free += 1
    for number in range(free - 1, 0, -1):
        if number >= keep:
            os.unlink(f"{path}.{number}")
        else:
            os.rename(f"{path}.{number}", f"{path}.{number + 1}")
    if keep:
        os.link(path, f"{path}.1")
    os.rename(next_name(path), path)


def next_name(path: str) -> str:
    """Return the name of a file that is being made."""
    return f"{path}.next"
