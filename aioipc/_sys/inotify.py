"""``inotify(7)``: the kernel tells that a file has changed, by a descriptor that a loop can poll. Through ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from aioipc.exceptions import UnsupportedPlatform

from .library import failure

MODIFY, ATTRIB, DELETE_SELF, MOVE_SELF = 0x2, 0x4, 0x400, 0x800
IGNORED = 0x8000  # the watch is gone
OVERFLOW = 0x4000  # events were lost, of any watch

_EVENT = struct.Struct("iIII")  # watch, what happened, cookie, size of the name behind it
_LIMITS = {
    errno.EMFILE: "no more of them: fs.inotify.max_user_instances of this user, or RLIMIT_NOFILE of this process",
    errno.ENOSPC: "this user may watch no more files: fs.inotify.max_user_watches",
}

_libc = ctypes.CDLL(None, use_errno=True)


def open_inotify() -> int:
    """Return a new inotify descriptor, close-on-exec and non-blocking; `OSError` names the limit that was reached."""
    if not hasattr(_libc, "inotify_init1"):
        raise UnsupportedPlatform("this system has no inotify, by which files are followed")
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _explained(failure(), "inotify")
    return fd


def add_watch(fd: int, path: str, mask: int) -> int:
    """Watch what the path leads to, and return the number of the watch; the same file has one only."""
    watch: int = _libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask))
    if watch < 0:
        raise _explained(failure(), path)
    return watch


def remove_watch(fd: int, watch: int) -> None:
    """Watch it no longer; gone already: do nothing."""
    _libc.inotify_rm_watch(fd, watch)


def decode_events(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the watch and the mask of each event in what was read; the watch is -1 for `OVERFLOW`."""
    at = 0
    while at < len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size + size
        yield watch, mask


def _explained(error: OSError, what: str) -> OSError:
    number = error.errno or errno.EIO
    return OSError(number, _LIMITS.get(number, os.strerror(number)), what)
