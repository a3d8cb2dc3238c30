"""The record log: a file to which several processes append records, and which others read and follow live.

Whoever appends holds the file's lock (``flock(2)``, `aioipc.kernel.file_lock`) for the time of one ``pwrite(2)``. So
records come whole and one after the other, a file is never rotated under a writer, and the next writer sees what one
that was killed has left: the beginning of a record at the end of the file, which it cuts off. Looking costs one read of
8 bytes (`aioipc.wire.records`), and none where this process has written last.

Rejected: O_APPEND without a lock, where the records of others follow a torn one, and its length swallows them; a lock
file beside the log, which would be one name more to keep together; a mark of how far the file is good, in the file
itself, which wakes every follower twice.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import warnings
from asyncio import _get_running_loop
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from anyio.abc import AsyncResource

from aioipc.exceptions import BrokenResourceError, ClosedResourceError
from aioipc.wire.records import LARGEST_BODY

from .buffers import Buffer, item_size
from .log_reader import LogReader, OnLost, Start
from .log_writer import LogSync, LogWriter, check_readable
from .names import FilePath, check_mode, check_path, check_range

Fsync: TypeAlias = Literal["never", "always"] | float

_LARGEST = (1 << 62) - 1
_MOST_FILES = 9999
_logger = logging.getLogger("aioipc.files")


@dataclass(frozen=True, slots=True)
class RecordLogStatistics:
    """A record log at one moment. What happened is what happened through this object."""

    size: int  #: bytes of the file that the path leads to
    appended: int  #: records
    appended_bytes: int  #: that their bodies had
    rotations: int  #: how often this object has begun a new file
    repaired: int  #: bytes cut off that a killed writer had left
    syncs: int  #: calls of ``fsync(2)``
    waiting: int  #: tasks that wait to append
    readers: int  #: readers that are open


class RecordLog(AsyncResource):
    """A log of records in a file; `open` makes the object, ``async with`` or `aclose` ends it, and its readers.

    Any number of tasks and processes may append and read. The object belongs to the first event loop that uses it. A
    forked child does not inherit it.
    """

    _closed = True  # for __del__, where __init__ has refused

    def __init__(self, path: str, writer: LogWriter | None, *, fsync: Fsync, max_record: int) -> None:
        """Take over the file; `open` does that."""
        self.path: str = path
        self.max_record: int = max_record
        self._writer = writer
        self._fsync = fsync
        self._sync = LogSync(path)
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: set[asyncio.Task[None]] = set()
        self._readers: set[LogReader] = set()
        self._broken = False
        self._unsynced = False
        self._closed = False

    @classmethod
    def open(
        cls,
        path: FilePath,
        *,
        readonly: bool = False,
        create: bool = True,
        mode: int = 0o600,
        fsync: Fsync = "never",
        max_bytes: int | None = None,
        keep: int = 5,
        max_record: int = 1 << 20,
    ) -> Self:
        """Open a log, at once; ``readonly`` only to read it, which needs no more than the permission for that.

        ``create`` makes an empty one where there is none, with the permissions ``mode`` less the umask.

        ``fsync`` says when records are brought to the disk. Once `append` has returned, a record survives the death of
        every process. ``"never"``: where the power fails, or the kernel, what was appended in the last 30 s or so may
        be gone. ``"always"``: `append` returns when it is on the disk. A number: it is there so many seconds later.

        ``max_bytes`` is the size of a file above which the next record begins a new one (see `rotate`), and ``keep``
        how many older ones are kept. ``max_record`` is how many bytes a record may have, to append and to read it.

        Raises `FileNotFoundError`, `PermissionError`, `TypeError` or `ValueError` for wrong arguments and for a file
        that is no record log.
        """
        name = os.path.realpath(check_path(path, "a record log"))
        check_mode(mode)
        _check_fsync(fsync)
        if max_bytes is not None:
            check_range("max_bytes", max_bytes, 1, _LARGEST)
        check_range("keep", keep, 0, _MOST_FILES)
        check_range("max_record", max_record, 1, LARGEST_BODY)
        if readonly:
            check_readable(name)
            return cls(name, None, fsync=fsync, max_record=max_record)
        writer = LogWriter(name, create=create, mode=mode, max_bytes=max_bytes, keep=keep)
        return cls(name, writer, fsync=fsync, max_record=max_record)

    async def append(self, body: Buffer) -> int:
        """Append a record, which may have no bytes, and return its position; waits while others append.

        With ``fsync="always"`` it waits until the record is on the disk; several tasks share one ``fsync(2)``.

        Raises `ValueError` above ``max_record``, `OSError` with ENOSPC, EDQUOT or EFBIG where there is no room; then
        nothing was appended. `ObjectRemovedError` where the log was removed or replaced, `BrokenResourceError` after a
        failed ``fsync(2)`` and where somebody has shortened the file, `ClosedResourceError`, `PermissionError` where it
        is open to read only.
        Cancelled: it was not appended, or wholly, if only the ``fsync(2)`` was still being waited for.
        """
        return (await self.append_many((body,)))[0]

    async def append_many(self, bodies: Iterable[Buffer]) -> list[int]:
        """Append several records, with nothing of others in between, and return their positions.

        They are written at once, all or none; but of a process that is killed in that moment the first ones may be
        there and the last ones not. Else as `append`.
        """
        checked = [self._check(body) for body in bodies]
        writer = self._usable()
        await writer.lock.acquire()
        try:
            positions = self._write(writer, checked)
        finally:
            writer.lock.release()
        if self._fsync == "always":
            await self._bring_to_disk()
        elif self._fsync != "never":
            self._schedule(self._fsync)
        return positions

    def append_nowait(self, body: Buffer) -> int:
        """Append a record as `append` does, or raise `WouldBlock` where somebody else is appending.

        With ``fsync="always"``, and with a number of seconds where no event loop runs, it blocks the thread until the
        record is on the disk.
        """
        checked = self._check(body)
        writer = self._usable()
        writer.lock.acquire_nowait()
        try:
            (position,) = self._write(writer, [checked])
        finally:
            writer.lock.release()
        loop = _get_running_loop()
        if self._fsync == "always" or (self._fsync != "never" and loop is None):
            self._sync_now()
        elif self._fsync != "never":
            self._schedule(self._fsync)
        return position

    async def rotate(self) -> None:
        """Begin a new file: the current one becomes ``PATH.1``, that one ``PATH.2``, and so on up to ``keep``.

        It is done by whoever appends above ``max_bytes``, too. Readers go on in the new file when they have read the
        old one to its end; one that is so slow that its file is gone by then gets `RecordsLostError`.

        Raises `OSError` where the file system has no hard links or the directory may not be written to, and else as
        `append`. Cancelled: it was not done.
        """
        writer = self._usable()
        await writer.lock.acquire()
        try:
            writer.rotate()
            if self._fsync != "never":
                with suppress(OSError):  # the next append tries again
                    self._sync.will_write(writer.file)
                self._unsynced = True
        finally:
            writer.lock.release()
        if isinstance(self._fsync, (int, float)):
            self._schedule(self._fsync)

    async def sync(self) -> None:
        """Bring all records that are in the file now to the disk, whoever has appended them (``fsync(2)`` in a thread).

        With ``fsync="never"`` that does not include files that were rotated. Raises as `append`.
        Cancelled: it may go on.
        """
        writer = self._usable()
        await writer.lock.acquire()
        try:
            self._sync.will_write(os.fstat(writer.lock.fileno()))
        finally:
            writer.lock.release()
        await self._bring_to_disk()

    def follow(self, position: Start = "end", *, on_lost: OnLost = "raise") -> LogReader:
        """Return a reader that waits for more at the end: ``async for record in log.follow():``.

        ``position`` is where to begin: that of a record, the ``end`` of one, or the ``position`` of another reader;
        ``"oldest"`` for all records that are kept, ``"end"`` for those that come from now on. ``on_lost="skip"`` goes
        on silently behind records that are damaged or gone; `LogReaderStatistics.lost` counts that.

        Raises `ValueError` for a position behind the end, `ObjectRemovedError`, `ClosedResourceError`, `OSError`.
        """
        return self._reader(position, True, on_lost)

    def read(self, position: Start = "oldest", *, on_lost: OnLost = "raise") -> LogReader:
        """Return a reader that ends at the end that the log has when it gets there; else as `follow`."""
        return self._reader(position, False, on_lost)

    @property
    def end(self) -> int:
        """The position of the next record that somebody appends. Raises as `follow`."""
        with closing(self.read("end")) as reader:
            return reader.position

    def statistics(self) -> RecordLogStatistics:
        """Return what was done through this object, and the size of the file; when closed too."""
        size = 0
        with suppress(OSError):
            size = os.stat(self.path).st_size
        done = self._writer
        if done is None:
            return RecordLogStatistics(size, 0, 0, 0, 0, 0, 0, len(self._readers))
        return RecordLogStatistics(
            size,
            done.appended,
            done.appended_bytes,
            done.rotations,
            done.repaired,
            self._sync.calls,
            done.lock.statistics().waiting,
            len(self._readers),
        )

    def close(self) -> None:
        """Close the log and its readers, at once; closed already: do nothing. It brings nothing to the disk.

        Tasks that wait get `ClosedResourceError`.
        """
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._syncing:
            task.cancel()
        for reader in list(self._readers):
            reader.close()
        self._sync.close()
        if self._writer is not None:
            self._writer.lock.close()

    async def aclose(self) -> None:
        """Bring what was appended to the disk, unless ``fsync`` is "never", and do what `close` does.

        Raises `OSError` where the disk fails. Cancelled: it is closed all the same, whatever is on the disk.
        """
        try:
            if not self._closed and not self._broken and (self._unsynced or self._syncing):
                await self._bring_to_disk()
        finally:
            self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<RecordLog {self.path}{', closed' if self._closed else ''}>"

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _reader(self, position: Start, live: bool, on_lost: OnLost) -> LogReader:
        self._check_open()
        if position not in ("oldest", "end"):
            check_range("position", position, 0, _LARGEST)
        if on_lost not in ("raise", "skip"):
            raise ValueError(f"on_lost must be 'raise' or 'skip', not {on_lost!r}")
        reader = LogReader(
            self.path, position, live=live, on_lost=on_lost, limit=self.max_record, on_close=self._readers.discard
        )
        self._readers.add(reader)
        return reader

    def _check(self, body: Buffer) -> Buffer:
        size = item_size(body)
        if size > self.max_record:
            raise ValueError(f"a record of {size} bytes is more than max_record={self.max_record} allows")
        return body if isinstance(body, bytes) else bytes(body)

    def _usable(self) -> LogWriter:
        self._check_open()
        if self._writer is None:
            raise PermissionError(errno.EACCES, "the record log was opened with readonly=True", self.path)
        if self._broken:
            raise BrokenResourceError(f"fsync of {self.path} has failed: what was appended may not be on the disk")
        return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedResourceError(f"the record log {self.path} is closed")

    def _write(self, writer: LogWriter, bodies: list[Buffer]) -> list[int]:
        """Append, with the lock held."""
        if self._fsync == "never":
            return writer.write(bodies, None)
        positions = writer.write(bodies, self._sync.will_write)
        self._unsynced = True
        return positions

    async def _bring_to_disk(self) -> None:
        self._unsynced = False
        try:
            await self._sync.run()
        except OSError:
            self._broken = True  # the kernel forgets what it could not write, and the next fsync would say nothing
            raise

    def _sync_now(self) -> None:
        self._unsynced = False
        try:
            self._sync.sync_now()
        except OSError:
            self._broken = True
            raise

    def _schedule(self, seconds: float) -> None:
        """Have it brought to the disk in a while."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._sync_later, loop)

    def _sync_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        task = loop.create_task(self._sync_quietly())
        self._syncing.add(task)
        task.add_done_callback(self._syncing.discard)

    async def _sync_quietly(self) -> None:
        try:
            await self._bring_to_disk()
        except ClosedResourceError:
            pass
        except OSError as error:
            _logger.error("fsync of %s has failed: %s", self.path, error)


def _check_fsync(fsync: object) -> None:
    if fsync in ("never", "always"):
        return
    if not isinstance(fsync, int | float) or isinstance(fsync, bool):
        raise TypeError(f"fsync must be 'never', 'always' or a number of seconds, not {fsync!r}")
    if not 0 < fsync < math.inf:
        raise ValueError(f"fsync must be more than 0 seconds, not {fsync}")
