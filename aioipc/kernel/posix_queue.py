"""The POSIX message queue (``mq_overview(7)``): whole messages with priorities, between processes that know a name.

On Linux its descriptor is one that the loop can poll, for messages and for room, so both directions wait without a
thread. The kernel keeps what nobody has received, also while no process has the queue open.

A queue is small: ordinary users get 10 messages of 8 KiB (``fs.mqueue`` in ``proc(5)``). So a sender that waits for
room is the usual state, not the exception.

Rejected: ``mq_notify(3)``, which tells one process of one message into an empty queue and is then used up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import resource
import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc._sys import posix_mq
from aioipc._sys.file_identity import file_identity
from aioipc.exceptions import ClosedResourceError

from .buffers import Buffer, item_size
from .claims import UNFINISHED, Claim
from .names import check_mode, check_posix_name, check_range
from .pipes import above_stdio

_ACCESS = {"both": os.O_RDWR, "receive": os.O_RDONLY, "send": os.O_WRONLY}
_LARGEST = (1 << 31) - 1


class PosixMessage(NamedTuple):
    """A message out of a POSIX queue."""

    body: bytes  #: what was sent, possibly nothing
    priority: int  #: 0 to 32767; the queue gives the highest first, and the oldest of these


@dataclass(frozen=True, slots=True)
class PosixQueueStatistics:
    """A POSIX queue at one moment; ``messages`` is 0 once it is closed."""

    messages: int  #: that wait in the queue
    max_messages: int  #: that it can hold
    max_message_size: int  #: bytes that one message can have
    received: int  #: messages taken out through this object
    sent: int  #: messages put in through this object
    receivers_waiting: int  #: tasks that wait for a message
    senders_waiting: int  #: tasks that wait for room


class PosixMessageQueue(ObjectReceiveStream[PosixMessage], ObjectSendStream[Buffer]):
    """A message queue with a name; `create` or `open` makes the object, ``async with`` or `aclose` ends it.

    ``async for message in queue`` receives for ever: a queue has no end, since somebody may send at any time.
    Any number of tasks may send and receive at once, first come first served. The object belongs to the first event
    loop in which it is used; another loop opens the queue for itself.
    """

    _fd = -1  # for __del__, where __init__ has refused

    def __init__(self, fd: int, name: str, *, access: Literal["both", "receive", "send"], claim: Claim) -> None:
        """Take over a descriptor of the queue; `create` and `open` do that."""
        try:
            attributes = posix_mq.attributes(fd)
            self._receiver = posix_mq.Receiver(attributes.max_message_size)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._access = access
        self._claim = claim
        self._received = 0
        self._sent = 0
        label = f"POSIX queue {name}"
        self._receivers = WaitQueue(DescriptorReadiness(fd, "read"), label)
        self._senders = WaitQueue(DescriptorReadiness(fd, "write"), label)
        self.name: str = name
        self.max_messages: int = attributes.max_messages
        self.max_message_size: int = attributes.max_message_size

    @classmethod
    def create(
        cls,
        name: str,
        *,
        max_messages: int | None = None,
        max_message_size: int | None = None,
        exist_ok: bool = False,
        remove: bool = True,
        mode: int = 0o600,
    ) -> Self:
        """Make a queue and open it both ways, at once (``mq_open(3)``).

        ``name`` is a slash and a word, such as ``"/jobs"``. ``max_messages`` is how many messages it shall hold, and
        ``max_message_size`` how many bytes each, by default what ``/proc/sys/fs/mqueue`` says (10 of 8192).
        ``exist_ok`` opens one that is there already, as it is; nothing is removed then. ``remove`` takes the name
        away when this object is closed. ``mode`` are the permissions, whatever the umask.

        Raises `FileExistsError` where there is one, `OSError` with EINVAL above the limits of ``fs.mqueue``, ENOSPC
        above its number of queues, EMFILE above RLIMIT_MSGQUEUE or without descriptors, `PermissionError`,
        `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        check_posix_name(name)
        check_mode(mode)
        sizes = _sizes(max_messages, max_message_size)
        while True:
            claim = Claim.begin("posix-queue", name, remove=remove)
            try:
                fd = posix_mq.create_queue(name, mode | UNFINISHED, *sizes)
            except OSError as error:
                claim.end(gone=True)
                if not (exist_ok and error.errno == errno.EEXIST):
                    raise _explained(error, name, *sizes) from None
            else:
                return cls._made(fd, name, mode, claim)
            with contextlib.suppress(FileNotFoundError):  # removed since: make it after all
                return cls.open(name)

    @classmethod
    def open(cls, name: str, *, access: Literal["both", "receive", "send"] = "both") -> Self:
        """Open a queue that exists, at once (``mq_open(3)``). Closing never removes it.

        ``access`` says what for: who may only read, or only write, asks for ``"receive"`` or ``"send"``.

        Raises `FileNotFoundError` where there is none, `PermissionError` where its permissions forbid it,
        `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        check_posix_name(name)
        if access not in _ACCESS:
            raise ValueError(f"access must be 'both', 'receive' or 'send', not {access!r}")
        try:
            fd = above_stdio(posix_mq.open_queue(name, _ACCESS[access]))
        except OSError as error:
            raise _explained(error, name) from None
        try:
            claim = Claim.join("posix-queue", name, file=file_identity(fd))
        except BaseException:
            os.close(fd)
            raise
        if not os.fstat(fd).st_nlink:  # a clean-up was at it, for which joining waits
            os.close(fd)
            raise _explained(FileNotFoundError(errno.ENOENT, ""), name)
        return cls(fd, name, access=access, claim=claim)

    @classmethod
    def _made(cls, fd: int, name: str, mode: int, claim: Claim) -> Self:
        """Take over a new queue, or leave nothing of it."""
        try:
            fd = above_stdio(fd)
            claim.complete(file=file_identity(fd))
            os.fchmod(fd, mode)  # the umask may have taken some away
            return cls(fd, name, access="both", claim=claim)
        except BaseException:
            posix_mq.unlink_queue(name)
            claim.end(gone=True)
            raise

    async def receive(self) -> PosixMessage:
        """Return the oldest message of the highest priority; wait while the queue is empty (``mq_receive(3)``).

        Raises `ClosedResourceError` where this object is or gets closed, `io.UnsupportedOperation` where it was
        opened to send only.
        Cancelled: the message, if one has come, is still in the queue.
        """
        return self._take_in(await self._receivers.take(self._receiver.receive, self._readable()))

    def receive_nowait(self) -> PosixMessage:
        """Return a message as `receive` does, or raise `WouldBlock` where there is none."""
        return self._take_in(self._receivers.take_nowait(self._receiver.receive, self._readable()))

    async def send(self, item: Buffer, *, priority: int = 0) -> None:
        """Put a message of any bytes, also none, into the queue; wait while it is full (``mq_send(3)``).

        ``priority`` is 0 to 32767; higher ones are received first. A task that waits for room keeps its turn,
        whatever its priority.

        Raises `ClosedResourceError` where this object is or gets closed, `io.UnsupportedOperation` where it was
        opened to receive only, `TypeError` where ``item`` is no bytes, `ValueError` where it is longer than
        `max_message_size` or for a wrong priority.
        Cancelled: nothing was sent.
        """
        body = self._checked(item, priority)
        await self._senders.take(posix_mq.send, self._writable(), body, priority)
        self._sent += 1

    def send_nowait(self, item: Buffer, *, priority: int = 0) -> None:
        """Send a message as `send` does, or raise `WouldBlock` where there is no room."""
        body = self._checked(item, priority)
        self._senders.take_nowait(posix_mq.send, self._writable(), body, priority)
        self._sent += 1

    def statistics(self) -> PosixQueueStatistics:
        """Return what is in the queue, and what went through this object (``mq_getattr(3)``); when closed too."""
        messages = posix_mq.attributes(self._fd).messages if self._fd >= 0 else 0
        waiting = self._receivers.waiting, self._senders.waiting
        return PosixQueueStatistics(
            messages, self.max_messages, self.max_message_size, self._received, self._sent, *waiting
        )

    def fileno(self) -> int:
        """Return the descriptor, which stays the object's own. Raises `ClosedResourceError` after closing."""
        if self._fd < 0:
            raise ClosedResourceError(f"the POSIX queue {self.name} is closed")
        return self._fd

    def is_removed(self) -> bool:
        """Return True where the name is gone, or leads to another queue, so that nobody can come to this one.

        Whoever has it open can go on. Raises `ClosedResourceError` after closing.
        """
        return os.fstat(self.fileno()).st_nlink == 0

    def remove(self) -> None:
        """Take the name away now (``mq_unlink(3)``), also of a queue that was there before; gone already: do nothing.

        Raises `PermissionError` for somebody else's queue, `ClosedResourceError` after closing.
        """
        if not self.is_removed():
            with contextlib.suppress(FileNotFoundError):
                posix_mq.unlink_queue(self.name)
        self._claim.forget()

    def close(self) -> None:
        """Close the queue at once, and remove it where this object has made it; closed already: do nothing.

        Tasks that wait on the object get `ClosedResourceError`. Messages stay for whoever else has the queue open.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._receivers.close(lambda: self._senders.close(lambda: self._release(fd)))

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = f"fd={self._fd}" if self._fd >= 0 else "closed"
        return f"<PosixMessageQueue {self.name} {state}, {self._received} received, {self._sent} sent>"

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _take_in(self, message: tuple[bytes, int]) -> PosixMessage:
        self._received += 1
        return PosixMessage(*message)

    def _readable(self) -> int:
        if self._access == "send":
            raise io.UnsupportedOperation(f"the POSIX queue {self.name} was opened to send only")
        return self.fileno()

    def _writable(self) -> int:
        if self._access == "receive":
            raise io.UnsupportedOperation(f"the POSIX queue {self.name} was opened to receive only")
        return self.fileno()

    def _checked(self, item: Buffer, priority: int) -> bytes:
        if type(priority) is not int or not 0 <= priority < posix_mq.PRIORITIES:
            check_range("priority", priority, 0, posix_mq.PRIORITIES - 1)
        size = item_size(item)
        if size > self.max_message_size:
            raise ValueError(
                f"the message has {size} bytes, and the POSIX queue {self.name} takes {self.max_message_size} at most "
                "(max_message_size when it is made, /proc/sys/fs/mqueue/msgsize_max)"
            )
        return bytes(item)

    def _release(self, fd: int) -> None:
        gone = False
        try:
            if self._claim.removes and os.fstat(fd).st_nlink:
                with contextlib.suppress(FileNotFoundError):
                    posix_mq.unlink_queue(self.name)
            gone = not os.fstat(fd).st_nlink
        finally:
            self._claim.end(gone=gone)
            os.close(fd)


def _sizes(max_messages: int | None, max_message_size: int | None) -> tuple[int, int]:
    """Return both, the ones not given as the system's defaults."""
    limits = posix_mq.limits()
    if max_messages is None:
        max_messages = limits.get("msg_default", 10)
    if max_message_size is None:
        max_message_size = limits.get("msgsize_default", 8192)
    check_range("max_messages", max_messages, 1, _LARGEST)
    check_range("max_message_size", max_message_size, 1, _LARGEST)
    return max_messages, max_message_size


