"""How ``aioipc recv`` gets messages out of each kind of object: open it, take, give back, close it."""

from __future__ import annotations

import asyncio
import stat
from abc import ABC, abstractmethod
from collections import deque
from typing import Literal

import aioipc

from .address import Address
from .failure import CommandError
from .messages import Message, in_order_of_taking
from .senders import A_MOMENT, connect, path_kind
from .standard_streams import CHUNK, LARGEST

ListenKind = Literal["stream", "packets", "datagram"]


class EndOfInput(Exception):
    """No more can come."""


class Receiver(ABC):
    """An object that gives messages. ``nothing`` is what to say where it has none."""

    nothing = "no message"
    is_queue = False  # it has messages, or has none, at this moment

    @abstractmethod
    async def receive(self) -> Message:
        """Take the next message; wait for one. `EndOfInput` where none can come. Cancelled: nothing was taken."""

    async def receive_now(self) -> Message:
        """Take the next message, or raise `TimeoutError` or `WouldBlock` where there is none."""
        async with asyncio.timeout(A_MOMENT):
            return await self.receive()

    async def give_back(self, message: Message) -> None:
        """Put a message back, at the end; where there is no way back, do nothing."""
        return

    def peek(self) -> list[Message]:
        """Copies of all messages that fit, which stay."""
        raise CommandError("--peek is for System V queues: nothing else can be looked at without taking it")

    def leftover(self) -> list[Message]:
        """What was taken and not given out: lines, of which the last may be unfinished."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class _SysVReceiver(Receiver):
    """Out of a System V queue."""

    is_queue = True

    def __init__(self, address: Address, type: int, except_type: int | None) -> None:
        self._queue = aioipc.SysVMessageQueue.open(address.key, id=address.id)
        self._type, self._except = type, except_type
        if type or except_type is not None:
            self.nothing = "no message of that type"

    async def receive(self) -> Message:
        return Message(*await self._queue.receive(self._type, except_type=self._except))

    async def receive_now(self) -> Message:
        await asyncio.sleep(0)
        return Message(*self._queue.receive_nowait(self._type, except_type=self._except))

    async def give_back(self, message: Message) -> None:
        await self._queue.send(message.body, type=message.type or 1)

    def peek(self) -> list[Message]:
        found: list[Message] = []
        try:
            while True:
                found.append(Message(*self._queue.peek(len(found))))
        except aioipc.WouldBlock:
            return in_order_of_taking(found, self._type, self._except)

    def close(self) -> None:
        self._queue.close()


class _PosixReceiver(Receiver):
    """Out of a POSIX queue."""

    is_queue = True

    def __init__(self, name: str) -> None:
        self._queue = aioipc.PosixMessageQueue.open(name, access="receive")

    async def receive(self) -> Message:
        body, priority = await self._queue.receive()
        return Message(body, priority=priority)

    async def receive_now(self) -> Message:
        await asyncio.sleep(0)
        body, priority = self._queue.receive_nowait()
        return Message(body, priority=priority)

    async def give_back(self, message: Message) -> None:
        async with aioipc.PosixMessageQueue.open(self._queue.name, access="send") as queue:
            await queue.send(message.body, priority=message.priority or 0)

    def close(self) -> None:
        self._queue.close()


class _LineReceiver(Receiver):
    """Out of a FIFO or a stream socket: a message is a line, or what is left at the end.

    ``bytewise`` takes no byte behind the line that was asked for, since nothing can be given back. It is as slow as the
    shell's ``read``, which does the same.
    """

    nothing = "nothing came"

    def __init__(self, stream: aioipc.FifoReceiveStream | aioipc.SocketStream, *, bytewise: bool) -> None:
        self._stream = stream
        self._size = 1 if bytewise else CHUNK
        self._lines: deque[bytes] = deque()
        self._tail = bytearray()
        self._ended = False

    async def receive(self) -> Message:
        while not self._lines:
            if self._ended:
                return self._last()
            try:
                self._add(await self._stream.receive(self._size))
            except aioipc.EndOfStream:
                self._ended = True
        return Message(self._lines.popleft())

    def _add(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._tail += first
        if others:
            self._lines.append(bytes(self._tail))
            self._tail = bytearray(others.pop())
            self._lines.extend(others)
        elif len(self._tail) > LARGEST:
            raise CommandError(f"a line has more than {LARGEST >> 20} MiB")

    def _last(self) -> Message:
        if not self._tail:
            raise EndOfInput
        line, self._tail = bytes(self._tail), bytearray()
        return Message(line)

    def leftover(self) -> list[Message]:
        lines = [*self._lines, bytes(self._tail)] if self._tail else [*self._lines]
        self._lines.clear()
        self._tail.clear()
        return [Message(line) for line in lines]

    def close(self) -> None:
        self._stream.close()


class _PacketReceiver(Receiver):
    """Out of a packet socket."""

    def __init__(self, socket: aioipc.PacketSocket) -> None:
        self._socket = socket

    async def receive(self) -> Message:
        try:
            return Message(await self._socket.receive())
        except aioipc.EndOfStream:
            raise EndOfInput from None

    def close(self) -> None:
        self._socket.close()


class _DatagramReceiver(Receiver):
    """At a path of our own, from whoever sends there."""

    def __init__(self, path: str) -> None:
        self._socket = aioipc.open_datagram_socket(path)

    async def receive(self) -> Message:
        body, sender = await self._socket.receive()
        return Message(body, sender=sender)

    def close(self) -> None:
        self._socket.close()


class _ListeningReceiver(Receiver):
    """At a path of our own, from one connection after the other."""

    def __init__(self, path: str, kind: Literal["stream", "packets"], *, bytewise: bool) -> None:
        self._listener = aioipc.listen_unix(path, kind)
        self._bytewise = bytewise
        self._current: _LineReceiver | _PacketReceiver | None = None

    async def receive(self) -> Message:
        while True:
            if self._current is None:
                self._current = self._receiver_of(await self._listener.accept())
            try:
                return await self._current.receive()
            except (EndOfInput, aioipc.BrokenResourceError):  # that one has left; the next may come
                self._current.close()
                self._current = None

    def _receiver_of(self, connection: aioipc.SocketStream | aioipc.PacketSocket) -> _LineReceiver | _PacketReceiver:
        if isinstance(connection, aioipc.PacketSocket):
            return _PacketReceiver(connection)
        return _LineReceiver(connection, bytewise=self._bytewise)

    def leftover(self) -> list[Message]:
        return self._current.leftover() if self._current is not None else []

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
        self._listener.close()


async def open_receiver(
    address: Address, *, type: int, except_type: int | None, listen: ListenKind | None, endless: bool, bytewise: bool
) -> Receiver:
    """Open the object. ``endless``: a FIFO outlives its writers; ``bytewise``: see `_LineReceiver`."""
    if (type or except_type is not None) and not address.is_sysv:
        raise CommandError("-t and --except are for System V queues")
    if address.is_sysv:
        return _SysVReceiver(address, type, except_type)
    if address.name is not None:
        return _PosixReceiver(address.name)
    path = address.path
    assert path is not None
    if listen == "datagram":
        return _DatagramReceiver(path)
    if listen is not None:
        return _ListeningReceiver(path, listen, bytewise=bytewise)
    if path_kind(path) == stat.S_IFIFO:
        return _LineReceiver(await aioipc.open_fifo_reader(path, persistent=endless), bytewise=bytewise)
    socket = await connect(path)
    if socket is None:
        raise CommandError(f"{path}: is somebody's socket for datagrams; receive them at a path of your own: --listen")
    return (
        _PacketReceiver(socket) if isinstance(socket, aioipc.PacketSocket) else _LineReceiver(socket, bytewise=bytewise)
    )
