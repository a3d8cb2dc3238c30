"""Reading a record log, up to its present end or following it live.

A reader takes no lock and keeps nobody waiting. At the end it waits for the file to change (`ChangeReadiness`, by
inotify): for a write, for a torn end that is cut off, or for the path to lead to the next file. Since whoever rotates
has the lock, a file to which the path does not lead any more has got its last record; so first it is seen that the path
leads elsewhere, then the rest is read, and then the next file, which begins at the position where this one ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from anyio.abc import ObjectReceiveStream

from aioipc._loop.file_changes import ChangeReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import EndOfStream, ObjectRemovedError, RecordsLostError
from aioipc.wire.records import HEADER_SIZE, OVERHEAD, Damaged, LogHeader, Missing, Whole

from .log_cursor import LogCursor, last_end
from .log_files import READING, OpenedFile, open_all, read_header
from .pipes import above_stdio

Start: TypeAlias = int | Literal["oldest", "end"]
OnLost: TypeAlias = Literal["raise", "skip"]


class LogRecord(NamedTuple):
    """A record out of a `RecordLog`."""

    position: int  #: how many bytes of records were written before it, ever
    body: bytes  #: what was appended, possibly nothing

    @property
    def end(self) -> int:
        """The position behind it: read on from there to get the next record."""
        return self.position + OVERHEAD + len(self.body)


@dataclass(frozen=True, slots=True)
class LogReaderStatistics:
    """A reader of a record log at one moment."""

    position: int  #: of the next record
    records: int  #: that it has returned
    bytes: int  #: that they had
    lost: int  #: how often records were lost, skipped or reported
    files: int  #: that it has gone on to because of rotation
    waiting: int  #: tasks that wait for a record


class LogReader(ObjectReceiveStream[LogRecord]):
    """Reads records; `RecordLog.follow` and `RecordLog.read` make it. ``async for record in reader`` is the usual way.

    Any number of tasks may receive, each record goes to one of them. It ends with its log, or by `aclose`.
    """

    _fd = -1  # for __del__, where __init__ has refused

    def __init__(
        self, path: str, start: Start, *, live: bool, on_lost: OnLost, limit: int, on_close: Callable[[LogReader], None]
    ) -> None:
        """Open the file that has the position; `RecordLog` does that."""
        self._path = path
        self._live = live
        self._skip = on_lost == "skip"
        self._limit = limit
        self._on_close = on_close
        self._records = self._bytes = self._lost = self._files = 0
        self._readiness = ChangeReadiness()
        self._queue = WaitQueue(self._readiness, f"reader of {path}")
        self._serial: int | None = None
        self._gap: int | None = None  # where records were that are gone, until that is told
        try:
            self._open_first(start)
        except BaseException:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
            raise

    async def receive(self) -> LogRecord:
        """Return the next record; a live reader waits for it, any other one raises `EndOfStream` at the end.

        Raises `RecordsLostError` where records are damaged, or were removed by rotation before they were read;
        called again it goes on behind them, as it does at once with ``on_lost="skip"``. `ObjectRemovedError` where
        the log was removed or replaced, `ClosedResourceError`, `OSError` where inotify has no more watches to give.
        Cancelled: the record is for the next call.
        """
        return await self._queue.take(self._next)

    def receive_nowait(self) -> LogRecord:
        """Return the next record as `receive` does, or raise `WouldBlock` where there is none yet."""
        return self._queue.take_nowait(self._next)

    @property
    def position(self) -> int:
        """The position of the next record. Keep it, and give it to `RecordLog.follow` later, to go on there."""
        return self._cursor.position

    def statistics(self) -> LogReaderStatistics:
        """Return where it is, and what it has returned; when closed too."""
        waiting = self._queue.waiting
        return LogReaderStatistics(self.position, self._records, self._bytes, self._lost, self._files, waiting)

    def close(self) -> None:
        """Stop reading; closed already: do nothing. Tasks that wait get `ClosedResourceError`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._queue.close(lambda: os.close(fd))
            self._on_close(self)

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = f"at {self.position}" if self._fd >= 0 else "closed"
        return f"<LogReader of {self._path}, {state}>"

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _next(self) -> LogRecord:
        while True:
            if self._gap is not None:
                position, self._gap = self._gap, None
                self._tell_lost(position, "there was a file that is gone by rotation (keep)")
            position = self._cursor.position
            found = self._cursor.next()
            if isinstance(found, Missing) and self._is_superseded():
                found = self._cursor.next()  # there may have come more before that
                if isinstance(found, Missing):
                    self._go_on()
                    continue
            if isinstance(found, Whole):
                self._records += 1
                self._bytes += len(found.body)
                return LogRecord(position, found.body)
            if isinstance(found, Missing) or not self._pass(position, found):
                raise BlockingIOError if self._live else EndOfStream

    def _pass(self, position: int, found: Damaged) -> bool:
        """Go on behind a damage; False where nothing is behind it and it will be cut off."""
        following = self._cursor.find_next()
        if following is None:
            if self._cursor.is_torn(found):
                return False
            following = os.fstat(self._fd).st_size
        self._cursor.move(following)
        self._tell_lost(position, found.reason)
        return True

    def _tell_lost(self, position: int, reason: str) -> None:
        self._lost += 1
        if not self._skip:
            resume = self._cursor.position
            text = f"{self._path}: at position {position} {reason}; the log goes on at {resume}"
            raise RecordsLostError(text, position=position, resume=resume)

    def _is_superseded(self) -> bool:
        """Whether the path leads to another file than the one that is being read."""
        if HEADER_SIZE < self._cursor.offset > os.fstat(self._fd).st_size:
            raise ObjectRemovedError(errno.ENOENT, "somebody has shortened the log", self._path)
        try:
            return not os.path.samestat(os.stat(self._path), self._file)
        except FileNotFoundError:
            raise ObjectRemovedError(errno.ENOENT, "the log was removed", self._path) from None

    def _go_on(self) -> None:
        """Open the file that begins where this one ends."""
        end = self._cursor.position
        file = self._find(end, beside=self._file)
        self._files += 1
        self._take(file, end)

    def _find(self, position: int, *, beside: os.stat_result | None = None) -> OpenedFile:
        """Open the file with this position, or else the oldest one behind it; not the one that was read already."""
        best: OpenedFile | None = None
        for file in open_all(self._path, self._known_serial()):
            base = file.header.base
            there = base <= position < file.end or base == position
            if beside is not None and os.path.samestat(os.fstat(file.fd), beside):
                there, base = False, -1
            if there or (base > position and (best is None or base < best.header.base)):
                best, file = file, best
            if file is not None:
                os.close(file.fd)
            if there:
                break
        if best is None:
            raise ObjectRemovedError(errno.ENOENT, "the log was removed", self._path)
        return best

    def _known_serial(self) -> int:
        if self._serial is None:  # it was empty when it was opened
            header = read_header(self._fd, self._path)
            if header is None:
                raise ObjectRemovedError(errno.ENOENT, "the log was replaced before it had begun", self._path)
            self._serial = header.serial
        return self._serial

    def _take(self, file: OpenedFile, position: int) -> None:
        """Read this file from now on, from the position if it is there, else from the beginning."""
        before, self._fd = self._fd, file.fd
        base = file.header.base
        self._gap = position if position < base else None
        self._file = os.fstat(file.fd)
        self._cursor = LogCursor(file.fd, base, max(position - base, 0) + HEADER_SIZE, self._limit)
        self._readiness.watch(file.fd)
        if before >= 0:
            os.close(before)

    def _open_first(self, start: Start) -> None:
        fd = above_stdio(os.open(self._path, READING))
        self._take(OpenedFile(fd, _EMPTY, HEADER_SIZE), 0)
        header = read_header(fd, self._path)
        if header is None:  # nobody has written to it yet
            size, base = HEADER_SIZE, 0
        else:
            size, base = os.fstat(fd).st_size, header.base
            self._serial = header.serial
        if start == "oldest":
            if base:
                oldest = self._find(0)
                self._take(oldest, oldest.header.base)
        elif start == "end":
            offset = last_end(fd, base, HEADER_SIZE, size)[0] if header else HEADER_SIZE
            self._cursor = LogCursor(fd, base, offset, self._limit)
        elif start > base + size - HEADER_SIZE:
            raise ValueError(f"position {start} is behind the end of {self._path}, {base + size - HEADER_SIZE}")
        elif start >= base:
            self._cursor = LogCursor(fd, base, start - base + HEADER_SIZE, self._limit)
        else:
            self._take(self._find(start), start)


_EMPTY = LogHeader(0, 0)
