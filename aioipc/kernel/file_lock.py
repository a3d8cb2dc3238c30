"""The advisory lock of a file (``flock(2)``, ``fcntl(2)``): held by one program, or shared by several, until it ends.

Each object has an open file description of its own, and the lock belongs to that: two objects exclude each other in
one process as in two, closing another descriptor of the file frees nothing, and the kernel frees the lock with its
holder. Who waits, and how, is told in `aioipc.kernel.lock_waits`; a lock that is free is taken without a thread.

A lock belongs to a file, but programs agree on a path. Where somebody has put another file in its place, or removed
it, those who have the old one locked exclude nobody any more. So whoever gets the lock looks whether the path still
leads to what was locked, and if not, goes on with what is there now.

Rejected: POSIX's own locks (``lockf``), which any ``close`` of the file in this process frees; trying again and again;
removing the file at the end, which lets two programs lock two files of one name; changing a lock from shared to
exclusive, which two holders would wait for for ever, and which ``flock`` does by giving the first one up.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self
from weakref import WeakSet

from anyio.abc import AsyncResource

from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys.file_locks import LockKind, check_kind
from aioipc.exceptions import ClosedResourceError, ObjectRemovedError

from .held import Held
from .lock_waits import LockedPart, LockProbe, LockReadiness
from .names import FilePath, check_mode, check_path, check_range
from .pipes import above_stdio

_LARGEST = (1 << 63) - 1
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ETXTBSY})
_REPLACEMENTS = 100  # of the file, in a row, that one try puts up with


@dataclass(frozen=True, slots=True)
class FileLockStatistics:
    """A file lock at one moment, as this object sees it."""

    held: Literal["exclusive", "shared"] | None  #: how this object holds it; None where it does not, or is closed
    holders: int  #: tasks that hold it through this object: several if shared
    waiting: int  #: tasks of this object that wait for it
    acquired: int  #: how often it was acquired through this object
    reopened: int  #: how often the path had come to lead to another file


class FileLock(AsyncResource):
    """A lock of a file; `open` makes the object, ``async with`` or `aclose` ends it and gives the lock back.

    ``async with lock.held():`` takes the lock and gives it back. Tasks that wait on one object are served first come
    first served, also one that wants it shared behind one that wants it alone. Between objects, and processes, the
    kernel promises no order. It is not reentrant: a task that acquires it twice waits for itself.

    The object belongs to the first event loop in which a task waits. A forked child does not inherit it: there the
    object is closed, and the lock stays with the parent.
    """

    _fd = -1  # for __del__, where __init__ has refused

    def __init__(self, fd: int, path: str, part: LockedPart) -> None:
        """Take over a descriptor; `open` does that."""
        self.path: str = path
        self.kind: LockKind = part.kind
        self._name = f"lock of {path}"
        self._part = part
        self._file = os.fstat(fd)
        self._readiness = LockReadiness(part)
        self._queue = WaitQueue(self._readiness, self._name)
        self._held: LockProbe | None = None  # in which mode
        self._holders = self._acquired = self._reopened = 0
        self._fd = fd
        _locks.add(self)

    @classmethod
    def open(
        cls,
        path: FilePath,
        *,
        kind: LockKind = "flock",
        start: int = 0,
        length: int = 0,
        create: bool = True,
        mode: int = 0o600,
    ) -> Self:
        """Open a file to lock it, at once. That locks nothing yet.

        ``kind``: ``"flock"`` locks whole files, as ``flock(1)`` does; ``"ofd"`` the ``length`` bytes from ``start`` on
        (0: up to the end, however the file grows), against each other and against ``lockf(3)``. The two kinds know
        nothing of each other, so all programs take the same. ``create`` makes an empty file where there is none, with
        the permissions ``mode`` less the umask. Nothing ever removes it. A directory can be locked too.

        Raises `FileNotFoundError`, `PermissionError`, `TypeError` or `ValueError` for wrong arguments, for ranges of
        a ``flock`` and for anything but a file or a directory, `UnsupportedPlatform`.
        """
        name = check_path(path, "a file to lock")
        check_kind(kind)
        check_mode(mode)
        check_range("start", start, 0, _LARGEST)
        check_range("length", length, 0, _LARGEST - start)
        if kind == "flock" and (start or length):
            raise ValueError("flock locks whole files; for a range of bytes take kind='ofd'")
        part = LockedPart(partial(_open, name, create, mode), kind, start, length)
        fd = part.open()
        try:
            return cls(fd, name, part)
        except BaseException:
            part.close(fd)
            raise

    async def acquire(self, *, shared: bool = False) -> None:
        """Take the lock; wait until no other holder is in the way (``flock(2)``, ``fcntl(2)`` F_OFD_SETLKW).

        ``shared`` lets others share it who want it shared, too. Needs, for ``kind="ofd"``, permission to write to the
        file if not shared.

        Raises `ObjectRemovedError` where the file is gone and was opened with ``create=False``, `ClosedResourceError`
        where the object is or gets closed, `PermissionError`, `OSError` with ENOLCK where the system has no more
        locks to give, `RuntimeError` in another event loop.
        Cancelled: it is not held.
        """
        probe = self._probe(shared)
        probe.users += 1
        try:
            await self._queue.take(self._try, probe)
        except BaseException:
            self._readiness.nudge()  # who is first now may want something else
            raise
        finally:
            probe.users -= 1
            if not probe.users:
                probe.drop()

    def acquire_nowait(self, *, shared: bool = False) -> None:
        """Take the lock, or raise `WouldBlock` where somebody holds it or tasks of this object wait for it."""
        self._queue.take_nowait(self._try, self._probe(shared))

    def release(self) -> None:
        """Give the lock back, in the thread of the event loop. Raises `RuntimeError` where it is not held."""
        self._check_open()
        if not self._holders:
            raise RuntimeError(f"the {self._name} is not held")
        self._holders -= 1
        if not self._holders:
            self._held, self._readiness.busy = None, False
            self._part.unlock(self._fd)
        self._readiness.nudge()

    def held(self, *, shared: bool = False) -> AbstractAsyncContextManager[None]:
        """Return an async context manager that takes the lock and gives it back: ``async with lock.held():``.

        It raises what `acquire` raises. Cancelled while it waits: the lock is not held.
        """
        return Held(partial(self.acquire, shared=shared), self.release)

    def fileno(self) -> int:
        """Return the descriptor of the file, which stays the object's own; its number never changes.

        While the lock is held it is the file that the path leads to. Raises `ClosedResourceError` after closing.
        """
        self._check_open()
        return self._fd

    def statistics(self) -> FileLockStatistics:
        """Return who of this object holds the lock and waits for it; when closed too."""
        held: Literal["exclusive", "shared"] | None = None
        if self._held is not None and self._fd >= 0:
            held = "shared" if self._held.shared else "exclusive"
        holders = self._holders if held else 0
        return FileLockStatistics(held, holders, self._queue.waiting, self._acquired, self._reopened)

    def close(self) -> None:
        """Give the lock back and close the file, at once; closed already: do nothing.

        Tasks that wait for it get `ClosedResourceError`; their thread leaves the kernel.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._queue.close(partial(self._part.close, fd))

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        held = self.statistics().held or ("closed" if self._fd < 0 else "not held")
        return f"<FileLock {self.path} {self.kind}, {held}>"

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _probe(self, shared: bool) -> LockProbe:
        self._check_open()
        return self._readiness.shared if shared else self._readiness.exclusive

    def _try(self, probe: LockProbe) -> None:
        """Take the lock without waiting; `BlockingIOError` where it is not to be had."""
        if not self._holders:
            self._try_kernel(probe)
            self._held, self._readiness.busy = probe, True
        elif not (probe.shared and self._held is probe):
            raise BlockingIOError
        self._holders += 1
        self._acquired += 1

    def _try_kernel(self, probe: LockProbe) -> None:
        (self._readiness.exclusive if probe.shared else self._readiness.shared).drop()  # it would be in our way
        if probe.kept >= 0:
            self._adopt(probe)
            if self._is_current():
                return
            self._part.unlock(self._fd)
        for _ in range(_REPLACEMENTS):
            try:
                self._part.lock(self._fd, shared=probe.shared)
            except BlockingIOError:
                if self._is_current():
                    self._readiness.wait_for(probe)
                    raise
            except OSError as error:
                raise _explained(error, self.path) from None
            else:
                if self._is_current():
                    return
                self._part.unlock(self._fd)
            self._reopen()
        raise OSError(errno.EAGAIN, "is replaced all the time, so that its lock means nothing", self.path)

    def _is_current(self) -> bool:
        """Whether the path leads to the file that is open."""
        try:
            return os.path.samestat(os.stat(self.path), self._file)
        except FileNotFoundError:
            return False

    def _adopt(self, probe: LockProbe) -> None:
        """Make the description that has got the lock this object's own, under the same number."""
        os.dup2(probe.kept, self._fd, inheritable=False)
        self._part.forget(probe.kept)
        probe.kept = -1
        self._file = os.fstat(self._fd)

    def _reopen(self) -> None:
        try:
            fd = self._part.open()
        except FileNotFoundError:
            raise ObjectRemovedError(errno.ENOENT, "the file to lock was removed", self.path) from None
        os.dup2(fd, self._fd, inheritable=False)
        self._part.forget(fd)
        self._file = os.fstat(self._fd)
        self._reopened += 1

    def _never_create(self) -> None:
        """Treat it as an error from now on that the file is gone."""
        self._part.open_file = partial(_open, self.path, False, 0)

    def _switch(self, fd: int, put_in_place: Callable[[], object]) -> None:
        """While it is held: have a new file take the place of this one, and hold the lock of that."""
        try:
            self._part.lock(fd, shared=False)  # nobody knows it yet
            put_in_place()
            self._part.unlock(self._fd)
            os.dup2(fd, self._fd, inheritable=False)
        finally:
            os.close(fd)
        self._file = os.fstat(self._fd)

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ClosedResourceError(f"the {self._name} is closed")


