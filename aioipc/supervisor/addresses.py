"""The addresses of listeners as text (pure): ``tcp://host:port``, ``unix:///path`` and ``fd://name``.

    tcp://127.0.0.1:8000    tcp://[::1]:8000    tcp://localhost:0 (any free port)    tcp://:8000 (all interfaces)
    unix:///run/app.sock    unix://app.sock (relative to the master's directory)
    unix:///run/app.sock?mode=660 (the permissions of the path, in octal; who may write may connect)
    fd://web (the socket of that name which the service manager has passed)    fd://3 (descriptor 3, the first of them)

Nothing is looked up here: a host name is a name until somebody listens. The port is never left out, since there is no
usual one; what is between ``unix://`` and a "?" is the path, as it stands, so that no character of it needs quoting.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ..kernel.names import check_mode, check_range
from ..kernel.socket_base import check_path

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_MODE = re.compile(r"mode=(?:0o)?([0-7]{3,4})")
_PASSED_NAME = re.compile(r"[!-9;-~]{1,255}")  # what LISTEN_FDNAMES may hold: printable, without its separator
_FORMS = "'tcp://host:port' (IPv6: 'tcp://[::1]:8000'), 'unix:///path' or 'fd://name'"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port. ``host`` is a name or an IP address without brackets, "" every interface; port 0 is a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a UNIX socket, and its permissions; ``None`` where the address leaves them to the master."""

    path: str
    mode: int | None = None

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.mode is None else f"unix://{self.path}?mode={self.mode:o}"


@dataclass(frozen=True, slots=True)
class PassedAddress:
    """A listening socket that the service manager has passed (``sd_listen_fds(3)``).

    ``name`` is that of LISTEN_FDNAMES (FileDescriptorName= of the socket unit), or a decimal number from 3 on.
    """

    name: str

    def __str__(self) -> str:
        return f"fd://{self.name}"

    @property
    def number(self) -> int | None:
        """The descriptor, where the name is a number."""
        return int(self.name) if self.name.isdecimal() else None


Address = TcpAddress | UnixAddress | PassedAddress


def parse_address(text: object) -> Address:
    """Return the address that the text means; its ``str()`` means the same.

    Raises `TypeError` where it is no text, `ValueError` that shows what is wrong with it.
    """
    if not isinstance(text, str):
        raise TypeError(f"an address must be a str such as {_FORMS}, not {text!r}")
    scheme, separator, rest = text.partition("://")
    try:
        if separator and scheme == "tcp":
            return _tcp(rest)
        if separator and scheme == "unix":
            return _unix(rest)
        if separator and scheme == "fd":
            return _passed(rest)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address: {error}") from None
    raise ValueError(f"{text!r} is no address; it must be {_FORMS}")


def _unix(rest: str) -> UnixAddress:
    path, separator, options = rest.partition("?")
    if not separator:
        return UnixAddress(check_path(path))
    if (found := _MODE.fullmatch(options)) is None:
        raise ValueError(
            f"behind a '?' stand the permissions of the path in octal, as in '?mode=660', not {options!r}; "
            "a path with a '?' in it cannot be written here"
        )
    return UnixAddress(check_path(path), check_mode(int(found[1], 8)))


def _passed(rest: str) -> PassedAddress:
    if not _PASSED_NAME.fullmatch(rest):
        raise ValueError(f"a name must be 1 to 255 printable characters without ':', not {rest!r}")
    if rest.isdecimal() and not (len(rest) < 7 and int(rest) >= 3):
        raise ValueError(f"the descriptors that are passed begin with 3, not {rest}")
    return PassedAddress(rest)


def _tcp(rest: str) -> TcpAddress:
    host, separator, port = rest.rpartition(":")
    if not separator or "]" in port:
        raise ValueError("it has no port")
    if not (port.isascii() and port.isdecimal()) or len(port) > 5:
        raise ValueError(f"the port must be a number between 0 and 65535, not {port!r}")
    return TcpAddress(_host(host), check_range("the port", int(port), 0, 65535))


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise ValueError(f"{host!r} holds no IPv6 address ({error})") from None
        return host[1:-1]
    if ":" in host:
        raise ValueError(f"an IPv6 address stands in brackets, as in 'tcp://[{host}]:8000'")
    if host and not (_is_ipv4(host) if re.fullmatch(r"[0-9.]+", host) else _HOST_NAME.fullmatch(host)):
        raise ValueError(f"{host!r} is neither the name nor the address of a host")
    return host


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
