"""Advisory locks of files: ``flock(2)``, and the locks of open file descriptions of ``fcntl(2)`` (F_OFD_SETLK).

Both belong to an open file description, so two of them exclude each other within one process too, and the kernel frees
them with the last descriptor of it, however that ends. The old locks of ``lockf(3)``, which belong to a process and go
when it closes *any* descriptor of the file, are not made here; those of OFD kind exclude them.

Through ctypes, because Python's own calls begin again after a signal, and a thread that waits must come out of it. Each
function raises `OSError` with the errno of its call: `BlockingIOError` where it would have to wait, `InterruptedError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from typing import Literal, TypeAlias

from aioipc.exceptions import UnsupportedPlatform

from .library import failure

LockKind: TypeAlias = Literal["flock", "ofd"]

_SETLK, _SETLKW = getattr(fcntl, "F_OFD_SETLK", None), getattr(fcntl, "F_OFD_SETLKW", None)


class _Range(ctypes.Structure):
    """``struct flock`` with 64-bit offsets."""

    _fields_ = (
        ("type", ctypes.c_short),
        ("whence", ctypes.c_short),
        ("start", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("pid", ctypes.c_int),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_flock = _libc.flock
_flock.argtypes = (ctypes.c_int, ctypes.c_int)
_fcntl = getattr(_libc, "fcntl64", None) or _libc.fcntl


def check_kind(kind: object) -> None:
    """Raise `ValueError` for an unknown kind, `UnsupportedPlatform` for one that this system lacks."""
    if kind not in ("flock", "ofd"):
        raise ValueError(f"kind must be 'flock' or 'ofd', not {kind!r}")
    if kind == "ofd" and _SETLK is None:
        raise UnsupportedPlatform("this system has no locks of open file descriptions; take kind='flock'")


def lock(fd: int, kind: LockKind, start: int, length: int, *, shared: bool, block: bool) -> None:
    """Lock a file or a range of it; ``length`` 0 is up to its end, however it grows. ``block`` waits."""
    if kind == "flock":
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        _check(_flock(fd, operation if block else operation | fcntl.LOCK_NB))
    else:
        _set_range(fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length, block)


def unlock(fd: int, kind: LockKind, start: int, length: int) -> None:
    """Unlock what was locked, whoever has a copy of the descriptor."""
    if kind == "flock":
        _check(_flock(fd, fcntl.LOCK_UN))
    else:
        _set_range(fd, fcntl.F_UNLCK, start, length, False)


def _set_range(fd: int, type: int, start: int, length: int, block: bool) -> None:
    wanted = _Range(type, os.SEEK_SET, start, length, 0)
    command = _SETLKW if block else _SETLK
    assert command is not None
    _check(_fcntl(fd, command, ctypes.byref(wanted)))


def _check(result: int) -> None:
    if result:
        error = failure()
        if error.errno == errno.EACCES:  # POSIX lets a lock that is held be EAGAIN or EACCES
            error = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        raise error


def try_flock(fd: int, *, shared: bool) -> bool:
    """Lock a whole file by ``flock(2)`` if that can be done at once; return whether."""
    try:
        lock(fd, "flock", 0, 0, shared=shared, block=False)
    except BlockingIOError:
        return False
    return True


def flock_within(patience: float, fd: int, *, shared: bool) -> bool:
    """Lock as `try_flock`, and try for so many seconds: for locks that are held for less than a millisecond."""
    deadline = time.monotonic() + patience
    while not try_flock(fd, shared=shared):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
