"""The anonymous pipe (``pipe(7)``): bytes one way, between tasks or processes.

Both ends are non-blocking descriptors on the event loop; no thread, and no buffer but the kernel's own: what
nobody has asked for stays in the pipe, where another process may still read it. How a task waits, and what
its cancellation does, is the business of `aioipc._loop.wait_queue`.

Descriptors 0, 1 and 2 are never made non-blocking: they were inherited, and the flag belongs to the open file
that the parent shares, so its next ``print`` could fail. A new pipe that would get one of these numbers
(a daemon has closed them) is moved up, so that nobody's error message ends in a pipe.

Python ignores SIGPIPE, so a pipe without a reader is the error EPIPE and no signal.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import struct
import sys
import termios
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from anyio import TypedAttributeProvider, TypedAttributeSet, typed_attribute
from anyio.abc import AsyncResource

from aioipc._loop.guard import Guard
from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import ClosedResourceError

from .buffers import check_positive
from .byte_ends import ByteReceiver, ByteSender
from .free_descriptors import naming_the_limit


class PipeAttribute(TypedAttributeSet):
    """What ``stream.extra(…)`` can tell about a pipe, through any stream wrapped around it."""

    fileno: int = typed_attribute()  #: the descriptor; the stream still owns it
    capacity: int = typed_attribute()  #: bytes the pipe can hold, 0 where the system does not say


@dataclass(frozen=True, slots=True)
class PipeReceiveStatistics:
    """The read end of a pipe at one moment; ``buffered`` and ``capacity`` are 0 once it is closed."""

    bytes_received: int  #: taken out of the pipe through this stream
    receives: int  #: reads that brought some
    buffered: int  #: bytes that wait in the pipe (``FIONREAD``)
    capacity: int  #: bytes the pipe can hold (``F_GETPIPE_SZ``), 0 where the system does not say


@dataclass(frozen=True, slots=True)
class PipeSendStatistics:
    """The write end of a pipe at one moment; ``buffered`` and ``capacity`` are 0 once it is closed."""

    bytes_sent: int  #: put into the pipe through this stream, also by a `send` cancelled half-way
    sends: int  #: writes made; one large `send` makes several
    buffered: int  #: bytes that wait in the pipe (``FIONREAD``)
    capacity: int  #: bytes the pipe can hold (``F_GETPIPE_SZ``), 0 where the system does not say


class PipeEnd(AsyncResource, TypedAttributeProvider):
    """One end: it owns its descriptor, which is -1 from the moment of closing on."""

    _fd = -1  # for __del__, where __init__ has refused
    _kind = "pipe"
    _others_gone: str  # what to say when the other end is gone

    def __init__(self, fd: int, direction: Literal["read", "write"]) -> None:
        _check_descriptor(fd, direction)
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        self._fd = fd
        self._name = f"{self._kind}'s {direction} end"
        self._queue = WaitQueue(DescriptorReadiness(fd, direction), self._name)
        self._bytes = 0
        self._calls = 0

    def fileno(self) -> int:
        """Return the descriptor, which stays the stream's own and is non-blocking.

        Raises `ClosedResourceError` after closing.
        To give this end to a child process use `detach`: most programs do not expect a non-blocking one.
        """
        self._check_open()
        return self._fd

    def detach(self) -> int:
        """Close the stream but not its descriptor, and return that, in blocking mode (``fcntl(2)``).

        It is the caller's to close: pass it as ``stdin=`` or ``stdout=`` of a child process and close it
        right after the start, since a reader sees the end only when *every* copy of the write end is closed.
        Tasks that wait on the stream get `ClosedResourceError`. Raises that itself after closing.
        """
        self._check_open()
        fd, self._fd = self._fd, -1
        self._queue.close(lambda: os.set_blocking(fd, True))
        return fd

    def close(self) -> None:
        """Close the end at once (``close(2)``); closed already: do nothing.

        Tasks that wait on it get `ClosedResourceError`. What is in the pipe stays there for its readers.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._queue.close(lambda: self._release(fd))

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Every `PipeAttribute`; `ClosedResourceError` comes of asking for one after closing."""
        return {PipeAttribute.fileno: self.fileno, PipeAttribute.capacity: lambda: _capacity(self.fileno())}

    def __repr__(self) -> str:
        state = f"fd={self._fd}" if self._fd >= 0 else "closed"
        return f"<{type(self).__name__} {state}, {self._bytes} bytes in {self._calls} calls>"

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _release(self, fd: int) -> None:
        os.close(fd)

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ClosedResourceError(f"the {self._name} is closed")


class PipeReceiveStream(PipeEnd, ByteReceiver):
    """The read end of a pipe, as a byte stream; ``async for chunk in stream`` reads it to its end.

    ``fd`` is the read end of a pipe or a FIFO, which the stream owns from then on: it becomes close-on-exec
    and non-blocking (which every process notices that shares this open file).
    Raises `TypeError`, or `ValueError` for 0 to 2, for no pipe and for a write end.

    One task at a time may receive; a second one gets `BusyResourceError`.
    """

    _others_gone = "every copy of the pipe's write end is closed"

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "read")
        self._guard = Guard("receiving from")

    def statistics(self) -> PipeReceiveStatistics:
        """Return how much was received, and what the pipe holds and can hold; works when closed too."""
        return PipeReceiveStatistics(self._bytes, self._calls, _buffered(self._fd), _capacity(self._fd))


class PipeSendStream(PipeEnd, ByteSender):
    """The write end of a pipe, as a byte stream.

    ``fd`` is the write end of a pipe or a FIFO, which the stream owns from then on: it becomes close-on-exec
    and non-blocking (which every process notices that shares this open file).
    Raises `TypeError`, or `ValueError` for 0 to 2, for no pipe and for a read end.

    One task at a time may send; a second one gets `BusyResourceError`. Several *processes* may write to one
    pipe: what they send in calls of up to ``select.PIPE_BUF`` bytes (4096 on Linux) is never mixed.
    """

    _others_gone = "every copy of the pipe's read end is closed"

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "write")
        self._guard = Guard("sending to")

    def statistics(self) -> PipeSendStatistics:
        """Return how much was sent, and what the pipe holds and can hold; works when closed too."""
        return PipeSendStatistics(self._bytes, self._calls, _buffered(self._fd), _capacity(self._fd))


def create_pipe(capacity: int | None = None) -> tuple[PipeReceiveStream, PipeSendStream]:
    """Make a pipe (``pipe2(2)``, close-on-exec and non-blocking) and return its read and its write end.

    ``capacity`` is how many bytes it shall hold at least (``F_SETPIPE_SZ``; the kernel rounds up to a power
    of two of pages), by default what the kernel gives, on Linux 65,536. The streams need no event loop before
    their first use and belong to that one from then on.

    Raises `TypeError` or `ValueError` where ``capacity`` is no positive integer below 2**31,
    `PermissionError` above ``/proc/sys/fs/pipe-max-size`` or the user's share of pipe memory, `OSError`
    without free descriptors (EMFILE, ENFILE), or where the system cannot set a capacity (ENOTSUP).
    """
    if capacity is not None:
        check_positive("capacity", capacity)
        if capacity >= 1 << 31:
            raise ValueError(f"capacity must be below 2**31 bytes, not {capacity}")
    read_fd, write_fd = open_pipe()
    try:
        if capacity is not None:
            _set_capacity(write_fd, capacity)
    except BaseException:
        os.close(read_fd)
        os.close(write_fd)
        raise
    return PipeReceiveStream(read_fd), PipeSendStream(write_fd)


def open_pipe() -> tuple[int, int]:
    """Make a pipe (close-on-exec, blocking) whose descriptors are above 2, and return its two ends."""
    with naming_the_limit("a pipe"):
        read_fd, write_fd = os.pipe()
    try:
        read_fd = above_stdio(read_fd)
    except BaseException:
        os.close(write_fd)
        raise
    try:
        return read_fd, above_stdio(write_fd)
    except BaseException:
        os.close(read_fd)
        raise


def above_stdio(fd: int) -> int:
    """Move a descriptor that has the number of a standard stream up; return it, close-on-exec.

    Raises `OSError` without free descriptors; it is closed then.
    """
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _set_capacity(fd: int, capacity: int) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "this system has no call that sets the capacity of a pipe")
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, capacity)
    except OSError as error:
        text = (
            f"the kernel refuses a pipe of {capacity} bytes ({error.strerror}); the limits are "
            "/proc/sys/fs/pipe-max-size per pipe and /proc/sys/fs/pipe-user-pages-soft per user"
        )
        raise OSError(error.errno, text) from error  # OSError picks PermissionError and the like by errno


def _capacity(fd: int) -> int:
    if fd < 0 or sys.platform != "linux":
        return 0
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def _buffered(fd: int) -> int:
    if fd < 0:
        return 0
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)


def _check_descriptor(fd: object, direction: str) -> None:
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"fd must be an int, not {type(fd).__name__}")
    if fd < 3:
        raise ValueError(f"fd must be 3 or more, not {fd}: 0 to 2 are shared with other processes")
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        raise ValueError(f"descriptor {fd} is not a pipe")
    wrong = os.O_WRONLY if direction == "read" else os.O_RDONLY
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == wrong:
        raise ValueError(f"descriptor {fd} is not the {direction} end of a pipe")
