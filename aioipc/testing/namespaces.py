"""Namespaces and mounts of our own: the system calls that Python 3.11 does not offer.

They change the whole process, so call them once, early, while it has a single thread.
All raise `OSError` as the kernel does: EPERM without CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _check(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones (``unshare(2)``)."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or change a mount with MS_REMOUNT, MS_BIND or MS_PRIVATE (``mount(2)``)."""
    words = [word.encode() if word else None for word in (source, target, kind)]
    _check(_libc.mount(*words, flags, options.encode() or None), f"mount on {target}")


def umount(target: str) -> None:
    """Take a mount away now; its users keep what they have open (``umount2(2)``, MNT_DETACH)."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def private_mounts() -> None:
    """Enter a mount namespace of our own: what is mounted from here on is seen by no one else."""
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
