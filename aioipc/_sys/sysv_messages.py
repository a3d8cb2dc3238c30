"""System V message queues as the kernel has them: ``msgget(2)``, ``msgop(2)``, ``msgctl(2)``.

Arguments are checked by the callers; each function raises `OSError` with the errno of its call, `BlockingIOError`
where a call would have to wait (EAGAIN, ENOMSG), and `InterruptedError` (EINTR) where it waits.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

from . import sysv
from .sysv import IPC_NOWAIT, Ownership, Permissions

MSG_EXCEPT = 0o20000
MSG_COPY = 0o40000

_TYPE = struct.Struct("l")
_FIRST_ROOM = 8192  # bytes: the kernel's default for the longest message


class _Status(ctypes.Structure):
    """``struct msqid_ds`` of 64-bit machines."""

    _fields_ = (
        ("permissions", Permissions),
        ("sent", ctypes.c_long),
        ("received", ctypes.c_long),
        ("changed", ctypes.c_long),
        ("bytes", ctypes.c_ulong),
        ("messages", ctypes.c_ulong),
        ("max_bytes", ctypes.c_ulong),
        ("sender", ctypes.c_int),
        ("receiver", ctypes.c_int),
        ("unused", ctypes.c_ulong * 2),
    )


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What ``msgctl(2)`` IPC_STAT tells; times are seconds since the epoch, 0 for never."""

    owner: Ownership
    messages: int
    bytes: int
    max_bytes: int
    last_sender: int
    last_receiver: int
    last_send: int
    last_receive: int
    last_change: int


_get = sysv.nonblocking["msgget"]
_get.argtypes = (ctypes.c_int, ctypes.c_int)
_send = sysv.nonblocking["msgsnd"]
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_receive = sysv.nonblocking["msgrcv"]
_wait = sysv.blocking["msgrcv"]
for _function in (_receive, _wait):
    _function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int)
    _function.restype = ctypes.c_ssize_t
_control = sysv.nonblocking["msgctl"]
_control.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Status))


def get(key: int, flags: int) -> int:
    """Make or find a queue, and return its id."""
    sysv.check_platform()
    found: int = _get(key, flags)
    if found < 0:
        raise sysv.failure()
    return found


def send(queue: int, kind: int, body: bytes | bytearray | memoryview) -> None:
    """Put in a message of a type, if there is room."""
    if _send(queue, b"".join((_TYPE.pack(kind), body)), memoryview(body).nbytes, IPC_NOWAIT):
        raise sysv.failure()


class Room:
    """The memory into which one thread receives; it grows with the messages."""

    __slots__ = ("_buffer", "_size")

    def __init__(self) -> None:
        self._grow(_FIRST_ROOM)

    def receive(self, queue: int, kind: int, flags: int = 0, limit: int | None = None) -> tuple[bytes, int]:
        """Take the first message that fits ``kind`` and ``flags``; return its body and its type.

        One of more than ``limit`` bytes stays in the queue: `OSError` with E2BIG.
        """
        while True:
            size = self._size if limit is None or limit > self._size else limit
            count = _receive(queue, self._buffer, size, kind, flags | IPC_NOWAIT)
            if count >= 0:
                body: bytes = self._buffer[_TYPE.size : _TYPE.size + count]  # type: ignore[assignment]
                return body, _TYPE.unpack_from(self._buffer)[0]
            error = sysv.failure()
            if error.errno != errno.E2BIG or size == limit:
                raise error
            self._grow(max(2 * size, status(queue).bytes))

    def _grow(self, size: int) -> None:
        self._size = size
        self._buffer = ctypes.create_string_buffer(_TYPE.size + size)


def wait(queue: int, kind: int, flags: int, *, block: bool = True) -> int | None:
    """Wait until there is such a message, and leave it where it is.

    A call that takes messages of 0 bytes at most finds any other too long, and says so (E2BIG). A message of 0 bytes
    it does take; then its type is returned, and else ``None``.
    """
    kind_of_taken = ctypes.c_long()
    call, flags = (_wait, flags) if block else (_receive, flags | IPC_NOWAIT)
    if call(queue, ctypes.byref(kind_of_taken), 0, kind, flags) >= 0:
        return kind_of_taken.value
    if ctypes.get_errno() == errno.E2BIG:
        return None
    raise sysv.failure()


def status(queue: int) -> QueueStatus:
    """Look at a queue; that needs the permission to read."""
    raw = _status(queue)
    return QueueStatus(
        sysv.ownership(raw.permissions),
        raw.messages,
        raw.bytes,
        raw.max_bytes,
        raw.sender,
        raw.receiver,
        raw.sent,
        raw.received,
        raw.changed,
    )


def set_max_bytes(queue: int, count: int) -> None:
    """Set how many bytes a queue holds; owner and permissions stay."""
    raw = _status(queue)
    raw.max_bytes = count
    if _control(queue, sysv.IPC_SET, ctypes.byref(raw)):
        raise sysv.failure()


def set_mode(queue: int, mode: int) -> None:
    """Set the permissions of a queue."""
    raw = _status(queue)
    raw.permissions.mode = mode
    if _control(queue, sysv.IPC_SET, ctypes.byref(raw)):
        raise sysv.failure()


def remove(queue: int) -> None:
    """Remove a queue with all that is in it."""
    if _control(queue, sysv.IPC_RMID, None):
        raise sysv.failure()


def _status(queue: int) -> _Status:
    raw = _Status()
    if _control(queue, sysv.IPC_STAT, ctypes.byref(raw)):
        raise sysv.failure()
    return raw
