"""The System V message queue (``sysvipc(7)``): whole messages with a type, kept by the kernel until they are received.

It has no descriptor, so the loop cannot poll it. A receiver tries first. Where it has to wait, a thread waits in a
``msgrcv(2)`` for messages of no size, which the kernel answers as soon as there is a message, with the error that it
is too long (E2BIG), and keeps the message. Then the receiver takes it, with a call that does not wait. Tasks that
want the same types share a thread.

A message without a body is the exception: the thread does get it. It goes to the first task that waits for its type,
or, where that was cancelled meanwhile, back to the end of the queue.

Nothing reports room in a full queue. A sender tries again, after 1 ms at first and 20 ms at last.

Rejected: receiving in a thread, where a cancelled receiver loses the message; polling for messages.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple, Self

from anyio.abc import ObjectReceiveStream, ObjectSendStream

from aioipc._loop.back_off import BackOffReadiness
from aioipc._loop.object_readiness import ObjectReadiness
from aioipc._sys import sysv, sysv_messages
from aioipc._sys.sysv_messages import MSG_COPY, MSG_EXCEPT
from aioipc.exceptions import UnsupportedPlatform, WouldBlock

from .buffers import Buffer, item_size
from .claims import Claim
from .names import check_range
from .sysv_keys import check_key
from .sysv_object import Place, Places, SysVObject

_KIND, _LIMIT = "System V message queue", "kernel.msgmni"
_LONG_MAX = (1 << 63) - 1
_MOST_BYTES = (1 << 31) - 1  # msgctl(2) takes more and cuts it off: 1 << 40 would be 0


class SysVMessage(NamedTuple):
    """A message out of a System V queue."""

    body: bytes  #: what was sent, possibly nothing
    type: int  #: what the sender has given it, 1 or more


@dataclass(frozen=True, slots=True)
class SysVQueueStatistics:
    """A System V queue at one moment. Times are seconds since the epoch; they and pids are 0 for never and none."""

    messages: int  #: that wait in the queue
    bytes: int  #: that they have
    max_bytes: int  #: that they may have; there may be as many messages, too
    last_sender: int  #: pid
    last_receiver: int  #: pid; a receiver that only waits does not count
    last_send: int
    last_receive: int
    last_change: int  #: of owner, permissions, or ``max_bytes``
    owner: int  #: uid
    group: int  #: gid
    mode: int  #: the permissions
    receivers_waiting: int  #: tasks of this object
    senders_waiting: int  #: tasks of this object


class _Pattern(NamedTuple):
    """Which messages: a type as ``msgrcv(2)`` has it, and MSG_EXCEPT or nothing."""

    type: int
    flags: int


class _Messages:
    """The probe for messages of a pattern; it keeps what it could not help taking for those who wait for these."""

    __slots__ = ("_id", "pattern", "taken", "users")

    def __init__(self, id: int, pattern: _Pattern) -> None:
        self._id = id
        self.pattern = pattern
        self.users = 0  # tasks that want messages of this pattern
        self.taken: list[int] = []  # the types of messages without a body

    def ask(self, block: bool) -> int | None:
        return sysv_messages.wait(self._id, *self.pattern, block=block)

    def keep(self, taken: int) -> None:
        self.taken.append(taken)
        self.give_back_unwanted()

    def give_back_unwanted(self) -> None:
        while self.taken and not self.users:
            # Where the queue is full of messages (as many as it holds bytes), or gone, it is lost.
            with contextlib.suppress(OSError):
                sysv_messages.send(self._id, self.taken.pop(0), b"")


class SysVMessageQueue(SysVObject, ObjectReceiveStream[SysVMessage], ObjectSendStream[Buffer]):
    """A System V message queue; `create` or `open` makes the object, ``async with`` or `aclose` ends it.

    ``async for message in queue`` receives for ever: a queue has no end, since somebody may send at any time.
    Any number of tasks may send and receive at once, first come first served among those that want the same types.
    The object belongs to the first event loop in which a task waits; another loop opens the queue for itself.

    ``id`` is what the kernel calls the queue (``ipcs -q``), ``key`` what programs find it by; ``None``: private.
    """

    _kind = _KIND
    _record_kind = "sysv-queue"

    def __init__(self, id: int, key: int | None, claim: Claim) -> None:
        """Take a queue that exists; `create` and `open` do that."""
        super().__init__(id, key, claim)
        name = self._name

        def make(pattern: Hashable) -> Place[ObjectReadiness]:
            assert isinstance(pattern, _Pattern)
            return Place(ObjectReadiness(_Messages(id, pattern)), name)

        self._receivers = Places(make)
        self._senders = Place(BackOffReadiness(), name)
        self._room = sysv_messages.Room()

    @classmethod
    def create(
        cls,
        key: int | None = None,
        *,
        exist_ok: bool = False,
        remove: bool = True,
        mode: int = 0o600,
        max_bytes: int | None = None,
    ) -> Self:
        """Make a queue, at once (``msgget(2)``), and open it.

        ``key`` is for others to find it by, from `ftok` or agreed upon; without one the queue is private to those
        who learn its id. ``exist_ok`` opens one that is there already, as it is; nothing is removed then. ``remove``
        takes the queue away when this object is closed. ``mode`` are the permissions. ``max_bytes`` is how many bytes
        the messages in it may have together, by default what the kernel gives (kernel.msgmnb).

        Raises `FileExistsError` where there is one, `PermissionError` where its permissions forbid it or
        ``max_bytes`` is above kernel.msgmnb, `OSError` with ENOSPC where there are as many queues as there may be
        (kernel.msgmni), `UnsupportedPlatform`, `TypeError` or `ValueError` for wrong arguments.
        """
        key = None if key is None else check_key(key)
        check_range("mode", mode, 0, 0o777)
        if max_bytes is not None:
            check_range("max_bytes", max_bytes, 1, _MOST_BYTES)
        id, claim, made = cls._make_or_find(sysv_messages.get, _LIMIT, key, mode, exist_ok, remove)
        queue = cls(id, key, claim)
        if made and max_bytes is not None:
            try:
                queue.set_max_bytes(max_bytes)
            except BaseException:
                queue.remove()
                queue.close()
                raise
        return queue

    @classmethod
    def open(cls, key: int | None = None, *, id: int | None = None) -> Self:
        """Open a queue that exists, by its ``key`` or its ``id``, at once. Closing never removes it.

        Permissions count when it is used. Raises `FileNotFoundError` where there is none, `UnsupportedPlatform`,
        `TypeError` or `ValueError` for wrong arguments, and where both or none of them are given.
        """
        if (key is None) == (id is None):
            raise ValueError("a queue is opened by its key or by its id: give one of them")
        if key is not None:
            key = check_key(key)
            number, claim = cls._find(sysv_messages.get, key)
            return cls(number, key, claim)
        sysv.check_platform()
        number = check_range("id", id, 0, (1 << 31) - 1)
        try:
            found: int | None = sysv_messages.status(number).owner.key
        except PermissionError:
            found = None
        except OSError as error:
            raise FileNotFoundError(errno.ENOENT, f"there is no {_KIND} with the id {number}") from error
        return cls(number, found or None, cls._join(number, found))

    async def send(self, item: Buffer, *, type: int = 1) -> None:
        """Put a message in; wait while the queue is full (``msgsnd(2)``).

        ``item`` may have no bytes. ``type``, 1 or more, is what receivers choose by.

        Raises `OSError` with EMSGSIZE where it is longer than a message may be (kernel.msgmax) or than the queue
        holds, `ObjectRemovedError` where the queue is or gets removed, `ClosedResourceError` where this object is or
        gets closed, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
        Cancelled: it was not sent.
        """
        _check_sent(item, type)
        await self._take(self._senders, self._put, item, type)

    def send_nowait(self, item: Buffer, *, type: int = 1) -> None:
        """Put a message in, or raise `WouldBlock` where the queue is full or tasks wait for room; else as `send`."""
        _check_sent(item, type)
        self._check_open()
        self._take_nowait(self._senders, self._put, item, type)

    async def receive(
        self, type: int = 0, *, except_type: int | None = None, max_size: int | None = None
    ) -> SysVMessage:
        """Take the first message that fits; wait until there is one (``msgrcv(2)``).

        ``type``: 0 for any, ``n`` for exactly that one, ``-n`` for the lowest one up to ``n``; ``except_type=n`` for
        any but that one. ``max_size`` is how many bytes you take, by default any number.

        Raises `OSError` with E2BIG where the message is longer than that; it stays in the queue.
        `ObjectRemovedError` where the queue is or gets removed, `ClosedResourceError` where this object is or gets
        closed, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
        Cancelled: nothing was taken.
        """
        return (await self.receive_many(1, type, except_type=except_type, max_size=max_size))[0]

    def receive_nowait(
        self, type: int = 0, *, except_type: int | None = None, max_size: int | None = None
    ) -> SysVMessage:
        """Take the first message that fits, or raise `WouldBlock` where there is none; else as `receive`.

        It also raises `WouldBlock` where tasks wait for messages of this type: they come first.
        """
        return self.receive_many_nowait(1, type, except_type=except_type, max_size=max_size)[0]

    async def receive_many(
        self, max_messages: int = 64, type: int = 0, *, except_type: int | None = None, max_size: int | None = None
    ) -> list[SysVMessage]:
        """Wait until there is a message that fits, then take all there are, at most ``max_messages``.

        Arguments and errors are those of `receive`. Where the second message or a later one is too long, the ones
        before it are returned. Cancelled: nothing was taken.
        """
        place = self._receiving_place(type, except_type, max_size)
        check_range("max_messages", max_messages, 1, _LONG_MAX)
        probe = _probe(place)
        probe.users += 1
        try:
            found = await self._take(place, self._get, probe, max_messages, max_size)
        finally:
            probe.users -= 1
            if probe.taken:
                probe.give_back_unwanted()
        self._senders.readiness.nudge()  # there is room
        return found

    def receive_many_nowait(
        self, max_messages: int = 64, type: int = 0, *, except_type: int | None = None, max_size: int | None = None
    ) -> list[SysVMessage]:
        """Take all messages that fit, at most ``max_messages``, or raise `WouldBlock` where there is none."""
        place = self._receiving_place(type, except_type, max_size)
        check_range("max_messages", max_messages, 1, _LONG_MAX)
        found = self._take_nowait(place, self._get, _probe(place), max_messages, max_size)
        if self._in_loop():
            self._senders.readiness.nudge()
        return found

    def peek(self, index: int = 0) -> SysVMessage:
        """Return a copy of a message, which stays in the queue: the first one, or that at ``index``.

        Raises `WouldBlock` where there are not so many, `UnsupportedPlatform` where the kernel is built without
        MSG_COPY (CONFIG_CHECKPOINT_RESTORE), and else as `receive`.
        """
        check_range("index", index, 0, _LONG_MAX)
        self._check_open()
        try:
            return SysVMessage(*self._room.receive(self.id, index, MSG_COPY))
        except BlockingIOError:
            raise WouldBlock(f"the {self._name} has no message at {index}") from None
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise UnsupportedPlatform("this kernel cannot copy messages (CONFIG_CHECKPOINT_RESTORE)") from None
            raise self._explained(error) from None

    def statistics(self) -> SysVQueueStatistics:
        """Return what the kernel knows of the queue (``msgctl(2)``), and how many tasks of this object wait.

        Raises `ClosedResourceError`, `ObjectRemovedError`, `PermissionError` without the permission to read.
        """
        self._check_open()
        try:
            found = sysv_messages.status(self.id)
        except OSError as error:
            raise self._explained(error) from None
        return SysVQueueStatistics(
            found.messages,
            found.bytes,
            found.max_bytes,
            found.last_sender,
            found.last_receiver,
            found.last_send,
            found.last_receive,
            found.last_change,
            found.owner.uid,
            found.owner.gid,
            found.owner.mode,
            self._receivers.waiting(),
            self._senders.queue.waiting,
        )

    def set_max_bytes(self, max_bytes: int) -> None:
        """Set how many bytes the messages in the queue may have together (``msgctl(2)`` IPC_SET).

        What is in it stays. Raises `PermissionError` where you are not the owner, and where ``max_bytes`` is above
        kernel.msgmnb and you may not exceed limits (CAP_SYS_RESOURCE); `ClosedResourceError`, `ObjectRemovedError`,
        `TypeError`, `ValueError`.
        """
        check_range("max_bytes", max_bytes, 1, _MOST_BYTES)
        self._check_open()
        try:
            sysv_messages.set_max_bytes(self.id, max_bytes)
        except OSError as error:
            limit = sysv.sysctl("msgmnb")
            if error.errno == errno.EPERM and limit is not None and max_bytes > limit:
                text = f"{self._name}: {max_bytes} bytes are more than kernel.msgmnb allows ({limit})"
                raise PermissionError(errno.EPERM, text) from None
            raise self._explained(error) from None
        self._claim.note_change(self._ctime(self.id))
        if self._in_loop():
            self._senders.readiness.nudge()

    def _receiving_place(self, type: int, except_type: int | None, max_size: int | None) -> Place[ObjectReadiness]:
        self._check_open()
        if except_type is not None:
            if type != 0:
                raise ValueError("type and except_type exclude each other")
            pattern = _Pattern(check_range("except_type", except_type, 1, _LONG_MAX), MSG_EXCEPT)
        else:
            pattern = _Pattern(check_range("type", type, -_LONG_MAX, _LONG_MAX), 0)
        if max_size is not None:
            check_range("max_size", max_size, 0, _LONG_MAX)
        return self._receivers.get(pattern)

    def _put(self, item: Buffer, type: int) -> None:
        """Send without waiting; `BlockingIOError` where that may succeed later."""
        try:
            sysv_messages.send(self.id, type, item)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINVAL):
                self._check_size(item_size(item))
            raise

    def _check_size(self, size: int) -> None:
        limit = sysv.sysctl("msgmax")
        if limit is not None and size > limit:
            raise OSError(errno.EMSGSIZE, f"a message of {size} bytes is longer than kernel.msgmax allows ({limit})")
        try:
            limit = sysv_messages.status(self.id).max_bytes
        except OSError:  # no permission to look, or it is gone
            return
        if size > limit:
            text = f"a message of {size} bytes can never go in: the queue holds {limit} (max_bytes, kernel.msgmnb)"
            raise OSError(errno.EMSGSIZE, text)

    def _get(self, probe: _Messages, max_messages: int, max_size: int | None) -> list[SysVMessage]:
        """Receive without waiting; `BlockingIOError` where there is nothing."""
        found: list[SysVMessage] = []
        try:
            while len(found) < max_messages:
                if probe.taken:
                    found.append(SysVMessage(b"", probe.taken.pop(0)))
                else:
                    body, type = self._room.receive(self.id, *probe.pattern, max_size)
                    found.append(SysVMessage(body, type))
        except OSError as error:
            if found:
                return found
            if error.errno == errno.E2BIG:
                text = f"the message is longer than max_size={max_size} bytes; it stays in the queue"
                raise OSError(errno.E2BIG, text) from None
            raise
        return found

    def _remove(self) -> None:
        sysv_messages.remove(self.id)

    @staticmethod
    def _look(id: int) -> int:
        return sysv_messages.status(id).last_change

    @staticmethod
    def _set_mode(id: int, mode: int) -> None:
        sysv_messages.set_mode(id, mode)

    def _close_places(self) -> None:
        self._receivers.close()
        self._senders.queue.close(lambda: None)


def _probe(place: Place[ObjectReadiness]) -> _Messages:
    probe = place.readiness.probe
    assert isinstance(probe, _Messages)
    return probe


def _check_sent(item: Buffer, type: int) -> None:
    item_size(item)
    check_range("type", type, 1, _LONG_MAX)
