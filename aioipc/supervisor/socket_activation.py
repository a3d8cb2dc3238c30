"""Listening sockets that the service manager has opened before it started the master (``sd_listen_fds(3)``).

They are descriptors from 3 on; LISTEN_FDS says how many, LISTEN_FDNAMES how they are called, and LISTEN_PID for which
process they are. The variables go, so that no child takes them for its own.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from .addresses import Address, PassedAddress, UnixAddress
from .listening import Place

FIRST = 3
"""SD_LISTEN_FDS_START"""
_MOST = 1 << 16
_VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6", socket.AF_UNIX: "UNIX"}

logger: logging.Logger = logging.getLogger("aioipc.supervisor")


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """One descriptor that was passed."""

    number: int
    name: str
    """"unknown" where it has none; several may have the same."""
    sock: socket.socket | None
    """``None`` where it is nothing that a connection can be accepted from."""
    fault: str = ""
    """What it is instead."""

    def __str__(self) -> str:
        return f"descriptor {self.number} ({self.name!r})"


class PassedSockets:
    """What was passed to this process; `take_passed_sockets` makes it. They stay open until it is closed."""

    def __init__(self, sockets: tuple[PassedSocket, ...] = ()) -> None:
        self._sockets = sockets

    def __iter__(self) -> Iterator[PassedSocket]:
        return iter(self._sockets)

    def __len__(self) -> int:
        return len(self._sockets)

    def named(self, address: PassedAddress) -> PassedSocket:
        """Return the one with this name or number. Raises `ValueError` that says which there are."""
        number = address.number
        found = [each for each in self if (each.name == address.name if number is None else each.number == number)]
        if len(found) > 1:
            numbers = " or ".join(f"fd://{each.number}" for each in found)
            raise ValueError(f"{address}: several sockets have this name; write {numbers}")
        if not found:
            known = ", ".join(map(str, self)) or "none: the variable LISTEN_FDS is not set for it"
            raise ValueError(f"{address}: no such socket was passed to this process; passed were {known}")
        if found[0].sock is None:
            raise ValueError(f"{address}: {found[0]} {found[0].fault}")
        return found[0]

    def bound_to(self, address: Address, places: list[Place]) -> PassedSocket | None:
        """Return the one that listens at an address already, if there is one."""
        for each in self:
            if each.sock is not None and _listens_at(each.sock, address, places):
                return each
        return None

    def close(self) -> None:
        """Close all of them here; the service manager has its own."""
        for each in self:
            if each.sock is not None:
                each.sock.close()


def take_passed_sockets(environ: MutableMapping[str, str] | None = None) -> PassedSockets:
    """Take what the service manager has passed to this process, and remove the variables that say so.

    So it is done once; where nothing was passed, or to another process, the result is empty. The sockets are
    non-blocking and close-on-exec from then on. ``environ`` is ``os.environ`` by default.

    Raises `ValueError` where LISTEN_PID or LISTEN_FDS holds no such number. A descriptor that cannot be listened with
    is an error when an address names it.
    """
    variables = os.environ if environ is None else environ
    pid, _, count, names = (variables.pop(name, None) for name in _VARIABLES)
    if pid is None or count is None:
        return PassedSockets()
    if _number("LISTEN_PID", pid) != os.getpid():
        text = "%s sockets were passed to process %s, and not to this one (%d): start it directly, or by exec"
        logger.warning(text, count, pid, os.getpid())
        return PassedSockets()
    numbers = range(FIRST, FIRST + _number("LISTEN_FDS", count))
    known = names.split(":") if names else []
    if len(known) != len(numbers):
        known = ["unknown"] * len(numbers)
    return PassedSockets(tuple(map(_passed, numbers, known)))


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or (name == "LISTEN_FDS" and int(text) > _MOST):
        raise ValueError(f"the environment variable {name} must be a number, not {text!r}")
    return int(text)


def _passed(number: int, name: str) -> PassedSocket:
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        fault = "is not open" if error.errno == errno.EBADF else "is no socket"
        return PassedSocket(number, name, None, fault)
    if fault := _fault(sock):
        sock.detach()  # it stays open: what it is for, nobody here knows
        return PassedSocket(number, name, None, fault)
    sock.setblocking(False)
    return PassedSocket(number, name, sock)


def _fault(sock: socket.socket) -> str:
    if sock.family not in _FAMILIES:
        return f"is a socket of family {sock.family}, and not one of {', '.join(_FAMILIES.values())}"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen (its unit must have ListenStream= and Accept=no)"
    return ""


def _listens_at(sock: socket.socket, address: Address, places: list[Place]) -> bool:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        if not isinstance(address, UnixAddress) or path.startswith("\0"):
            return False
        return os.path.abspath(path) == os.path.abspath(address.path)
    return any(place.family == sock.family and place.sockaddr[:2] == name[:2] for place in places)
