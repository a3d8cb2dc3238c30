"""Which file is this, whatever its name: device, inode, and when it was made.

Device and inode are not enough. A file system gives the inode of a file that was removed to the next one that is made.
The time of birth is what ``statx(2)`` tells and ``stat(2)`` does not; unlike ctime it never changes.
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

from .library import library_with

_AT_FDCWD, _AT_EMPTY_PATH, _AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x100
_BIRTH = 0x800  # STATX_BTIME


class FileIdentity(NamedTuple):
    """Two that are equal are of the same file."""

    device: int
    inode: int
    born: int | None  #: nanoseconds since the epoch; None where the file system does not know


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("reserved", ctypes.c_int32))


class _Statx(ctypes.Structure):
    """``struct statx``, as far as it is needed."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_uint8 * 60),
        ("accessed", _Time),
        ("born", _Time),
        ("rest", ctypes.c_uint8 * 160),
    )


_lib = library_with("statx")
if _lib is not None:
    _lib.statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Statx)]


def file_identity(file: int | str) -> FileIdentity:
    """Return which file a descriptor is open on, or a path leads to; a symbolic link is itself. Raises `OSError`."""
    found = os.fstat(file) if isinstance(file, int) else os.lstat(file)
    return FileIdentity(found.st_dev, found.st_ino, _born(file))


def _born(file: int | str) -> int | None:
    if _lib is None:
        return None
    found = _Statx()
    if isinstance(file, int):
        failed = _lib.statx(file, b"", _AT_EMPTY_PATH, _BIRTH, ctypes.byref(found))
    else:
        failed = _lib.statx(_AT_FDCWD, os.fsencode(file), _AT_SYMLINK_NOFOLLOW, _BIRTH, ctypes.byref(found))
    if failed or not found.mask & _BIRTH:
        return None
    born: int = found.born.seconds * 1_000_000_000 + found.born.nanoseconds
    return born
