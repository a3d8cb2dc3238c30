"""System V shared memory by ctypes (``svipc(7)``): segments by key, attached to and detached from this process."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

from aioipc.exceptions import UnsupportedPlatform

from .library import failure, library_with
from .sysv import IPC_RMID, IPC_SET, IPC_STAT, Permissions

_SHM_RDONLY = 0o10000
_SHM_DEST = 0o1000
_FAILED = ctypes.c_void_p(-1).value


class _Status(ctypes.Structure):
    _fields_ = (
        ("perm", Permissions),
        ("segsz", ctypes.c_size_t),
        ("atime", ctypes.c_long),
        ("dtime", ctypes.c_long),
        ("ctime", ctypes.c_long),
        ("cpid", ctypes.c_int),
        ("lpid", ctypes.c_int),
        ("nattch", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong * 2),
    )


class Status(NamedTuple):
    """What ``shmctl(2)`` tells of a segment."""

    size: int
    attached: int
    creator: int
    last: int
    mode: int
    owner: int
    removed: bool
    key: int
    maker: int
    changed: int


_lib = library_with("shmget") if ctypes.sizeof(ctypes.c_long) == 8 else None
if _lib is not None:
    _lib.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    _lib.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    _lib.shmat.restype = ctypes.c_void_p
    _lib.shmdt.argtypes = [ctypes.c_void_p]
    _lib.shmctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]


def get(key: int, size: int, flags: int) -> int:
    """Return the id of a segment. Raises as ``shmget(2)``."""
    ident: int = _library().shmget(ctypes.c_int(key).value, size, flags)
    if ident < 0:
        raise failure()
    return ident


def attach(ident: int, *, readonly: bool) -> int:
    """Attach the segment and return where. Raises as ``shmat(2)``."""
    address: int | None = _library().shmat(ident, None, _SHM_RDONLY if readonly else 0)
    if address is None or address == _FAILED:
        raise failure()
    return address


def detach(address: int) -> None:
    """Detach the segment that is attached there (``shmdt(2)``)."""
    if _library().shmdt(address):
        raise failure()


def status(ident: int) -> Status:
    """Return what is known of a segment. Raises as ``shmctl(2)``."""
    found = _status(ident)
    perm = found.perm
    removed = bool(perm.mode & _SHM_DEST)
    users = found.nattch, found.cpid, found.lpid
    return Status(found.segsz, *users, perm.mode & 0o777, perm.uid, removed, perm.key, perm.cuid, found.ctime)


def set_mode(ident: int, mode: int) -> None:
    """Set the permissions of a segment; its owner stays. Raises as ``shmctl(2)``."""
    found = _status(ident)
    found.perm.mode = mode
    if _library().shmctl(ident, IPC_SET, ctypes.byref(found)):
        raise failure()


def remove(ident: int) -> None:
    """Remove the segment; it goes when nobody has it attached any more. Raises as ``shmctl(2)``."""
    if _library().shmctl(ident, IPC_RMID, None):
        raise failure()


def limits() -> str:
    """Return the system's limits as text."""
    found = []
    for name in ("shmmax", "shmall", "shmmni"):
        try:
            value = Path("/proc/sys/kernel", name).read_text().strip()
        except OSError:
            value = "unknown"
        found.append(f"kernel.{name} = {value}")
    return ", ".join(found)


def _status(ident: int) -> _Status:
    found = _Status()
    if _library().shmctl(ident, IPC_STAT, ctypes.byref(found)):
        raise failure()
    return found


def _library() -> ctypes.CDLL:
    if _lib is None:
        raise UnsupportedPlatform("System V shared memory is supported on 64-bit Linux only")
    return _lib