_locks: WeakSet[FileLock] = WeakSet()


def _close_in_child() -> None:
    """In a forked child: its copies of the descriptors are closed already (`aioipc.kernel.lock_waits`)."""
    for each in _locks:
        each._fd = -1


os.register_at_fork(after_in_child=_close_in_child)


def _open(path: str, create: bool, mode: int) -> int:
    """Open the file for writing if that is allowed, else for reading."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    while True:
        try:
            fd = above_stdio(_open_or_make(path, flags, create, mode))
            break
        except OSError as error:
            if error.errno not in _READ_ONLY or not flags & os.O_RDWR:
                raise
            flags &= ~os.O_RDWR
    kind = os.fstat(fd).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        os.close(fd)
        raise ValueError(f"{path} is neither a file nor a directory, so it is not locked")
    return fd


def _open_or_make(path: str, flags: int, create: bool, mode: int) -> int:
    """Open what is there first: with O_CREAT the kernel may refuse others' files (``fs.protected_regular``)."""
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if not create:
                raise
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:  # made since; or a symbolic link to nothing
            if os.path.islink(path) and not os.path.exists(path):
                raise


def _explained(error: OSError, path: str) -> OSError:
    """Say what it means, and what to do."""
    number = error.errno or errno.EIO
    if number == errno.EBADF:
        text = "an exclusive lock of this kind needs the permission to write to the file; kind='flock' does not"
        return PermissionError(errno.EACCES, text, path)
    text = {
        errno.ENOLCK: "the system has no more locks to give",
        errno.EOPNOTSUPP: "this file system has no such locks",
    }.get(number, os.strerror(number))
    return OSError(number, text, path)
