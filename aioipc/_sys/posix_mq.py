"""POSIX message queues by ctypes (``mq_overview(7)``), which Python does not offer.

On Linux a queue's descriptor is a file descriptor: close-on-exec, and ``epoll(7)`` reports when there is a
message and when there is room. All calls here are of the kind that does not block.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import NamedTuple

from aioipc.exceptions import UnsupportedPlatform

from .leases import open_past_leases
from .library import failure, library_with

PRIORITIES = 32768  # MQ_PRIO_MAX of Linux


class _Attr(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_long),
        ("maxmsg", ctypes.c_long),
        ("msgsize", ctypes.c_long),
        ("curmsgs", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    )


class Attributes(NamedTuple):
    """What ``mq_getattr(3)`` tells."""

    max_messages: int
    max_message_size: int
    messages: int


_lib = library_with("mq_open", "librt.so.1")
if _lib is not None:
    _mq_getattr = _lib.mq_getattr
    _mq_getattr.argtypes = [ctypes.c_int, ctypes.POINTER(_Attr)]
    _mq_send = _lib.mq_send
    _mq_send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint]
    _mq_receive = _lib.mq_receive
    _mq_receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    _mq_receive.restype = ctypes.c_ssize_t


def open_queue(name: str, access: int) -> int:
    """Open the queue of that name; ``access`` is O_RDONLY, O_WRONLY or O_RDWR. Raises as ``mq_open(3)``."""
    path, flags = os.fsencode(name), access | os.O_NONBLOCK
    return open_past_leases(lambda: _opened(_library().mq_open(path, flags)))


def create_queue(name: str, mode: int, max_messages: int, max_message_size: int) -> int:
    """Make a queue, and open it both ways; `FileExistsError` where there is one. Raises as ``mq_open(3)``."""
    attr = _Attr(maxmsg=max_messages, msgsize=max_message_size)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NONBLOCK
    path = os.fsencode(name)
    return open_past_leases(lambda: _opened(_library().mq_open(path, flags, ctypes.c_uint(mode), ctypes.byref(attr))))


def unlink_queue(name: str) -> None:
    """Take the name away; who has the queue open keeps it. Raises as ``mq_unlink(3)``."""
    if _library().mq_unlink(os.fsencode(name)):
        raise failure()


def attributes(fd: int) -> Attributes:
    """Return the queue's size and how many messages are in it."""
    attr = _Attr()
    if _mq_getattr(fd, attr):
        raise failure()
    return Attributes(attr.maxmsg, attr.msgsize, attr.curmsgs)


def send(fd: int, body: bytes, priority: int) -> None:
    """Put a message into the queue; `BlockingIOError` where it is full."""
    if _mq_send(fd, body, len(body), priority):
        raise failure()


class Receiver:
    """Takes messages out of a queue, with a buffer that holds the largest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._buffer = ctypes.create_string_buffer(size)
        self._view = memoryview(self._buffer).cast("B")
        self._address = ctypes.addressof(self._buffer)
        self._priority = ctypes.c_uint()
        self._priority_address = ctypes.addressof(self._priority)

    def receive(self, fd: int) -> tuple[bytes, int]:
        """Return the oldest message of the highest priority, and that; `BlockingIOError` where there is none."""
        size = _mq_receive(fd, self._address, self._size, self._priority_address)
        if size < 0:
            raise failure()
        return self._view[:size].tobytes(), self._priority.value


def limits() -> dict[str, int]:
    """Return the limits of ``/proc/sys/fs/mqueue`` and RLIMIT_MSGQUEUE (bytes), as far as they can be read."""
    found = {}
    for name in ("msg_max", "msgsize_max", "queues_max", "msg_default", "msgsize_default"):
        try:
            found[name] = int(Path("/proc/sys/fs/mqueue", name).read_text())
        except (OSError, ValueError):
            pass
    number = getattr(resource, "RLIMIT_MSGQUEUE", 12)
    found["RLIMIT_MSGQUEUE"] = resource.getrlimit(number)[0]
    return found


def _library() -> ctypes.CDLL:
    if _lib is None:
        raise UnsupportedPlatform("this system has no POSIX message queues (no mq_open in its C library)")
    return _lib


def _opened(fd: int) -> int:
    if fd < 0:
        raise failure()
    return fd
