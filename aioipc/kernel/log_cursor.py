"""Going through the records of one log file: the next one, the next one behind a damage, the end of the last one.

It only reads, without a lock. A write in progress shows as a beginning of a record, since a file grows from front to
back. A torn one is the same for ever, until somebody cuts it off.
"""

from __future__ import annotations

import os

from aioipc.wire.records import (
    END_SIZE,
    HEADER_SIZE,
    LARGEST_BODY,
    START_SIZE,
    Damaged,
    Missing,
    Whole,
    decode,
    ends_here,
    find,
)

CHUNK = 1 << 16  # bytes of one read
SEARCH = 1 << 20  # bytes of one read that looks for a record
_LOOKS = 3  # at what seems damaged: it may have been cut off and written anew while it was read


class LogCursor:
    """Stands before a record: at ``offset`` in the file ``fd``, whose first record has the position ``base``."""

    __slots__ = ("_at", "_data", "_limit", "_origin", "fd", "offset")

    def __init__(self, fd: int, base: int, offset: int = HEADER_SIZE, limit: int = LARGEST_BODY) -> None:
        self.fd: int = fd
        self.offset: int = offset
        self._origin = base - HEADER_SIZE
        self._limit = limit
        self._data, self._at = b"", 0

    @property
    def position(self) -> int:
        """Where it stands, in the whole log."""
        return self._origin + self.offset

    def move(self, offset: int) -> None:
        """Stand at another place of the file."""
        self.offset = offset
        self._data, self._at = b"", 0

    def next(self) -> Whole | Missing | Damaged:
        """Return what is here; behind a whole record it goes on to the next one."""
        found = decode(self._data, self._at, self.position, self._limit)
        if not isinstance(found, Whole):
            for _ in range(_LOOKS):
                found = self._read_anew()
                if not isinstance(found, Damaged):
                    break
        if isinstance(found, Whole):
            self._at += found.size
            self.offset += found.size
        return found

    def _read_anew(self) -> Whole | Missing | Damaged:
        """Read from here on: the beginning of a record that was seen before may have been cut off since."""
        wanted = CHUNK
        while True:
            self._data, self._at = os.pread(self.fd, wanted, self.offset), 0
            found = decode(self._data, 0, self.position, self._limit)
            if not isinstance(found, Missing) or found.size <= wanted:
                return found
            if self.offset + found.size > os.fstat(self.fd).st_size:
                return found  # no memory for what is not there yet, or never will be
            wanted = found.size

    def find_next(self) -> int | None:
        """Return the offset of the next record that begins behind this place, or `None`."""
        at = self.offset + 1
        while True:
            data = os.pread(self.fd, SEARCH, at)
            found = find(data, 0, self._origin + at)
            if found is not None:
                return at + found
            if len(data) < SEARCH:
                return None
            at += len(data) - START_SIZE + 1

    def is_torn(self, found: Missing | Damaged) -> bool:
        """Whether this, behind which there is no record, is what an interrupted write leaves.

        That is the beginning of a record, or zeros: the size of a file may outlive a loss of power, and its data not.
        """
        return isinstance(found, Missing) or _are_zeros(self.fd, self.offset)


def last_end(fd: int, base: int, known: int, size: int) -> tuple[int, bool]:
    """Return where the last record ends, searching from ``known`` on, and whether what follows it is torn.

    ``size`` is that of the file. Without a torn end that is where it ends: damaged records stay where they are.
    """
    if size == known or (size >= known + END_SIZE and _ends_at(fd, base, size)):
        return size, False
    cursor = LogCursor(fd, base, known)
    while True:
        found = cursor.next()
        if isinstance(found, Whole):
            continue
        if cursor.offset >= size:
            return cursor.offset, False
        following = cursor.find_next()
        if following is None:
            torn = cursor.is_torn(found)
            return (cursor.offset, True) if torn else (size, False)
        cursor.move(following)


def _ends_at(fd: int, base: int, size: int) -> bool:
    return ends_here(os.pread(fd, END_SIZE, size - END_SIZE), base - HEADER_SIZE + size)


def _are_zeros(fd: int, at: int) -> bool:
    while data := os.pread(fd, SEARCH, at):
        if data.count(0) != len(data):
            return False
        at += len(data)
    return True
