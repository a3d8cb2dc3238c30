"""Why the master cannot listen somewhere, in words that say what to do; where it can be seen, who is there already."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from .._sys.open_files import command, scan
from .._sys.tcp_sockets import ListeningPort, listening_ports
from .._sys.unix_sockets import named_sockets
from .addresses import Address, TcpAddress, UnixAddress

_EVERYWHERE = ("0.0.0.0", "::")


def explained(error: OSError, address: Address, where: str) -> OSError:
    """Return the error of the same class and number, with what it means there; ``where`` is the child and the field."""
    text = error.strerror or os.strerror(error.errno or 0)
    text = f"{where}: cannot listen at {address}: {text}{_advice(error.errno, address)}"
    return socket.gaierror(error.errno, text) if isinstance(error, socket.gaierror) else OSError(error.errno, text)


def _advice(number: int | None, address: Address) -> str:
    match number, address:
        case errno.EADDRINUSE, _:
            what = "path" if isinstance(address, UnixAddress) else "port"
            return f"; {who_listens(address)}: stop it, or choose another {what}"
        case errno.EACCES, TcpAddress(port=port):
            least = _unprivileged()
            if port and port < least:
                return (
                    f"; ports below {least} need CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start"
                )
        case ((errno.EACCES | errno.EPERM | errno.EROFS), UnixAddress(path=path)):
            return f"; {os.path.dirname(os.path.abspath(path))} must be writable for uid {os.geteuid()}"
        case errno.ENOENT, UnixAddress(path=path):
            return f"; make the directory {os.path.dirname(os.path.abspath(path))} first"
        case errno.EEXIST, UnixAddress():
            return "; remove it, or choose another path"
        case errno.EADDRNOTAVAIL, TcpAddress():
            return "; no interface of this machine has this address"
    return ""


def who_listens(address: Address) -> str:
    """Return who listens at an address, as far as this process may see it."""
    if isinstance(address, TcpAddress):
        there = [each for each in listening_ports(address.port) if _meets(each, address)]
        inodes, users = {each.inode for each in there}, {each.uid for each in there}
    elif isinstance(address, UnixAddress):
        path = os.path.abspath(address.path)
        inodes = {each.inode for each in named_sockets() or () if each.listening and os.path.abspath(each.name) == path}
        users = set()
    else:
        inodes, users = set(), set()
    if inodes and (pids := _holders(inodes)):
        return f"{_named(pids)} {'listens' if len(pids) == 1 else 'listen'} there"
    if users:
        return f"a process of uid {min(users)} listens there, which this one may not look at"
    return "another process has it, which cannot be seen from here"


def _meets(found: ListeningPort, address: TcpAddress) -> bool:
    try:
        wanted = {
            str(each[4][0]) for each in socket.getaddrinfo(address.host or None, None, flags=socket.AI_NUMERICHOST)
        }
    except OSError:  # a name: rather too many than too few
        return True
    return not address.host or found.host in wanted or found.host in _EVERYWHERE or bool(wanted & {*_EVERYWHERE})


def _holders(inodes: Iterable[int]) -> list[int]:
    try:
        sockets = scan(mappings=False).sockets
    except OSError:  # no descriptors left to look with
        return []
    return sorted({pid for inode in inodes for pid in sockets.get(inode, {})})


def _named(pids: list[int]) -> str:
    shown = [f"{command(pid) or '?'} (pid {pid}{', this process' if pid == os.getpid() else ''})" for pid in pids[:4]]
    more = f" and {len(pids) - 4} more" if len(pids) > 4 else ""
    return ", ".join(shown) + more


def _unprivileged() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024
