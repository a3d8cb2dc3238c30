"""The POSIX named semaphore (``sem_overview(7)``): a count that processes share by a name.

The kernel knows nothing of it but a futex, and no descriptor becomes ready when one can be taken. So a task that waits
looks again, after 1 ms at first and 20 ms at last; `PosixSemaphore.release` of the same object wakes it at once.

Nobody gives back what a killed process held. Where that matters take a System V semaphore, which the kernel undoes.

Rejected: a thread in ``sem_wait(3)``, which takes it, though the task may have been cancelled by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import warnings
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Self

from anyio.abc import AsyncResource

from aioipc._loop.back_off import BackOffReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys import posix_sem

from .claims import UNFINISHED, Claim
from .held import Held
from .names import check_mode, check_posix_name, check_range


@dataclass(frozen=True, slots=True)
class PosixSemaphoreStatistics:
    """A POSIX semaphore at one moment; ``value`` is 0 once it is closed."""

    value: int  #: how many can be taken
    acquired: int  #: taken through this object
    released: int  #: given through this object
    waiting: int  #: tasks that wait for one


class PosixSemaphore(AsyncResource):
    """A semaphore with a name; `create` or `open` makes the object, ``async with`` or `aclose` ends it.

    The ``async with`` of the object is its lifetime; ``async with semaphore.held():`` takes one and gives it back.
    Tasks that wait on one object are served first come first served; between processes whoever looks first gets it.
    """

    _semaphore: posix_sem.NamedSemaphore | None = None  # for __del__, where __init__ has refused

    def __init__(self, semaphore: posix_sem.NamedSemaphore, claim: Claim) -> None:
        """Take over an open semaphore; `create` and `open` do that."""
        self._semaphore = semaphore
        self._ours = semaphore
        self._claim = claim
        self._back_off = BackOffReadiness()
        self._queue = WaitQueue(self._back_off, f"POSIX semaphore {semaphore.name}")
        self._acquired = 0
        self._released = 0
        self.name: str = semaphore.name

    @classmethod
    def create(
        cls, name: str, value: int = 1, *, exist_ok: bool = False, remove: bool = True, mode: int = 0o600
    ) -> Self:
        """Make a semaphore that has its value from the beginning, at once (``sem_open(3)``).

        ``name`` is a slash and a word, such as ``"/slots"``; ``value`` is how many can be taken, 0 to 2**31-1.
        ``exist_ok`` opens one that is there already, as it is, whatever its value; nothing is removed then. ``remove``
        takes the name away when this object is closed. ``mode`` are the permissions, whatever the umask.

        Raises `FileExistsError` where there is one, `PermissionError`, `OSError` with ENOSPC where /dev/shm is full,
        `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        check_posix_name(name)
        check_range("value", value, 0, posix_sem.LARGEST_VALUE)
        check_mode(mode)
        while True:
            with Claim.begin("posix-semaphore", name, remove=remove) as claim:
                try:
                    made = posix_sem.create_semaphore(name, mode | UNFINISHED, value)
                except OSError as error:
                    if not (exist_ok and error.errno == errno.EEXIST):
                        raise _explained(error, name) from None
                    claim.end(gone=True)
                else:
                    return cls._made(made, mode, claim)
            with contextlib.suppress(FileNotFoundError):  # removed since: make it after all
                return cls.open(name)

    @classmethod
    def _made(cls, made: posix_sem.NamedSemaphore, mode: int, claim: Claim) -> Self:
        """Take over a new semaphore, or leave nothing of it."""
        try:
            claim.complete(file=made.identity)
            posix_sem.set_mode(made.name, mode)  # the umask may have taken some away, too
            return cls(made, claim)
        except BaseException:
            made.close()
            with contextlib.suppress(FileNotFoundError):
                posix_sem.unlink_semaphore(made.name)
            raise

    @classmethod
    def open(cls, name: str) -> Self:
        """Open a semaphore that exists, at once (``sem_open(3)``). Closing never removes it.

        Raises `FileNotFoundError` where there is none, `PermissionError` without permission to read and write,
        `UnsupportedPlatform`, `TypeError` or `ValueError` for a wrong name or a file that is no semaphore.
        """
        check_posix_name(name)
        try:
            found = posix_sem.open_semaphore(name)
        except OSError as error:
            raise _explained(error, name) from None
        try:
            claim = Claim.join("posix-semaphore", name, file=found.identity)
        except BaseException:
            found.close()
            raise
        if posix_sem.identity(name) != found.identity:  # a clean-up was at it, for which joining waits
            found.close()
            raise _explained(FileNotFoundError(errno.ENOENT, ""), name)
        return cls(found, claim)

    async def acquire(self) -> None:
        """Take one; wait while there is none (``sem_trywait(3)``).

        Raises `ClosedResourceError` where this object is or gets closed.
        Cancelled: none was taken.
        """
        await self._queue.take(self._ours.try_wait)
        self._acquired += 1

    def acquire_nowait(self) -> None:
        """Take one, or raise `WouldBlock` where there is none, or where tasks wait for one already."""
        self._queue.take_nowait(self._ours.try_wait)
        self._acquired += 1

    def release(self) -> None:
        """Give one, which need not have been taken here (``sem_post(3)``). Any thread may do that.

        Raises `OSError` with EOVERFLOW above 2**31-1, `ClosedResourceError` after closing.
        """
        try:
            self._ours.post()
        except OSError as error:
            raise _explained(error, self.name) from None
        self._released += 1
        self._back_off.nudge()

    def held(self) -> AbstractAsyncContextManager[None]:
        """Return an async context manager that takes one and gives it back: ``async with semaphore.held():``.

        It raises what `acquire` and `release` raise. Cancelled while it waits: none was taken.
        """
        return Held(self.acquire, self.release)

    @property
    def value(self) -> int:
        """How many can be taken at this moment (``sem_getvalue(3)``). Raises `ClosedResourceError` after closing."""
        return self._ours.value()

    def statistics(self) -> PosixSemaphoreStatistics:
        """Return the value, and what went through this object; when closed too."""
        value = self._ours.value() if self._semaphore is not None else 0
        return PosixSemaphoreStatistics(value, self._acquired, self._released, self._queue.waiting)

    def is_removed(self) -> bool:
        """Return True where the name is gone, or leads to another semaphore, so that nobody can come to this one."""
        return posix_sem.identity(self.name) != self._ours.identity

    def remove(self) -> None:
        """Take the name away now (``sem_unlink(3)``), also where it was there before; gone already: do nothing.

        Who has the semaphore open can go on. Raises `PermissionError` for somebody else's.
        """
        if not self.is_removed():
            with contextlib.suppress(FileNotFoundError):
                posix_sem.unlink_semaphore(self.name)
        self._claim.forget()

    def close(self) -> None:
        """Close the semaphore at once, and remove it where this object has made it; closed already: do nothing.

        Tasks that wait on the object get `ClosedResourceError`. What was taken and not released stays taken.
        """
        if self._semaphore is not None:
            self._semaphore = None
            self._queue.close(self._release_all)

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = f"value={self.value}" if self._semaphore is not None else "closed"
        return f"<PosixSemaphore {self.name} {state}>"

    def __del__(self) -> None:
        if self._semaphore is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _release_all(self) -> None:
        gone = False
        try:
            if self._claim.removes:
                self.remove()
            gone = self.is_removed()
        finally:
            self._claim.end(gone=gone)
            self._ours.close()


def _explained(error: OSError, name: str) -> OSError:
    """Say what it means, and what to do."""
    number = error.errno or errno.EIO
    text = {
        errno.EEXIST: "exists already; exist_ok=True opens it",
        errno.ENOENT: "there is no POSIX semaphore of this name",
        errno.EACCES: "the permissions of this POSIX semaphore forbid it",
        errno.EOVERFLOW: f"the POSIX semaphore has its largest value, {posix_sem.LARGEST_VALUE}",
        errno.ENOSPC: "there is no room for a POSIX semaphore: /dev/shm is full",
    }.get(number, os.strerror(number))
    return OSError(number, text, name)
