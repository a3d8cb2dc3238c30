"""What the master holds at one address: one socket for all, one for each replica, or one that it was passed."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable

from ..kernel.listeners import Listener
from ..kernel.sockets import SocketStream
from .addresses import Address, TcpAddress, UnixAddress
from .listening import Place, listen_at
from .socket_activation import PassedSocket

Path = tuple[str, ...]

_WAITING = struct.Struct("8x16xI")  # tcpi_unacked of struct tcp_info: of a listening socket, who waits

logger: logging.Logger = logging.getLogger("aioipc.supervisor")


class HeldSocket(ABC):
    """One address that is listened at, and who uses it."""

    def __init__(self, address: str) -> None:
        self.address: str = address
        """Where it is, with the real port."""
        self.keys: set[Hashable] = set()
        """By what it is found."""
        self.users: Counter[Path] = Counter()
        """How many leases each child has."""

    @abstractmethod
    def descriptor(self, path: Path, slot: int) -> int:
        """Return the descriptor for the process in a slot of a child; it stays the master's."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

    def drop_slot(self, path: Path, slot: int) -> None:
        """Close what only this slot uses: nothing, where all use the same."""
        return

    def forget(self, path: Path) -> bool:
        """Take one lease of a child away; True where none is left of anybody."""
        self.users[path] -= 1
        self.users += Counter()  # without those at 0
        return not self.users


class OneForAll(HeldSocket):
    """One socket that all accept from."""

    def __init__(self, sock: socket.socket | Listener[SocketStream], address: Address) -> None:
        super().__init__(_real(sock, address))
        self._socket = sock
        if isinstance(sock, socket.socket):
            self.keys.add(Place.of(sock))

    def descriptor(self, path: Path, slot: int) -> int:
        """The same for all."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening; the path goes, if it is still ours."""
        self._socket.close()


class OnePath(OneForAll):
    """One UNIX socket that all accept from, at a path with permissions."""

    def __init__(self, sock: Listener[SocketStream], path: str, mode: int) -> None:
        super().__init__(sock, UnixAddress(path))
        self._path = path
        self._made = os.lstat(path)
        self.mode: int = mode
        """The permissions."""

    def change_mode(self, mode: int) -> None:
        """Give the path other permissions. Raises `OSError` as ``chmod(2)``; if it is not ours any more: nothing."""
        if mode != self.mode:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(self._path), self._made):
                    os.chmod(self._path, mode)
            self.mode = mode


class OneForEach(HeldSocket):
    """One socket for each replica of each child, at one TCP port (SO_REUSEPORT)."""

    def __init__(self, first: socket.socket, address: TcpAddress, user: tuple[Path, int], backlog: int) -> None:
        super().__init__(_real(first, address))
        self._place = Place.of(first)
        self._sockets = {user: first}
        self._backlog = backlog
        self.keys.add(self._place)

    def descriptor(self, path: Path, slot: int) -> int:
        """The one of this slot, made where there is none; whoever comes after in the slot gets the same."""
        if (found := self._sockets.get((path, slot))) is None:
            found = listen_at([self._place], backlog=self._backlog, reuse_port=True)
            self._sockets[path, slot] = found
        return found.fileno()

    def drop_slot(self, path: Path, slot: int) -> None:
        """Close the one of this slot."""
        if (found := self._sockets.pop((path, slot), None)) is not None:
            if (waiting := _waiting(found)) and not _migrates():
                text = "%d connections to %s waited for a replica that is gone for good, and are reset: %s"
                logger.warning(text, waiting, self.address, "net.ipv4.tcp_migrate_req=1 would give them to the others")
            found.close()

    def forget(self, path: Path) -> bool:
        """With the last lease of a child its sockets go."""
        nobody = super().forget(path)
        if path not in self.users:
            for slot in [slot for owner, slot in self._sockets if owner == path]:
                self.drop_slot(path, slot)
        return nobody

    def close(self) -> None:
        """Stop listening."""
        for each in self._sockets.values():
            each.close()


class Passed(HeldSocket):
    """One that the service manager has passed; it stays open when nobody uses it, for it could not be bound again."""

    def __init__(self, found: PassedSocket, sock: socket.socket) -> None:
        super().__init__(_text(sock))  # of two with one name it is told which
        self.keys.add(found)
        self._sock = sock

    def descriptor(self, path: Path, slot: int) -> int:
        """The same for all."""
        return self._sock.fileno()

    def close(self) -> None:
        """Leave it to its owner."""


def _real(sock: socket.socket | Listener[SocketStream], address: Address) -> str:
    """Return the address, with the port that it got."""
    if isinstance(sock, socket.socket) and isinstance(address, TcpAddress):
        return str(TcpAddress(address.host, sock.getsockname()[1]))
    return str(address)


def _text(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"unix://{name}" if sock.family == socket.AF_UNIX else str(TcpAddress(*name[:2]))


def _waiting(sock: socket.socket) -> int:
    return int(_WAITING.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.size))[0])


def _migrates() -> bool:
    try:
        with open("/proc/sys/net/ipv4/tcp_migrate_req") as file:
            return file.read().strip() != "0"
    except OSError:
        return False
