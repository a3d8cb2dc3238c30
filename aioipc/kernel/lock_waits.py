"""How a task waits for a file lock: by a thread that waits in the kernel, and hands over what the kernel gave it.

Nothing reports that a lock is free, and no system call waits for one without taking it. So the thread takes it, for an
open file description of its own, and keeps it until the loop turns. There the first task that waits makes this
description its own. Where none wants it any more, because the one that did was cancelled, it is unlocked at once.

Rejected: unlocking at once in any case, and having the loop try. In that moment everybody else who tries is refused for
nothing, and while the loop is on its way, others take the lock. With four processes that each hold it for 1 ms, as
much work was done in the same time, but the longest wait was two to three times as long (27 to 58 ms, not 11 to 23).
The price: a process whose loop is busy may have the lock some time before its task learns of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from aioipc._loop.object_readiness import ObjectReadiness
from aioipc._sys.file_locks import LockKind, lock, unlock

_ours: set[int] = set()  # descriptors that may have a lock


class LockedPart:
    """What is locked: all of a file, or a range of bytes, by which kind of lock. ``open`` opens the file anew."""

    __slots__ = ("kind", "length", "open_file", "start")

    def __init__(self, open_file: Callable[[], int], kind: LockKind, start: int, length: int) -> None:
        self.open_file: Callable[[], int] = open_file
        self.kind: LockKind = kind
        self.start: int = start
        self.length: int = length

    def open(self) -> int:
        """Return a new open file description of the file."""
        fd = self.open_file()
        _ours.add(fd)
        return fd

    def lock(self, fd: int, *, shared: bool, block: bool = False) -> None:
        """Lock it; `BlockingIOError` where it would have to wait and must not."""
        lock(fd, self.kind, self.start, self.length, shared=shared, block=block)

    def unlock(self, fd: int) -> None:
        """Unlock it."""
        unlock(fd, self.kind, self.start, self.length)

    def close(self, fd: int) -> None:
        """Unlock it and close the descriptor."""
        with contextlib.suppress(OSError):
            self.unlock(fd)  # a copy in a forked child would keep the lock
        self.forget(fd)

    def forget(self, fd: int) -> None:
        """Close the descriptor, of whose description there is a copy."""
        _ours.discard(fd)
        os.close(fd)


class LockProbe:
    """Waits for the lock in one mode. ``users`` tasks want it so; ``kept`` is the descriptor that has got it."""

    __slots__ = ("_part", "kept", "shared", "users")

    def __init__(self, part: LockedPart, *, shared: bool) -> None:
        self._part = part
        self.shared: bool = shared
        self.users: int = 0
        self.kept: int = -1

    def ask(self, block: bool) -> int | None:
        """Lock the file anew, and return its descriptor, which is then for `keep`."""
        fd = self._part.open()
        try:
            self._part.lock(fd, shared=self.shared, block=block)
        except BaseException:
            self._part.close(fd)
            raise
        if not self.users:  # so do not make the loop's next turn the length of it
            self._part.close(fd)
            return None
        return fd

    def keep(self, taken: int) -> None:
        """Have a locked descriptor ready for the task that tries next; unlock it where nobody waits."""
        if self.users and self.kept < 0:
            self.kept = taken
        else:
            self._part.close(taken)

    def drop(self) -> None:
        """Unlock what was kept, if anything was."""
        fd, self.kept = self.kept, -1
        if fd >= 0:
            self._part.close(fd)


class LockReadiness:
    """Reports that the lock may be free. ``busy`` is set while this object itself has it: then no thread has to wait.

    ``exclusive`` and ``shared`` are the two probes; ``probe`` is the one that counts.
    """

    __slots__ = ("_report", "_threads", "busy", "exclusive", "shared")

    def __init__(self, part: LockedPart) -> None:
        self.exclusive: LockProbe = LockProbe(part, shared=False)
        self.shared: LockProbe = LockProbe(part, shared=True)
        self.busy: bool = False
        self._threads: ObjectReadiness | None = None
        self._report: Callable[[], bool] | None = None

    def wait_for(self, probe: LockProbe) -> None:
        """Set what to wait for from the next `arm` on."""
        if self._threads is None:
            self._threads = ObjectReadiness(probe)
        self._threads.probe = probe

    def arm(self, report: Callable[[], bool]) -> None:
        """Report when the lock was got, or when this object gives it back."""
        self._report = report
        if not self.busy and self._threads is not None:
            self._threads.arm(self.nudge)

    def disarm(self) -> None:
        """Do not report until armed again."""
        self._report = None
        if self._threads is not None:
            self._threads.disarm()

    def nudge(self) -> bool:
        """Report now, if armed."""
        report, self._report = self._report, None
        return report is not None and report()

    def close(self) -> None:
        """Have the threads leave, and unlock what they have got."""
        self._report = None
        if self._threads is not None:
            self._threads.close()
        self.exclusive.drop()
        self.shared.drop()


def _leave_to_parent() -> None:
    """In a forked child: close the copies without unlocking, or the locks would outlive the parent."""
    for fd in _ours:
        with contextlib.suppress(OSError):
            os.close(fd)
    _ours.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
