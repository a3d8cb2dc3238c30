"""The FIFO (``fifo(7)``): a pipe with a name in the file system, where strangers meet.

Once open it is a pipe, and both ends are the streams of `aioipc.kernel.pipes`. What differs is the meeting:

* A reader opens at once. Before the first writer has come, ``read(2)`` says the same as after the last one has
  left: end of file. Only ``poll(2)`` knows the difference, so it is asked first until a writer was noticed.
* When the last writer leaves, ``poll`` reports a hang-up for ever. A persistent reader opens the FIFO for
  reading *and* writing, which Linux allows: it is a writer of its own, so the last one never leaves.
* A writer cannot open before there is a reader (``ENXIO``), and nothing in the kernel reports one. So it tries
  again, after 1 ms at first and 20 ms at last. Rejected: a blocking ``open`` in a thread, which nothing can
  cancel; opening for reading as well, which would make every FIFO look as if somebody read it.

A path is looked at before it is opened, since opening a device or a strange file can do something, and looked
at again when it is open, since it may have been replaced. Symbolic links are followed, as a shell does.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import stat
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from anyio import typed_attribute

from aioipc._loop.back_off import BackOffReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys.file_identity import file_identity

from .claims import UNFINISHED, Claim
from .free_descriptors import naming_the_limit
from .names import check_mode, unlink_if_same
from .pipes import PipeAttribute, PipeEnd, PipeReceiveStream, PipeSendStream, above_stdio

Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class FifoAttribute(PipeAttribute):
    """What ``stream.extra(…)`` can tell about a FIFO, through any stream wrapped around it."""

    path: str = typed_attribute()  #: the absolute path by which it was opened


class _FifoEnd(PipeEnd):
    """What an end has because its pipe has a name."""

    _kind = "FIFO"
    _path: str
    _claim: Claim

    @property
    def path(self) -> str:
        """The absolute path by which the FIFO was opened."""
        return self._path

    def is_removed(self) -> bool:
        """Return True where no name leads to this FIFO any more (``unlink(2)``), so that nobody can come to it.

        Whoever has it open can go on. Raises `ClosedResourceError` after closing.
        """
        return os.fstat(self.fileno()).st_nlink == 0

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Every `FifoAttribute`; `ClosedResourceError` comes of asking a closed stream for those of a pipe."""
        return {**super().extra_attributes, FifoAttribute.path: lambda: self._path}

    def _release(self, fd: int) -> None:
        try:
            if self._claim.removes:
                unlink_if_same(self._path, os.fstat(fd))
            self._claim.end(gone=not os.fstat(fd).st_nlink)
        finally:
            super()._release(fd)


class FifoReceiveStream(_FifoEnd, PipeReceiveStream):
    """The read end of a FIFO, as a byte stream; `open_fifo_reader` makes it.

    It is a `PipeReceiveStream` that waits for the first writer to come. The end of the stream is when the last
    of the writers that came has left; it is final, and a writer who comes later is not read. A persistent
    reader has no end.
    """

    _others_gone = "every writer has left the FIFO"

    def __init__(self, fd: int, path: str, claim: Claim) -> None:
        super().__init__(fd)
        self._path, self._claim = path, claim
        self._writer_came = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR  # then it is one itself
        self._ended = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def _read(self, fd: int, size: int) -> bytes:
        data = b"" if self._no_more() else os.read(fd, size)
        self._ended = not data
        return data

    def _readv(self, fd: int, buffers: list[bytearray | memoryview]) -> int:
        count = 0 if self._no_more() else os.readv(fd, buffers)
        self._ended = not count
        return count

    def _no_more(self) -> bool:
        """Return True after the end; raise `BlockingIOError` before the first writer."""
        if not self._writer_came:
            if not self._poll.poll(0):
                raise BlockingIOError
            self._writer_came = True
        return self._ended


class FifoSendStream(_FifoEnd, PipeSendStream):
    """The write end of a FIFO, as a byte stream; `open_fifo_writer` makes it.

    It is a `PipeSendStream`. `BrokenResourceError` says that all readers have left; when another one comes,
    `send` works again.
    """

    _others_gone = "every reader has left the FIFO"

    def __init__(self, fd: int, path: str, claim: Claim) -> None:
        super().__init__(fd)
        self._path, self._claim = path, claim


async def open_fifo_reader(
    path: Path, *, create: bool = False, mode: int = 0o600, remove: bool = False, persistent: bool = False
) -> FifoReceiveStream:
    """Open a FIFO for reading, at once: writers may come later.

    ``create`` makes it where there is none (``mkfifo(3)``) with exactly the permissions ``mode``, whatever the
    umask; one that is there is taken as it is. ``remove`` takes the name away again at `close`, where this call
    has made it. ``persistent`` outlives writers: others may come when the last one has left, and the stream
    never ends. That needs permission to write, too.

    Raises `FileNotFoundError` where there is none, `FileExistsError` where the path leads to something else,
    `PermissionError` where its permissions forbid it, or where ``create`` meets somebody else's FIFO in a
    directory that everybody writes to (``fs.protected_fifos`` in ``proc(5)`` says why),
    `TypeError` or `ValueError` for a wrong ``path`` or ``mode`` and for ``remove`` without ``create``.
    Cancelled: nothing was opened or made.
    """
    name = _check_arguments(path, create, mode, remove)
    await asyncio.sleep(0)

    async def open_it(suspicious: bool) -> int:
        return _open(name, os.O_RDWR if persistent else os.O_RDONLY, suspicious)

    return FifoReceiveStream(*await _make_and_open(name, mode if create else None, remove, open_it))


