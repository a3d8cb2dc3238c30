"""Sockets: byte streams and packets between processes, over a path, a pair or TCP (``unix(7)``, ``tcp(7)``).

As with pipes, a task waits for the descriptor to be ready and then takes by itself, so a cancelled `receive` took
nothing. ``loop.sock_recv`` gives no such promise: uvloop loses what a cancelled call has received.

A stream is one object with two byte ends (`aioipc.kernel.byte_ends`) over one descriptor. A packet socket
(SOCK_SEQPACKET) keeps messages whole and in order, and descriptors travel with them.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

from anyio.abc import ByteStream, ObjectStream

from aioipc._loop.back_off import BackOffReadiness
from aioipc._loop.guard import Guard
from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import BrokenResourceError, EndOfStream

from .buffers import Buffer, item_size
from .byte_ends import ByteReceiver, ByteSender
from .free_descriptors import naming_the_limit
from .lines import Lines
from .names import check_range
from .socket_base import PeerCredentials as PeerCredentials
from .socket_base import Socket, check_path, new_socket, peer_of

Kind = Literal["stream", "packets"]

_TYPES = {"stream": socket.SOCK_STREAM, "packets": socket.SOCK_SEQPACKET}
_MOST_DESCRIPTORS = 253  # SCM_MAX_FD
_ROOM = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)


@dataclass(frozen=True, slots=True)
class SocketStatistics:
    """What went through a socket."""

    bytes_received: int
    receives: int  #: reads, or packets
    bytes_sent: int
    sends: int  #: writes, or packets


class _Receiving(ByteReceiver):
    _others_gone = "the other side has sent its end"

    def __init__(self, fd: int, queue: WaitQueue) -> None:
        self._fd, self._queue, self._guard = fd, queue, Guard("receiving from")
        self._bytes = self._calls = 0

    async def aclose(self) -> None:
        """The socket closes both of its ends."""


class _Sending(ByteSender):
    _others_gone = "the other side has closed the connection"

    def __init__(self, fd: int, queue: WaitQueue) -> None:
        self._fd, self._queue, self._guard = fd, queue, Guard("sending to")
        self._bytes = self._calls = 0

    async def aclose(self) -> None:
        """The socket closes both of its ends."""


class SocketStream(Socket, ByteStream):
    """A connected stream socket, as a byte stream in both directions.

    ``sock`` is one, which the object owns from then on. One task at a time may receive, and one may send.
    """

    _label = "socket stream"

    def __init__(self, sock: socket.socket) -> None:
        _check_socket(sock, socket.SOCK_STREAM)
        super().__init__(sock)
        self._receiving = _Receiving(self._fd, self._receivers)
        self._sending = _Sending(self._fd, self._senders)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived, at least one byte and at most ``max_bytes``; wait while there is nothing.

        Raises `EndOfStream` where the other side has sent its end, `BrokenResourceError` where the connection is
        broken, `ClosedResourceError` where the socket is or gets closed, `BusyResourceError` where another task is
        receiving, `TypeError` or `ValueError` where ``max_bytes`` is no positive integer.
        Cancelled: nothing was taken.
        """
        return await self._receiving.receive(max_bytes)

    def receive_nowait(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived as `receive` does, or raise `WouldBlock` where there is nothing."""
        return self._receiving.receive_nowait(max_bytes)

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive into the writable ``buffer``, and return how many of its bytes were filled, at least one."""
        return await self._receiving.receive_into(buffer)

    def lines(self, *, encoding: str = "utf-8", errors: str = "strict", max_line: int | None = 1 << 20) -> Lines:
        """Return an async iterator over the lines of text that the stream brings; see `Lines`."""
        return Lines(self, encoding=encoding, errors=errors, max_line=max_line)

    async def send(self, item: Buffer) -> None:
        """Send all of ``item``; wait while there is no room.

        Raises `BrokenResourceError` where the other side has closed, `ClosedResourceError` where the socket is or gets
        closed, `BusyResourceError` where another task is sending, `TypeError` or `ValueError` for no bytes.
        Cancelled: a part may have been sent; ``statistics().bytes_sent`` has counted it.
        """
        await self._sending.send(item)

    def send_nowait(self, item: Buffer) -> int:
        """Send what goes at once, and return how many bytes that were, or raise `WouldBlock`."""
        return self._sending.send_nowait(item)

    async def send_eof(self) -> None:
        """Tell the other side that nothing more comes (``shutdown(2)``); it gets `EndOfStream`. Receiving goes on."""
        await asyncio.sleep(0)
        try:
            self._open().shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    @property
    def peer(self) -> PeerCredentials | tuple[object, ...]:
        """Who is at the other end: `PeerCredentials` of a UNIX socket, the address of TCP."""
        return peer_of(self._open())

    def statistics(self) -> SocketStatistics:
        """Return how much went through; works when closed too."""
        received, sent = self._receiving, self._sending
        return SocketStatistics(received._bytes, received._calls, sent._bytes, sent._calls)


class PacketSocket(Socket, ObjectStream[bytes]):
    """A connected packet socket (SOCK_SEQPACKET): whole messages in order, with descriptors, in both directions.

    ``sock`` is one, which the object owns from then on. Any number of tasks may send and receive, first come first
    served.
    """

    _label = "packet socket"

    def __init__(self, sock: socket.socket) -> None:
        _check_socket(sock, socket.SOCK_SEQPACKET)
        super().__init__(sock)
        self._counts = [0, 0, 0, 0]
        self._one_byte = bytearray(1)

    async def receive(self) -> bytes:
        """Return the next packet, whole; wait while there is none. Descriptors that came with it are closed.

        Raises `EndOfStream` where the other side is closed, `BrokenResourceError` where the connection is broken,
        `ClosedResourceError` where the socket is or gets closed.
        Cancelled: the packet, if one has come, is for the next call.
        """
        return self._received((await self._receivers.take(self._take, self._open(), 0))[0])

    def receive_nowait(self) -> bytes:
        """Return the next packet as `receive` does, or raise `WouldBlock` where there is none."""
        return self._received(self._receivers.take_nowait(self._take, self._open(), 0)[0])

    async def receive_descriptors(self) -> tuple[bytes, list[int]]:
        """Return the next packet and the descriptors that came with it, which are the caller's to close.

        They are close-on-exec from the first moment. Raises as `receive` does, and `OSError` with EMFILE where this
        process may not have so many; the packet is lost then, and what came of the descriptors is closed.
        Cancelled: nothing was taken.
        """
        body, descriptors = await self._receivers.take(self._take, self._open(), _ROOM)
        return self._received(body), descriptors

    async def send(self, item: Buffer, *, descriptors: Sequence[int] = ()) -> None:
        """Send one packet of at least one byte, and copies of up to 253 ``descriptors`` with it; wait for room.

        Raises `BrokenResourceError` where the other side is closed, `ClosedResourceError` where this one is or gets
        closed, `ValueError` for an empty packet (which would look like the end), one that is too large (SO_SNDBUF) or
        too many descriptors, `TypeError` for no bytes, `OSError` with EBADF for a descriptor that is not open.
        Cancelled: nothing was sent.
        """
        rights = _checked(item, descriptors)
        await self._senders.take(self._put, self._open(), item, rights)
        self._count(2, item_size(item))

    def send_nowait(self, item: Buffer, *, descriptors: Sequence[int] = ()) -> None:
        """Send one packet as `send` does, or raise `WouldBlock` where there is no room."""
        rights = _checked(item, descriptors)
        self._senders.take_nowait(self._put, self._open(), item, rights)
        self._count(2, item_size(item))

    async def send_eof(self) -> None:
        """Tell the other side that nothing more comes (``shutdown(2)``); it gets `EndOfStream`. Receiving goes on."""
        await asyncio.sleep(0)
        self._open().shutdown(socket.SHUT_WR)

    @property
    def peer(self) -> PeerCredentials:
        """Who is at the other end."""
        found = peer_of(self._open())
        assert isinstance(found, PeerCredentials)
        return found

    def statistics(self) -> SocketStatistics:
        """Return how much went through; works when closed too."""
        return SocketStatistics(*self._counts)

    def _take(self, sock: socket.socket, room: int) -> tuple[bytes, list[int]]:
        """Take one packet of any size, with its descriptors where there is room for them.

        Nobody says how large it is but a look at it, and a buffer that turned out to be too small would lose the rest.
        """
        try:
            size = sock.recv_into(self._one_byte, 1, socket.MSG_PEEK | socket.MSG_TRUNC)
            if not room:
                return sock.recv(size or 1), []
            body, ancillary, flags, _ = sock.recvmsg(size or 1, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError as error:
            raise BrokenResourceError("the connection is broken") from error
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if flags & socket.MSG_CTRUNC:
            for fd in descriptors:
                os.close(fd)
            raise OSError(errno.EMFILE, "this process may not have so many descriptors as came with the packet")
        return body, descriptors.tolist()

    def _put(self, sock: socket.socket, item: Buffer, rights: list[tuple[int, int, bytes]]) -> None:
        try:
            if rights:
                sock.sendmsg([item], rights, socket.MSG_NOSIGNAL)
            else:
                sock.send(item, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BrokenResourceError("the other side has closed the connection") from error
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
                text = f"a packet of {item_size(item)} bytes does not fit in the send buffer (SO_SNDBUF, {room} bytes)"
                raise ValueError(text) from None
            raise

    def _received(self, body: bytes) -> bytes:
        if not body:
            raise EndOfStream("the other side has closed the connection")
        self._count(0, len(body))
        return body

    def _count(self, first: int, size: int) -> None:
        self._counts[first] += size
        self._counts[first + 1] += 1


@overload
def create_socketpair(kind: Literal["stream"] = "stream") -> tuple[SocketStream, SocketStream]: ...


@overload
def create_socketpair(kind: Literal["packets"]) -> tuple[PacketSocket, PacketSocket]: ...


def create_socketpair(
    kind: Kind = "stream",
) -> tuple[SocketStream, SocketStream] | tuple[PacketSocket, PacketSocket]:
    """Return two sockets that are connected to each other (``socketpair(2)``), for tasks, or for a child process.

    ``kind`` is ``"stream"`` or ``"packets"``. Raises `ValueError` for another one, `OSError` without free descriptors.
    """
    number = check_kind(kind)
    with naming_the_limit("a pair of sockets"):
        left, right = socket.socketpair(socket.AF_UNIX, number)
    if kind == "stream":
        return SocketStream(left), SocketStream(right)
    return PacketSocket(left), PacketSocket(right)


@overload
async def connect_unix(path: str | os.PathLike[str], kind: Literal["stream"] = "stream") -> SocketStream: ...


@overload
async def connect_unix(path: str | os.PathLike[str], kind: Literal["packets"]) -> PacketSocket: ...


async def connect_unix(path: str | os.PathLike[str], kind: Kind = "stream") -> SocketStream | PacketSocket:
    """Connect to the UNIX socket at ``path``; wait while its queue of connections is full (looking every 20 ms).

    Raises `FileNotFoundError` where there is none, `ConnectionRefusedError` where nobody listens, `PermissionError`,
    `OSError` with EPROTOTYPE where it is of another kind, `TypeError` or `ValueError` for a wrong path or kind.
    Cancelled: nothing is open.
    """
    name = check_path(path)
    sock = new_socket(socket.AF_UNIX, check_kind(kind))
    sock.setblocking(False)
    queue = WaitQueue(BackOffReadiness(), f"UNIX socket {name}")
    try:
        await queue.take(sock.connect, name)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, name) from None
    except BaseException:
        sock.close()
        raise
    finally:
        queue.close(lambda: None)
    return SocketStream(sock) if kind == "stream" else PacketSocket(sock)


async def connect_tcp(host: str, port: int) -> SocketStream:
    """Connect to a TCP port, trying each address of ``host`` in turn; small messages are sent at once (TCP_NODELAY).

    Raises `OSError` as ``getaddrinfo(3)`` and ``connect(2)`` do (`ConnectionRefusedError` where nobody listens),
    `TypeError` or `ValueError` for a wrong host or port.
    Cancelled: nothing is open.
    """
    check_range("port", port, 1, 65535)
    failure: OSError | None = None
    for family, kind, protocol, address in await addresses_of(host, port):
        sock = new_socket(family, kind, protocol)
        try:
            await _connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return SocketStream(sock)
    assert failure is not None
    raise OSError(failure.errno, f"{failure.strerror}: {host} port {port}") from None


async def addresses_of(host: str, port: int, *, flags: int = 0) -> list[tuple[int, int, int, tuple[object, ...]]]:
    """Return the family, type, protocol and address of each TCP address of a host (``getaddrinfo(3)``).

    Raises `TypeError` or `ValueError` where ``host`` cannot be one, `socket.gaierror` where it has no address.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {type(host).__name__}")
    if not host or "\0" in host:
        raise ValueError(f"host must be a name or an address, not {host!r}")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        raise ValueError(f"host must be a name or an address, not {host!r}: {error}") from None
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"{error.strerror}: {host} port {port}") from None
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]


async def _connect(sock: socket.socket, address: tuple[object, ...]) -> None:
    """Connect one socket; the descriptor is writable when it is done or has failed."""
    sock.setblocking(False)
    if (number := sock.connect_ex(address)) not in (0, errno.EINPROGRESS):
        raise OSError(number, os.strerror(number))
    queue = WaitQueue(DescriptorReadiness(sock.fileno(), "write"), "connection")

    def connected() -> None:
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
        try:
            sock.getpeername()
        except OSError:
            raise BlockingIOError from None

    try:
        await queue.take(connected)
    finally:
        queue.close(lambda: None)


def check_kind(kind: object) -> int:
    """Return the type of socket that ``kind`` means, or raise `ValueError`."""
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"kind must be 'stream' or 'packets', not {kind!r}")
    return _TYPES[kind]


def _check_socket(sock: object, kind: int) -> None:
    if not isinstance(sock, socket.socket):
        raise TypeError(f"sock must be a socket.socket, not {type(sock).__name__}")
    if sock.type != kind:
        raise ValueError(f"{sock!r} is another kind of socket")


def _checked(item: Buffer, descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    if not item_size(item):
        raise ValueError("an empty packet cannot be sent: it would look like the end")
    _check_sequence(descriptors)
    if not descriptors:
        return []
    if len(descriptors) > _MOST_DESCRIPTORS:
        raise ValueError(f"{_MOST_DESCRIPTORS} descriptors can go with a packet, not {len(descriptors)}")
    for fd in descriptors:
        check_range("a descriptor", fd, 0, (1 << 31) - 1)
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())]


def _check_sequence(descriptors: object) -> None:
    if not isinstance(descriptors, Sequence) or isinstance(descriptors, str | bytes | bytearray | memoryview):
        raise TypeError(f"descriptors must be a sequence of int, not {type(descriptors).__name__}")
