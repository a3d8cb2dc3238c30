"""How ``aioipc send`` reaches each kind of object: open it, put messages in, close it."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from abc import ABC, abstractmethod

import aioipc

from .address import Address
from .failure import CommandError
from .messages import Message

A_MOMENT = 0.1
"""For what cannot be tried without waiting, such as to open a FIFO, when it shall not wait."""


def waited(seconds: float | None) -> str:
    """What to say behind that something did not happen."""
    return f" (waited {seconds:g} s)" if seconds else ""


class Sender(ABC):
    """An object that takes messages. ``full`` is what to say where it takes none now."""

    full = "there is no room"
    is_queue = False  # `send_now` knows at once whether there is room

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Put a message in; wait for room. Cancelled: a queue and a datagram or packet socket has not got it."""

    async def send_now(self, message: Message) -> None:
        """Put a message in, or raise `TimeoutError` or `WouldBlock` where there is no room."""
        async with asyncio.timeout(A_MOMENT):
            await self.send(message)

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class _SysVSender(Sender):
    """Into a System V queue."""

    full = "the queue is full"
    is_queue = True

    def __init__(self, address: Address, type: int | None) -> None:
        self._queue = aioipc.SysVMessageQueue.open(address.key, id=address.id)
        self._type = 1 if type is None else type

    async def send(self, message: Message) -> None:
        await self._queue.send(message.body, type=self._type if message.type is None else message.type)

    async def send_now(self, message: Message) -> None:
        await asyncio.sleep(0)
        self._queue.send_nowait(message.body, type=self._type if message.type is None else message.type)

    def close(self) -> None:
        self._queue.close()


class _PosixSender(Sender):
    """Into a POSIX queue."""

    full = "the queue is full"
    is_queue = True

    def __init__(self, name: str, priority: int | None) -> None:
        self._queue = aioipc.PosixMessageQueue.open(name, access="send")
        self._priority = priority or 0

    async def send(self, message: Message) -> None:
        await self._queue.send(message.body, priority=self._priority_of(message))

    async def send_now(self, message: Message) -> None:
        await asyncio.sleep(0)
        self._queue.send_nowait(message.body, priority=self._priority_of(message))

    def _priority_of(self, message: Message) -> int:
        return self._priority if message.priority is None else message.priority

    def close(self) -> None:
        self._queue.close()


class _StreamSender(Sender):
    """Into a FIFO or a stream socket, where a newline ends each message; ``whole``: as it is."""

    full = "the reader takes nothing"

    def __init__(self, stream: aioipc.FifoSendStream | aioipc.SocketStream, whole: bool) -> None:
        self._stream = stream
        self._end = b"" if whole else b"\n"

    async def send(self, message: Message) -> None:
        await self._stream.send(message.body + self._end)

    def close(self) -> None:
        self._stream.close()


class _PacketSender(Sender):
    """Into a packet socket."""

    full = "the receiver is full"

    def __init__(self, socket: aioipc.PacketSocket) -> None:
        self._socket = socket

    async def send(self, message: Message) -> None:
        await self._socket.send(message.body)

    def close(self) -> None:
        self._socket.close()


class _DatagramSender(Sender):
    """To a datagram socket."""

    full = "the receiver is full"

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = aioipc.open_datagram_socket()

    async def send(self, message: Message) -> None:
        await self._socket.send(message.body, self._path)

    def close(self) -> None:
        self._socket.close()


def path_kind(path: str) -> int:
    """S_IFIFO or S_IFSOCK; `CommandError` for any other file, `FileNotFoundError` for none."""
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind not in (stat.S_IFIFO, stat.S_IFSOCK):
        raise CommandError(f"{path}: is neither a FIFO nor a UNIX socket (a POSIX queue is named by -n)")
    return kind


async def connect(path: str) -> aioipc.SocketStream | aioipc.PacketSocket | None:
    """Connect to the UNIX socket, of whichever kind it is; None where it takes datagrams, without a connection."""
    try:
        return await aioipc.connect_unix(path)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    try:
        return await aioipc.connect_unix(path, "packets")
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return None


async def open_sender(address: Address, *, type: int | None, priority: int | None, whole: bool) -> Sender:
    """Open the object; wait for a reader of a FIFO, and for room in a full line of connections."""
    if type is not None and not address.is_sysv:
        raise CommandError("-t is for System V queues; POSIX queues have --priority")
    if priority is not None and address.name is None:
        raise CommandError("--priority is for POSIX queues; System V queues have -t")
    if address.is_sysv:
        return _SysVSender(address, type)
    if address.name is not None:
        return _PosixSender(address.name, priority)
    assert address.path is not None
    if path_kind(address.path) == stat.S_IFIFO:
        return _StreamSender(await aioipc.open_fifo_writer(address.path), whole)
    socket = await connect(address.path)
    if socket is None:
        return _DatagramSender(address.path)
    return _PacketSender(socket) if isinstance(socket, aioipc.PacketSocket) else _StreamSender(socket, whole)
