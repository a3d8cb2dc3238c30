"""The TCP ports of this network namespace that somebody listens at, from ``/proc/net/tcp`` (``proc(5)``)."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from typing import NamedTuple

_LISTEN = b"0A"  # TCP_LISTEN of include/net/tcp_states.h


class ListeningPort(NamedTuple):
    """One listening socket."""

    host: str  #: its IPv4 or IPv6 address; "0.0.0.0" or "::" for every interface
    port: int
    uid: int  #: the user who has made it
    inode: int


def listening_ports(port: int) -> list[ListeningPort]:
    """Return who listens at a port, on whatever address; nobody where there is no such table."""
    return [each for path in ("/proc/net/tcp", "/proc/net/tcp6") for each in _rows(path) if each.port == port]


def _rows(path: str) -> Iterator[ListeningPort]:
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        _, local, _, state, _, _, _, uid, _, inode = line.split()[:10]
        if state == _LISTEN:
            host, port = local.decode().split(":")
            yield ListeningPort(_address(host), int(port, 16), int(uid), int(inode))


def _address(text: str) -> str:
    """The kernel writes the bytes of an address as hexadecimal words of 32 bits, each in its own byte order."""
    words = bytes.fromhex(text)
    packed = b"".join(words[at : at + 4][:: -1 if sys.byteorder == "little" else 1] for at in range(0, len(words), 4))
    return str(ipaddress.ip_address(packed))
