"""System V semaphore sets as the kernel has them: ``semget(2)``, ``semop(2)``, ``semctl(2)``.

Arguments are checked by the callers; each function raises `OSError` with the errno of its call, `BlockingIOError`
where a call would have to wait (EAGAIN), and `InterruptedError` (EINTR) where it waits.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from . import sysv
from .sysv import IPC_NOWAIT, Ownership, Permissions

LARGEST = 32767
"""What a semaphore can count to (SEMVMX), and what one operation can add or take."""

_SEM_UNDO = 0o10000
_GETPID, _GETVAL, _GETALL, _GETNCNT, _GETZCNT, _SETVAL, _SETALL = range(11, 18)


class Operation(NamedTuple):
    """``struct sembuf``: what to do with one semaphore of a set."""

    number: int  #: which one, from 0
    delta: int  #: positive: add; negative: wait for as much, and take it; 0: wait for zero
    undo: bool = False  #: have the kernel take it back when this process ends


class _Operation(ctypes.Structure):
    _fields_ = (("number", ctypes.c_ushort), ("delta", ctypes.c_short), ("flags", ctypes.c_short))


class _Status(ctypes.Structure):
    """``struct semid_ds`` of 64-bit machines: x86 has a gap after each time."""

    _fields_ = (
        ("permissions", Permissions),
        ("operated", ctypes.c_long),
        *([("gap1", ctypes.c_ulong)] if platform.machine() == "x86_64" else []),
        ("changed", ctypes.c_long),
        *([("gap2", ctypes.c_ulong)] if platform.machine() == "x86_64" else []),
        ("count", ctypes.c_ulong),
        ("unused", ctypes.c_ulong * 2),
    )


@dataclass(frozen=True, slots=True)
class SetStatus:
    """What ``semctl(2)`` IPC_STAT tells; times are seconds since the epoch, 0 for never."""

    owner: Ownership
    count: int
    last_operation: int
    last_change: int


_get = sysv.nonblocking["semget"]
_get.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
_try = sysv.nonblocking["semop"]
_wait = sysv.blocking["semop"]
for _function in (_try, _wait):
    _function.argtypes = (ctypes.c_int, ctypes.POINTER(_Operation), ctypes.c_size_t)
# The last parameter is a union; each of its members has a prototype of its own here.
_control = sysv.nonblocking["semctl"]
_control.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)
_control_status = sysv.nonblocking["semctl"]
_control_status.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Status))
_control_array = sysv.nonblocking["semctl"]
_control_array.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_ushort))


def get(key: int, count: int, flags: int) -> int:
    """Make or find a set of at least ``count`` semaphores, and return its id. Linux makes them with the value 0."""
    sysv.check_platform()
    return _checked(_get(key, count, flags))


def operate(set_id: int, operations: tuple[Operation, ...]) -> None:
    """Do all operations at once, or none of them and raise `BlockingIOError`."""
    if _try(set_id, _array(operations, IPC_NOWAIT), len(operations)):
        raise sysv.failure()


def wait(set_id: int, operations: tuple[Operation, ...]) -> None:
    """Do all operations at once, as soon as that is possible."""
    _checked(_wait(set_id, _array(operations, 0), len(operations)))


def value(set_id: int, index: int) -> int:
    """Return the value of one semaphore."""
    return _number(set_id, index, _GETVAL)


def values(set_id: int, count: int) -> tuple[int, ...]:
    """Return the values of a set of ``count`` semaphores, all of one moment."""
    found = (ctypes.c_ushort * count)()
    _checked(_control_array(set_id, 0, _GETALL, found))
    return tuple(found)


def set_value(set_id: int, index: int, number: int) -> None:
    """Set the value of one semaphore; the kernel forgets what it would have undone there, for every process."""
    _checked(_control(set_id, index, _SETVAL, number))


def set_values(set_id: int, numbers: Sequence[int]) -> None:
    """Set the values of all semaphores, as `set_value` does."""
    _checked(_control_array(set_id, 0, _SETALL, (ctypes.c_ushort * len(numbers))(*numbers)))


def waiting(set_id: int, index: int) -> int:
    """Return how many threads wait for one semaphore to grow."""
    return _number(set_id, index, _GETNCNT)


def waiting_for_zero(set_id: int, index: int) -> int:
    """Return how many threads wait for one semaphore to become 0."""
    return _number(set_id, index, _GETZCNT)


def last_pid(set_id: int, index: int) -> int:
    """Return which process was the last to operate on one semaphore; 0 for none."""
    return _number(set_id, index, _GETPID)


def status(set_id: int) -> SetStatus:
    """Look at a set; that needs the permission to read."""
    raw = _status(set_id)
    return SetStatus(sysv.ownership(raw.permissions), raw.count, raw.operated, raw.changed)


def set_mode(set_id: int, mode: int) -> None:
    """Set the permissions of a set."""
    raw = _status(set_id)
    raw.permissions.mode = mode
    _checked(_control_status(set_id, 0, sysv.IPC_SET, ctypes.byref(raw)))


def remove(set_id: int) -> None:
    """Remove a set."""
    _checked(_control(set_id, 0, sysv.IPC_RMID, 0))


def _status(set_id: int) -> _Status:
    raw = _Status()
    _checked(_control_status(set_id, 0, sysv.IPC_STAT, ctypes.byref(raw)))
    return raw


def _number(set_id: int, index: int, command: int) -> int:
    return _checked(_control(set_id, index, command, 0))


@lru_cache(maxsize=256)  # making one takes longer than the call; the kernel only reads it
def _array(operations: tuple[Operation, ...], flags: int) -> ctypes.Array[_Operation]:
    return (_Operation * len(operations))(
        *[_Operation(number, delta, flags | _SEM_UNDO if undo else flags) for number, delta, undo in operations]
    )


def _checked(result: int) -> int:
    if result < 0:
        raise sysv.failure()
    return result
