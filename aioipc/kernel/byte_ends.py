"""What the ends of pipes and sockets have in common: bytes that a descriptor gives or takes.

Each end stands on a `WaitQueue`, and on ``read(2)`` and ``write(2)`` of a descriptor that does not block. Who owns the
descriptor, and what it is, is the business of the classes that are built on these.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from anyio.abc import AsyncResource, ByteReceiveStream, ByteSendStream

from aioipc._loop.guard import Guard
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import BrokenResourceError, EndOfStream

from .buffers import Buffer, check_target, item_size, read_size
from .lines import Lines


class _ByteEnd(AsyncResource):
    _fd: int
    _queue: WaitQueue
    _guard: Guard
    _bytes: int
    _calls: int

    def _count(self, count: int) -> None:
        self._bytes += count
        self._calls += 1


class ByteReceiver(_ByteEnd, ByteReceiveStream):
    """Receives bytes from a descriptor."""

    _others_gone: str  # what to say at the end
    _broken = "the connection is broken"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived, at least one byte and at most ``max_bytes``; wait while there is nothing.

        Raises `EndOfStream` where there is nothing and every copy of the other end is closed (of a socket also where
        that side has sent its end), `BrokenResourceError` where a socket's connection is broken,
        `ClosedResourceError` where this end is or gets closed, `BusyResourceError` where another task is
        receiving, `TypeError` or `ValueError` where ``max_bytes`` is no positive integer.
        Cancelled: nothing was taken. See ``read(2)``.
        """
        size = read_size(max_bytes)
        guard = self._guard  # by hand, as it says itself; counted without a call, too
        if guard.busy:
            guard.refuse()
        guard.busy = True
        try:
            data = await self._queue.take(self._read, self._fd, size)
        except ConnectionResetError as error:
            raise BrokenResourceError(self._broken) from error
        finally:
            guard.busy = False
        if not data:
            raise EndOfStream(self._others_gone)
        self._bytes += len(data)
        self._calls += 1
        return data

    def receive_nowait(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived as `receive` does, or raise `WouldBlock` where there is nothing."""
        size = read_size(max_bytes)
        with self._guard:
            try:
                data = self._queue.take_nowait(self._read, self._fd, size)
            except ConnectionResetError as error:
                raise BrokenResourceError(self._broken) from error
        if not data:
            raise EndOfStream(self._others_gone)
        self._count(len(data))
        return data

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive into the writable ``buffer``, and return how many of its bytes were filled, at least one.

        Raises as `receive` does, `TypeError` where ``buffer`` cannot be written to and `ValueError` where it
        is empty or not contiguous. Cancelled: nothing was taken, the buffer is untouched. See ``readv(2)``.
        """
        check_target(buffer)
        with self._guard:
            try:
                count = await self._queue.take(self._readv, self._fd, [buffer])
            except ConnectionResetError as error:
                raise BrokenResourceError(self._broken) from error
        if not count:
            raise EndOfStream(self._others_gone)
        self._count(count)
        return count

    def lines(self, *, encoding: str = "utf-8", errors: str = "strict", max_line: int | None = 1 << 20) -> Lines:
        """Return an async iterator over the lines of text that the stream brings; see `Lines`.

        Raises `LookupError` for an unknown ``encoding``, `ValueError` for one in which a line does not end
        with the byte 10, `TypeError` or `ValueError` where ``max_line`` is no positive integer of bytes.
        """
        return Lines(self, encoding=encoding, errors=errors, max_line=max_line)

    _read: Callable[[int, int], bytes] = staticmethod(os.read)
    _readv: Callable[[int, list[bytearray | memoryview]], int] = staticmethod(os.readv)


class ByteSender(_ByteEnd, ByteSendStream):
    """Sends bytes to a descriptor."""

    _others_gone: str  # what to say when nobody can receive any more

    async def send(self, item: Buffer) -> None:
        """Send all of ``item``; wait while there is no room.

        Raises `BrokenResourceError` where every copy of the other end is closed (EPIPE), `ClosedResourceError`
        where this end is or gets closed, `BusyResourceError` where another task is sending, `TypeError`
        or `ValueError` where ``item`` is no contiguous bytes-like object.
        Cancelled: a part may have been sent, and ``statistics().bytes_sent`` has counted it; into a pipe nothing of an
        ``item`` of up to ``select.PIPE_BUF`` bytes. See ``write(2)``.
        """
        size = item_size(item)
        guard = self._guard  # by hand, as it says itself; counted without a call, too
        if guard.busy:
            guard.refuse()
        guard.busy = True
        try:
            sent = await self._queue.take(os.write, self._fd, item)
            self._bytes += sent
            self._calls += 1
            if sent < size:
                await self._send_rest(item, sent)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BrokenResourceError(self._others_gone) from error
        finally:
            guard.busy = False

    def send_nowait(self, item: Buffer) -> int:
        """Send what goes at once, and return how many bytes that were, at least one.

        Into a pipe up to ``select.PIPE_BUF`` bytes go all or not at all. Nothing to send: 0.
        Raises `WouldBlock` where there is no room, and as `send` does.
        """
        item_size(item)
        with self._guard:
            try:
                sent = self._queue.take_nowait(os.write, self._fd, item)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise BrokenResourceError(self._others_gone) from error
        self._count(sent)
        return sent

    async def _send_rest(self, item: Buffer, sent: int) -> None:
        with memoryview(item) as view, view.cast("B") as octets:
            while sent < len(octets):
                with octets[sent:] as rest:
                    count = await self._queue.take(os.write, self._fd, rest)
                self._count(count)
                sent += count
