"""How the master makes one listening TCP socket, for the workers to accept from (``bind(2)``, ``listen(2)``)."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

from ..kernel.socket_base import new_socket
from ..kernel.sockets import addresses_of
from .addresses import Address, TcpAddress

BACKLOG = 2048
"""How many connections wait while nobody accepts; the kernel takes the lesser of this and ``net.core.somaxconn``."""
_TRY_NEXT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class Place:
    """What a TCP address means to ``bind(2)``."""

    family: int
    sockaddr: tuple[object, ...]
    both_families: bool = False
    """An IPv6 socket that takes IPv4 connections too."""

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Return where a socket is bound."""
        both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return cls(sock.family, sock.getsockname(), both)


async def resolve(address: Address) -> list[Place]:
    """Return what the address means, the first choice first; nothing where it is no address of TCP.

    No host means every interface, by IPv6 and IPv4, or by IPv4 where there is no IPv6. An IPv6 address means IPv6
    alone. Of the addresses of a host name the first one is taken that an interface has.

    Raises `socket.gaierror` where the name has no address. Cancelled: nothing has happened.
    """
    if not isinstance(address, TcpAddress):
        return []
    if not address.host:
        anywhere = Place(socket.AF_INET6, ("::", address.port, 0, 0), both_families=True)
        return [anywhere, Place(socket.AF_INET, ("0.0.0.0", address.port))]
    if _is_number(address.host):
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
        return [Place(family, sockaddr) for family, _, _, _, sockaddr in found]
    named = await addresses_of(address.host, address.port, flags=socket.AI_PASSIVE)
    return [Place(family, sockaddr) for family, _, _, sockaddr in named]


def listen_at(places: list[Place], *, backlog: int = BACKLOG, reuse_port: bool = False) -> socket.socket:
    """Listen at the first of several places that this machine has; ``reuse_port`` allows for more sockets there.

    The socket is non-blocking: of several processes that accept from it, all but one find nothing.
    Raises `OSError` as ``bind(2)`` and ``listen(2)`` do.
    """
    for place in places[:-1]:
        try:
            return _listen(place, backlog, reuse_port)
        except OSError as error:
            if error.errno not in _TRY_NEXT:
                raise
    return _listen(places[-1], backlog, reuse_port)


def _listen(place: Place, backlog: int, reuse_port: bool) -> socket.socket:
    sock = new_socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last run may linger
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if place.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not place.both_families)
        sock.bind(place.sockaddr)
        sock.listen(backlog)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