_HELP = {
    errno.EEXIST: "exists already; exist_ok=True opens it",
    errno.ENOENT: "there is no POSIX queue of this name",
    errno.EACCES: "the permissions of this POSIX queue forbid it",
    errno.ENOSYS: "this kernel has no POSIX queues",
}


def _explained(error: OSError, name: str, max_messages: int = 0, max_message_size: int = 0) -> OSError:
    """Say which limit it was, and what to do."""
    number = error.errno or errno.EIO
    limits = posix_mq.limits()
    text = _HELP.get(number, error.strerror)
    if number == errno.EINVAL and max_messages:
        text = (
            f"a queue of {max_messages} messages of {max_message_size} bytes is above the limits "
            f"/proc/sys/fs/mqueue/msg_max ({limits.get('msg_max', 'unknown')}) and "
            f"msgsize_max ({limits.get('msgsize_max', 'unknown')})"
        )
    elif number == errno.ENOSPC:
        text = f"there are as many POSIX queues as /proc/sys/fs/mqueue/queues_max ({limits.get('queues_max')}) allows"
    elif number == errno.EMFILE:
        text = (
            f"RLIMIT_MSGQUEUE ({limits['RLIMIT_MSGQUEUE']} bytes in all queues of this user) or RLIMIT_NOFILE "
            f"({resource.getrlimit(resource.RLIMIT_NOFILE)[0]} descriptors) is used up"
        )
    return OSError(number, text, name)
