"""UNIX datagram sockets (``unix(7)``): messages to a path, without a connection; whole, in order, and none is lost.

A full receiver makes the sender wait (`aioipc.kernel.datagram_room`). Each receiver has its own queue of senders: a
full one holds up nobody else's.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import BrokenResourceError

from .buffers import Buffer, item_size
from .claims import Claim
from .datagram_room import RoomReadiness
from .names import check_mode
from .socket_base import BoundSocket, check_path, new_socket
from .socket_paths import bind_datagram


class Datagram(NamedTuple):
    """A message, and the path of the socket that it came from; ``None`` where that has none."""

    body: bytes
    sender: str | None


class _Room(WaitQueue):
    """The tasks that send to one receiver, as long as there are any."""

    __slots__ = ("users",)

    def __init__(self, path: str, label: str) -> None:
        super().__init__(RoomReadiness(path), label)
        self.users = 0


class DatagramSocket(BoundSocket):
    """A UNIX datagram socket; `open_datagram_socket` makes it. Any number of tasks may send and receive."""

    _label = "datagram socket"

    def __init__(self, sock: socket.socket, path: str | None = None, claim: Claim | None = None) -> None:
        super().__init__(sock, path, claim)
        self._rooms: dict[str, _Room] = {}  # of the receivers that somebody sends to
        self._one_byte = bytearray(1)

    async def receive(self) -> Datagram:
        """Return the next message, whole, possibly empty; wait while there is none.

        Raises `ClosedResourceError` where the socket is or gets closed. Cancelled: the message, if one has come, is for
        the next call.
        """
        return await self._receivers.take(self._take, self._open())

    def receive_nowait(self) -> Datagram:
        """Return the next message as `receive` does, or raise `WouldBlock` where there is none."""
        return self._receivers.take_nowait(self._take, self._open())

    async def send(self, item: Buffer, path: str | os.PathLike[str]) -> None:
        """Send one message to the socket at ``path``; wait while that is full.

        Raises `FileNotFoundError` where there is none, `BrokenResourceError` where nobody has it open any more,
        `PermissionError`, `ClosedResourceError`, `ValueError` where the message is too large (SO_SNDBUF) or for a wrong
        path, `TypeError` for no bytes. Cancelled: nothing was sent.
        """
        item_size(item)
        name = check_path(path)
        sock = self._open()
        if (room := self._rooms.get(name)) is None:
            room = self._rooms[name] = _Room(name, self._label)
        room.users += 1
        try:
            await room.take(self._put, sock, item, name)
        finally:
            room.users -= 1
            if not room.users:
                del self._rooms[name]
                room.close(lambda: None)

    def send_nowait(self, item: Buffer, path: str | os.PathLike[str]) -> None:
        """Send one message as `send` does, or raise `WouldBlock` where there is no room."""
        item_size(item)
        name = check_path(path)
        self._rooms.get(name, self._senders).take_nowait(self._put, self._open(), item, name)

    def close(self) -> None:
        """Close the socket at once, and remove its path; closed already: do nothing.

        Tasks that wait on it get `ClosedResourceError`.
        """
        for room in self._rooms.values():
            room.close(lambda: None)
        super().close()

    def _take(self, sock: socket.socket) -> Datagram:
        size = sock.recv_into(self._one_byte, 1, socket.MSG_PEEK | socket.MSG_TRUNC)
        body, sender = sock.recvfrom(size or 1)
        return Datagram(body, sender or None)

    def _put(self, sock: socket.socket, item: Buffer, path: str) -> None:
        try:
            sock.sendto(item, path)
        except BlockingIOError:
            raise
        except ConnectionRefusedError as error:
            raise BrokenResourceError(f"nobody has the socket {path} open any more") from error
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                text = f"a message of {item_size(item)} bytes does not fit in the send buffer (SO_SNDBUF)"
                raise ValueError(text) from None
            raise OSError(error.errno, error.strerror, path) from None


def open_datagram_socket(path: str | os.PathLike[str] | None = None, *, mode: int = 0o600) -> DatagramSocket:
    """Open a UNIX datagram socket at once: at ``path``, so that others can send to it, or without one, to send only.

    ``mode`` are the permissions of the path, whatever the umask; who may write may send. Closing removes the path, and
    one left over by a dead process is taken over.

    Raises `OSError` with EADDRINUSE where somebody has a socket there, `FileExistsError` where the path is no socket,
    `FileNotFoundError` without the directory, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
    """
    name = check_path(path) if path is not None else None
    check_mode(mode)
    sock = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if name is None:
            return DatagramSocket(sock)
        with Claim.begin("unix-socket", os.path.abspath(name), remove=True) as claim:
            bind_datagram(sock, name, mode, claim)
        return DatagramSocket(sock, name, claim)
    except BaseException:
        sock.close()
        raise