async def open_fifo_writer(
    path: Path, *, create: bool = False, mode: int = 0o600, remove: bool = False
) -> FifoSendStream:
    """Open a FIFO for writing as soon as somebody has it open for reading; wait for that.

    The waiting looks every 20 ms at the latest and needs no thread; bound it with ``asyncio.timeout``.
    ``create``, ``mode``, ``remove`` and the errors are those of `open_fifo_reader`. `FileNotFoundError` is also
    raised where the FIFO vanishes meanwhile.
    Cancelled: nothing is open, and a FIFO that this call has made is gone if ``remove`` is set.
    """
    name = _check_arguments(path, create, mode, remove)
    await asyncio.sleep(0)

    async def open_it(suspicious: bool) -> int:
        return await _wait_for_reader(name, suspicious)

    return FifoSendStream(*await _make_and_open(name, mode if create else None, remove, open_it))


async def _make_and_open(
    name: str, mode: int | None, remove: bool, open_it: Callable[[bool], Awaitable[int]]
) -> tuple[int, str, Claim]:
    """Open the FIFO, made with ``mode`` if there is one to make; return what a stream of it needs."""
    while True:
        made = _make(name, mode, remove) if mode is not None else None
        try:
            fd = await open_it(mode is not None and made is None)
        except BaseException as error:
            _take_back(name, made)
            if mode is not None and made is None and _has_vanished(name, error):
                continue  # make it after all
            raise
        try:
            claim = made.claim if made is not None else Claim.join("fifo", name, file=file_identity(fd))
        except BaseException:
            os.close(fd)
            raise
        if made is not None or os.fstat(fd).st_nlink:
            return fd, name, claim
        os.close(fd)  # a clean-up was at it, for which joining waits


async def _wait_for_reader(name: str, suspicious: bool) -> int:
    queue = WaitQueue(BackOffReadiness(), f"FIFO {name}")
    try:
        return await queue.take(_open_if_read, name, suspicious)
    finally:
        queue.close(lambda: None)


def _open_if_read(name: str, suspicious: bool) -> int:
    """Open the FIFO for writing; `BlockingIOError` where nobody has it open for reading."""
    try:
        return _open(name, os.O_WRONLY, suspicious)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise BlockingIOError from None
        raise


def _check_arguments(path: Path, create: bool, mode: object, remove: bool) -> str:
    """Return the path as absolute text: it must lead to the same place when the FIFO is removed."""
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the path of a FIFO")
    check_mode(mode)
    if remove and not create:
        raise ValueError("remove=True takes away what create=True has made; without it there is nothing to remove")
    return name if os.path.isabs(name) else os.path.join(os.getcwd(), name)


class _Made(NamedTuple):
    """A FIFO that was made here."""

    found: os.stat_result
    claim: Claim


def _make(name: str, mode: int, remove: bool) -> _Made | None:
    """Make a FIFO and return what it is; None where something has that name already."""
    try:
        with Claim.begin("fifo", name, remove=remove) as claim:
            os.mkfifo(name, mode | UNFINISHED)
    except FileExistsError:
        return None
    except OSError as error:  # which does not say where
        raise OSError(error.errno, error.strerror, name) from None
    made = os.lstat(name)
    claim.complete(file=file_identity(name))
    os.chmod(name, mode)  # the umask may have taken some away, too
    return _Made(made, claim)


def _open(name: str, flags: int, suspicious: bool) -> int:
    """Open the FIFO without blocking; `OSError` with ENXIO where a writer meets no reader."""
    _check_kind(name, _look(name))
    try:
        with naming_the_limit(f"the FIFO {name}"):
            fd = above_stdio(os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError as error:
        raise _forbidden(name, "its permissions forbid it") from error
    try:
        found = os.fstat(fd)
        _check_kind(name, found)
        if suspicious:
            _check_owner(name, found)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _look(name: str) -> os.stat_result:
    try:
        return os.stat(name)
    except FileNotFoundError:
        dangling = os.path.islink(name)
        text = "is a symbolic link to nothing" if dangling else "there is no FIFO (any more); create=True makes one"
        raise FileNotFoundError(errno.ENOENT, text, name) from None


def _check_kind(name: str, found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFIFO:
        raise FileExistsError(errno.EEXIST, f"is {_KINDS.get(kind, 'something else')}, not a FIFO", name)


def _check_owner(name: str, found: os.stat_result) -> None:
    """Refuse what ``open(2)`` with O_CREAT refuses under ``fs.protected_fifos``: somebody may lie in wait."""
    place = os.stat(os.path.dirname(os.path.realpath(name)))
    shared = place.st_mode & stat.S_ISVTX and place.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    if shared and found.st_uid not in (os.geteuid(), place.st_uid):
        raise _forbidden(name, "it was made by somebody else in a directory that others may write to")


def _forbidden(name: str, reason: str) -> PermissionError:
    found = os.stat(name)
    text = f"may not be opened: {reason} (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):#o})"
    return PermissionError(errno.EACCES, text, name)


def _has_vanished(name: str, error: BaseException) -> bool:
    """Return True where there was a FIFO, and none is there any more; a link to nothing is something else."""
    return isinstance(error, FileNotFoundError) and not os.path.islink(name)


def _take_back(name: str, made: _Made | None) -> None:
    if made is not None:
        if made.claim.removes:
            unlink_if_same(name, made.found)
        made.claim.end(gone=made.claim.removes)
