"""What message queues and semaphore sets of System V have in common (``sysvipc(7)``), through ctypes over libc.

Calls that cannot block go through `nonblocking`, which keeps the GIL: it costs more to give it away and get it back
than the call takes, and a loop that is busy would hold up whoever gave it away. Calls that wait go through `blocking`.
Every function has its ``argtypes``: a wrong argument is an exception and never a wild pointer.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass

from ..exceptions import UnsupportedPlatform
from . import library

IPC_PRIVATE = 0
IPC_CREAT = 0o1000
IPC_EXCL = 0o2000
IPC_NOWAIT = 0o4000
IPC_RMID, IPC_SET, IPC_STAT = 0, 1, 2

GONE = frozenset({errno.EIDRM, errno.EINVAL})
"""How the kernel says that an id means nothing; EINVAL may mean another thing, too."""

nonblocking = ctypes.PyDLL(None, use_errno=True)
blocking = ctypes.CDLL(None, use_errno=True)

_MACHINES = {"x86_64", "aarch64", "riscv64", "loongarch64"}  # whose structures are known here


class Permissions(ctypes.Structure):
    """``struct ipc_perm`` of 64-bit machines."""

    _fields_ = (
        ("key", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("gid", ctypes.c_uint),
        ("cuid", ctypes.c_uint),
        ("cgid", ctypes.c_uint),
        ("mode", ctypes.c_uint),
        ("sequence", ctypes.c_ushort),
        ("padding", ctypes.c_ushort),
        ("unused", ctypes.c_ulong * 2),
    )


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose an object is, and who may use it."""

    key: int  #: 0 for a private one
    uid: int  #: the owner
    gid: int  #: the owner's group
    maker: int  #: the user who has made it; the owner may be another one since
    mode: int  #: the permissions


def ownership(permissions: Permissions) -> Ownership:
    """Return what a structure says, without the bits of ``mode`` that are no permissions."""
    return Ownership(permissions.key, permissions.uid, permissions.gid, permissions.cuid, permissions.mode & 0o777)


def check_platform() -> None:
    """Raise `UnsupportedPlatform` where the structures of the kernel are not known."""
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in _MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise UnsupportedPlatform(f"aioipc does not know System V objects on {sys.platform} ({machine})")


def failure() -> OSError:
    """Return the error of the call that has just failed, as the subclass that Python has for its errno."""
    if ctypes.get_errno() == errno.ENOMSG:
        return BlockingIOError(errno.EAGAIN, "there is no such message")
    return library.failure()


def sysctl(name: str, field: int = 0) -> int | None:
    """Return a number of ``/proc/sys/kernel``, or ``None`` where it is not there (``proc(5)``)."""
    try:
        with open(f"/proc/sys/kernel/{name}") as file:
            return int(file.read().split()[field])
    except (OSError, ValueError, IndexError):
        return None
