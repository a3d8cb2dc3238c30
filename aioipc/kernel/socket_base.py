"""What all sockets here have: one descriptor, two directions to wait for, and an end."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import warnings
from typing import NamedTuple

from anyio.abc import AsyncResource

from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import ClosedResourceError

from .claims import Claim
from .free_descriptors import naming_the_limit
from .names import unlink_if_same

_UCRED = struct.Struct("iII")


class PeerCredentials(NamedTuple):
    """Who was at the other end of a UNIX socket when it was connected (``unix(7)``, SO_PEERCRED)."""

    pid: int  #: the process; 0 where it is in a PID namespace that cannot be seen
    uid: int  #: its effective user
    gid: int  #: its effective group


class Socket(AsyncResource):
    """A socket that is waited on in both directions; it owns its descriptor."""

    _socket: socket.socket | None = None  # for __del__, where __init__ has refused
    _label = "socket"

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._fd = sock.fileno()
        self._receivers = WaitQueue(DescriptorReadiness(self._fd, "read"), self._label)
        self._senders = WaitQueue(DescriptorReadiness(self._fd, "write"), self._label)
        self._socket = sock

    def fileno(self) -> int:
        """Return the descriptor, which stays the object's own. Raises `ClosedResourceError` after closing."""
        return self._open().fileno()

    def detach(self) -> socket.socket:
        """Close the object but not its socket, and return that, non-blocking; it is the caller's to close.

        Tasks that wait on the object get `ClosedResourceError`. Raises that itself after closing.
        """
        sock, self._socket = self._open(), None
        self._receivers.close(lambda: self._senders.close(lambda: None))
        return sock

    def close(self) -> None:
        """Close the socket at once; closed already: do nothing.

        Tasks that wait on it get `ClosedResourceError`.
        """
        sock, self._socket = self._socket, None
        if sock is not None:
            self._receivers.close(lambda: self._senders.close(lambda: self._release(sock)))

    async def aclose(self) -> None:
        """Do what `close` does, then give the loop a turn. Cancelled: it is closed all the same."""
        self.close()
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        state = f"fd={self._fd}" if self._socket is not None else "closed"
        return f"<{type(self).__name__} {state}>"

    def __del__(self) -> None:
        if self._socket is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise ClosedResourceError(f"the {self._label} is closed")
        return self._socket

    def _release(self, sock: socket.socket) -> None:
        sock.close()


class BoundSocket(Socket):
    """A socket that may have made a path, which goes when it is closed."""

    def __init__(self, sock: socket.socket, path: str | None, claim: Claim | None) -> None:
        super().__init__(sock)
        self.path: str | None = path
        self._made = os.lstat(path) if path is not None else None
        self._claim = claim

    def detach(self) -> socket.socket:
        """Close the object but not its socket, and return that, non-blocking; it and its path are the caller's now.

        Tasks that wait on the object get `ClosedResourceError`. Raises that itself after closing.
        """
        sock = super().detach()
        if self._claim is not None:
            self._claim.end(gone=True)
        return sock

    def _release(self, sock: socket.socket) -> None:
        try:
            if self._claim is not None and self._claim.removes and self.path is not None and self._made is not None:
                unlink_if_same(self.path, self._made)
                self._claim.end(gone=True)
        finally:
            super()._release(sock)


def new_socket(family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Make a socket. Raises `OSError` with EMFILE or ENFILE, and the limit, without a free descriptor."""
    with naming_the_limit("a socket"):
        return socket.socket(family, kind, protocol)


def peer_of(sock: socket.socket) -> PeerCredentials | tuple[object, ...]:
    """Return who is at the other end: credentials for a UNIX socket, else the address."""
    if sock.family == socket.AF_UNIX:
        return PeerCredentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
    address: tuple[object, ...] = sock.getpeername()
    return address


def check_path(path: object) -> str:
    """Return the path of a UNIX socket as text. Raises `TypeError`, or `ValueError` where it is too long."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
    name = os.fsdecode(path)
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the path of a socket")
    if (size := len(os.fsencode(name))) > 107:
        raise ValueError(f"the path of a UNIX socket may have 107 bytes, not {size}: {name!r}")
    return name
