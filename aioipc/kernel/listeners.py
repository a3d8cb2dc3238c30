"""Listening sockets: who comes is a connection (``listen(2)``, ``accept(2)``).

A UNIX socket leaves its path behind when its process is killed. Such a path is taken over, and only such a one: where
somebody listens, or where it is no socket, it is an error. Nobody but a connection can tell, so it is tried.

A program that has bound its socket and does not listen yet would look dead then. So ours is bound to another name in
the same directory, and gets its own by ``link(2)`` when it listens. The directory is locked (``flock(2)``) while a path
is taken over, so that two programs that start at once do not remove each other's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from typing import Generic, Literal, Self, TypeVar, cast, overload

from .free_descriptors import naming_the_limit
from .names import check_mode, check_range, unlink_if_same
from .socket_base import BoundSocket, check_path, new_socket
from .sockets import Kind, PacketSocket, SocketStream, addresses_of, check_kind

T_co = TypeVar("T_co", SocketStream, PacketSocket, covariant=True)


class Listener(BoundSocket, Generic[T_co]):
    """A listening socket; ``async for connection in listener`` accepts for ever.

    `listen_unix` and `listen_tcp` make it. Any number of tasks may accept.
    """

    _label = "listener"

    def __init__(self, sock: socket.socket, path: str | None = None) -> None:
        super().__init__(sock, path)
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
        _bind_listening(sock, name, mode, backlog)
        return Listener(sock, name)
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


def bind_datagram(sock: socket.socket, name: str, mode: int) -> None:
    """Bind a datagram socket to its path, in place of one that nobody has open; it can be sent to at once."""
    os.fchmod(sock.fileno(), mode)  # what the file is made with
    try:
        sock.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(error.errno, error.strerror, name) from None
        with _locked(os.path.dirname(name) or os.curdir, name):
            _remove_stale(name)
            sock.bind(name)
    os.chmod(name, mode)  # the umask may have taken some away


def _bind_listening(sock: socket.socket, name: str, mode: int, backlog: int) -> None:
    """Bind the socket, have it listen, and only then let it be found at its path."""
    temporary = os.path.join(os.path.dirname(name), f".{secrets.token_hex(4)}")
    if len(os.fsencode(temporary)) > 107:
        raise ValueError(f"the directory's name is too long for a UNIX socket: {name!r}")
    os.fchmod(sock.fileno(), mode)  # what the file is made with
    try:
        sock.bind(temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
    try:
        os.chmod(temporary, mode)  # the umask may have taken some away
        sock.listen(backlog)
        _publish(temporary, name)
    finally:
        os.unlink(temporary)


def _publish(temporary: str, name: str) -> None:
    """Give the listening socket its name, in place of one that nobody listens at."""
    try:
        os.link(temporary, name)
        return
    except FileExistsError:
        pass
    with _locked(os.path.dirname(name) or os.curdir, name):
        _remove_stale(name)
        os.link(temporary, name)


@contextlib.contextmanager
def _locked(directory: str, name: str) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(20):  # whoever takes over a path here needs less than a millisecond
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.001)
        else:
            raise OSError(errno.EADDRINUSE, "another process has locked the directory of this path", name)
        yield
    finally:
        os.close(fd)


def _remove_stale(name: str) -> None:
    """Remove a socket that nobody listens at; raise where somebody does, or where it is no socket."""
    with contextlib.suppress(FileNotFoundError):
        known = os.lstat(name)
        if not stat.S_ISSOCK(known.st_mode):
            raise FileExistsError(errno.EEXIST, "is there and is no socket", name)
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_UNIX, kind) as probe:
                probe.setblocking(False)
                number = probe.connect_ex(name)
            if number not in (errno.ECONNREFUSED, errno.EPROTOTYPE, errno.ENOENT):
                raise OSError(errno.EADDRINUSE, "somebody listens at this path", name)
        unlink_if_same(name, known)
