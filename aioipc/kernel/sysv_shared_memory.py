"""System V shared memory (``svipc(7)``): segments that processes find by a number, the key.

The kernel counts who has a segment attached, and keeps one that was removed until the last of these has let go. Nothing
removes it by itself when its users end; ``ipcs -m`` shows what was left over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import Self

from aioipc._sys import sysv, sysv_shm
from aioipc._sys.mappings import attach_segment
from aioipc.exceptions import ObjectRemovedError

from .claims import UNFINISHED, Claim
from .names import check_mode, check_range
from .segment import Segment
from .sysv_keys import check_key

_LARGEST = (1 << 62) - 1
_GONE = (errno.EINVAL, errno.EIDRM)


@dataclass(frozen=True, slots=True)
class SysVSharedMemoryStatistics:
    """A System V segment at one moment (``shmctl(2)``); after closing all is 0."""

    size: int  #: bytes
    attached: int  #: how often it is attached now, in all processes
    creator: int  #: the process that made it
    last: int  #: the process that attached or detached it last
    removed: bool  #: it goes when the last one detaches it


class SysVSharedMemory(Segment):
    """A System V segment, attached; `create` or `open` makes the object, ``with`` or ``async with`` ends it."""

    def __init__(self, ident: int, key: int | None, *, readonly: bool, claim: Claim) -> None:
        """Attach the segment; `create` and `open` do that."""
        size = sysv_shm.status(ident).size
        label = f"System V shared memory {ident}" + (f" (key {key:#x})" if key is not None else "")
        mapping = attach_segment(ident, size, readonly=readonly)
        super().__init__(mapping, size, label, readonly=readonly)
        self._claim = claim
        self.id: int = ident
        self.key: int | None = key

    @classmethod
    def create(
        cls, key: int | None, size: int, *, exist_ok: bool = False, remove: bool = True, mode: int = 0o600
    ) -> Self:
        """Make a segment of ``size`` bytes, all zero, and attach it, at once (``shmget(2)``, ``shmat(2)``).

        Without a ``key`` it is private: who shall open it must be told its `id`. ``exist_ok`` opens one that is there
        already and has ``size`` bytes or more; nothing is removed then. ``remove`` removes it when this object is
        closed.

        Raises `FileExistsError` where there is one, `PermissionError`, `OSError` with EINVAL, ENOSPC or ENOMEM above
        the limits of the system, which it names, `UnsupportedPlatform`, `TypeError` or `ValueError`.
        """
        number = sysv.IPC_PRIVATE if key is None else check_key(key)
        check_range("size", size, 1, _LARGEST)
        check_mode(mode)
        marked = mode | UNFINISHED if mode & stat.S_IRUSR else mode  # or its mode could not be set again
        while True:
            claim = Claim.begin("sysv-memory", key=None if key is None else number, remove=remove)
            try:
                ident = sysv_shm.get(number, size, sysv.IPC_CREAT | sysv.IPC_EXCL | marked)
            except OSError as error:
                claim.end(gone=True)
                if not (exist_ok and error.errno == errno.EEXIST):
                    raise _explained(error, key, size) from None
            else:
                return cls._made(ident, key, mode, claim)
            with contextlib.suppress(FileNotFoundError, ObjectRemovedError):  # removed since: make it after all
                return cls._attached(_get(number, size), key, readonly=False)

    @classmethod
    def open(cls, key: int | None = None, *, id: int | None = None, readonly: bool = False) -> Self:
        """Attach a segment that exists, found by its ``key`` or its ``id``, at once. Closing never removes it.

        ``readonly`` attaches it so that writing is a `TypeError`, and needs the permission to read only.

        Raises `FileNotFoundError` where no segment has this key, `ObjectRemovedError` where none has this id,
        `PermissionError`, `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        if (key is None) == (id is None):
            raise TypeError("open() takes a key or an id")
        if id is not None:
            check_range("id", id, 0, (1 << 31) - 1)
            return cls._attached(id, None, readonly=readonly)
        number = check_key(key)
        return cls._attached(_get(number, 0), number, readonly=readonly)

    @classmethod
    def _made(cls, ident: int, key: int | None, mode: int, claim: Claim) -> Self:
        """Attach a new segment, or leave nothing of it."""
        changed = _key_and_ctime(ident)[1]
        claim.complete(id=ident, changed=changed)
        try:
            if mode & stat.S_IRUSR:
                with contextlib.suppress(OSError):  # removed already
                    sysv_shm.set_mode(ident, mode)
                if (now := _key_and_ctime(ident)[1]) != changed:
                    claim.note_change(now)
            return cls(ident, key, readonly=False, claim=claim)
        except OSError as error:
            with contextlib.suppress(OSError):
                sysv_shm.remove(ident)
                claim.forget()
            claim.end()
            raise _explained(error, key) from None

    @classmethod
    def _attached(cls, ident: int, key: int | None, *, readonly: bool) -> Self:
        known, changed = _key_and_ctime(ident)
        claim = Claim.join("sysv-memory", id=ident, key=known, changed=changed)
        try:
            return cls(ident, key, readonly=readonly, claim=claim)
        except OSError as error:
            claim.end()
            if error.errno in _GONE:
                text = f"there is no System V shared memory with id {ident} (any more)"
                raise ObjectRemovedError(error.errno, text) from None
            raise _explained(error, key) from None

    def statistics(self) -> SysVSharedMemoryStatistics:
        """Return who uses the segment (``shmctl(2)``, IPC_STAT), which needs the permission to read."""
        if self._mapping is None:
            return SysVSharedMemoryStatistics(0, 0, 0, 0, False)
        found = sysv_shm.status(self.id)
        return SysVSharedMemoryStatistics(found.size, found.attached, found.creator, found.last, found.removed)

    def is_removed(self) -> bool:
        """Return True where the segment is removed and only waits for its last user to let go.

        Raises `ClosedResourceError` after closing.
        """
        self._open()
        return sysv_shm.status(self.id).removed

    def remove(self) -> None:
        """Remove the segment now (``shmctl(2)``, IPC_RMID): no key leads to it any more; removed already: do nothing.

        Who has it attached keeps it. Raises `PermissionError` for somebody else's, `ClosedResourceError` after closing.
        """
        self._open()
        sysv_shm.remove(self.id)
        self._claim.forget()

    def _before_unmapping(self) -> None:
        """Remove the segment while it is attached: after that its id may be another one's."""
        if self._claim.removes:
            try:
                sysv_shm.remove(self.id)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
            self._claim.forget()

    def _after_unmapping(self) -> None:
        self._claim.end()


def _key_and_ctime(ident: int) -> tuple[int | None, int | None]:
    """Return what tells a segment from another one of its id; ``None`` where we may not look."""
    try:
        found = sysv_shm.status(ident)
    except OSError:
        return None, None
    return found.key, found.changed


def _get(key: int, size: int) -> int:
    try:
        return sysv_shm.get(key, size, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ValueError(f"the System V shared memory with key {key:#x} has less than {size} bytes") from None
        raise _explained(error, key, size) from None


def _explained(error: OSError, key: int | None, size: int = 0) -> OSError:
    """Say what it means, and which limit it was."""
    number = error.errno or errno.EIO
    what = "private" if key is None else f"key {key:#x}"
    text = {
        errno.EEXIST: "exists already; exist_ok=True opens it",
        errno.ENOENT: "there is no System V shared memory with this key",
        errno.EACCES: "the permissions of this System V shared memory forbid it",
        errno.EPERM: "this System V shared memory belongs to somebody else",
    }.get(number, os.strerror(number))
    if number in (errno.EINVAL, errno.ENOSPC, errno.ENOMEM):
        text += f" (for {size} bytes; the limits are {sysv_shm.limits()})"
    return OSError(number, text, what)
