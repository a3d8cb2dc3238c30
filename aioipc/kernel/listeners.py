"""Listening sockets: who comes is a connection (``listen(2)``, ``accept(2)``)."""

from __future__ import annotations

import os
import socket
from typing import Generic, Literal, Self, TypeVar, cast, overload

from .claims import Claim
from .free_descriptors import naming_the_limit
from .names import check_mode, check_range
from .socket_base import BoundSocket, check_path, new_socket
from .socket_paths import bind_listening
from .sockets import Kind, PacketSocket, SocketStream, addresses_of, check_kind

T_co = TypeVar("T_co", SocketStream, PacketSocket, covariant=True)


class Listener(BoundSocket, Generic[T_co]):
    """A listening socket; ``async for connection in listener`` accepts for ever.

    `listen_unix` and `listen_tcp` make it. Any number of tasks may accept.
    """

    _label = "listener"

    def __init__(self, sock: socket.socket, path: str | None = None, claim: Claim | None = None) -> None:
        super().__init__(sock, path, claim)
        self._kind = SocketStream if sock.type == socket.SOCK_STREAM else PacketSocket

    async def accept(self) -> T_co:
        """Return the next connection; wait while there is none.

        Raises `ClosedResourceError` where the listener is or gets closed, `OSError` with EMFILE without descriptors.
        Cancelled: nobody was accepted; who has come waits for the next call.
        """
        sock = await self._receivers.take(self._accept, self._open())
        return cast("T_co", self._kind(sock))

    def accept_nowait(self) -> T_co:
        """Return the next connection as `accept` does, or raise `WouldBlock` where there is none."""
        return cast("T_co", self._kind(self._receivers.take_nowait(self._accept, self._open())))

    @property
    def address(self) -> str | tuple[object, ...]:
        """Where it listens: the path of a UNIX socket, the host and port of TCP."""
        found: tuple[object, ...] = self._open().getsockname()
        return self.path or found

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        return await self.accept()

    def _accept(self, sock: socket.socket) -> socket.socket:
        try:
            with naming_the_limit("the next connection"):
                connection, _ = sock.accept()
        except ConnectionAbortedError:
            raise BlockingIOError from None  # gone again; maybe there is another one
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@overload
def listen_unix(
    path: str | os.PathLike[str], kind: Literal["stream"] = "stream", *, mode: int = 0o600, backlog: int = 128
) -> Listener[SocketStream]: ...


@overload
def listen_unix(
    path: str | os.PathLike[str], kind: Literal["packets"], *, mode: int = 0o600, backlog: int = 128
) -> Listener[PacketSocket]: ...


def listen_unix(
    path: str | os.PathLike[str], kind: Kind = "stream", *, mode: int = 0o600, backlog: int = 128
) -> Listener[SocketStream] | Listener[PacketSocket]:
    """Listen at ``path`` for connections, at once; closing removes the path.

    ``kind`` is ``"stream"`` or ``"packets"``, ``mode`` the permissions, whatever the umask (who may write may connect),
    ``backlog`` how many connections wait for `Listener.accept`. A path left over by a dead process is taken over.

    Raises `OSError` with EADDRINUSE where somebody listens there, `FileExistsError` where the path is no socket,
    `FileNotFoundError` without the directory, `PermissionError`, `TypeError` or `ValueError` for wrong arguments.
    """
    name = check_path(path)
    number = check_kind(kind)
    check_mode(mode)
    check_range("backlog", backlog, 0, (1 << 31) - 1)
    sock = new_socket(socket.AF_UNIX, number)
    try:
        with Claim.begin("unix-socket", os.path.abspath(name), remove=True) as claim:
            bind_listening(sock, name, mode, backlog, claim)
        return Listener(sock, name, claim)
    except BaseException:
        sock.close()
        raise


async def listen_tcp(host: str, port: int, *, backlog: int = 128) -> Listener[SocketStream]:
    """Listen at the first address of ``host`` for TCP connections.

    Port 0 takes a free one, which `Listener.address` tells.
    Raises `OSError` as ``getaddrinfo(3)`` and ``bind(2)`` do, EADDRINUSE where somebody listens there, `TypeError` or
    `ValueError` for wrong arguments. Cancelled: nothing is open.
    """
    check_range("port", port, 0, 65535)
    check_range("backlog", backlog, 0, (1 << 31) - 1)
    found = await addresses_of(host, port, flags=socket.AI_PASSIVE)
    family, kind, protocol, address = found[0]
    sock = new_socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
        return Listener(sock)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror}: {host} port {port}") from None
