"""The UNIX sockets of this network namespace that have a name, from ``/proc/net/unix`` (``unix(7)``)."""

from __future__ import annotations

import socket
from typing import NamedTuple

from .exhaustion import raise_if_exhausted

_ACCEPTS = 1 << 16  # __SO_ACCEPTCON: it listens


class NamedSocket(NamedTuple):
    """One end that is bound, or that was accepted from one that is and bears its name."""

    name: str
    """The path as it was bound, which may be relative; "@" stands for each zero byte of an abstract name."""
    type: int
    listening: bool
    inode: int


def named_sockets() -> list[NamedSocket] | None:
    """Return the sockets with a name; None where there is no such table."""
    try:
        with open("/proc/net/unix", "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError as error:
        raise_if_exhausted(error)
        return None
    found = []
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) == 8:  # a name with a newline goes on in a line of its own, which has fewer
            flags, kind = int(fields[3], 16), int(fields[4], 16)
            name = fields[7].decode("utf-8", "surrogateescape")
            found.append(NamedSocket(name, kind, bool(flags & _ACCEPTS), int(fields[6])))
    return found


def type_name(number: int) -> str:
    """Return what a type is called: stream, dgram, seqpacket."""
    try:
        return socket.SocketKind(number).name.removeprefix("SOCK_").lower()
    except ValueError:
        return str(number)
