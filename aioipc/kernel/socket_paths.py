"""How a UNIX socket gets its path, also in place of one that a dead process has left.

A UNIX socket leaves its path behind when its process is killed. Such a path is taken over, and only such a one: where
somebody listens, or where it is no socket, it is an error. Nobody but a connection can tell, so it is tried.

A program that has bound its socket and does not listen yet would look dead then. So ours is bound to another name in
the same directory, and gets its own by ``link(2)`` when it listens. The directory is locked (``flock(2)``) while a path
is taken over, so that two programs that start at once do not remove each other's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from aioipc._sys.file_identity import file_identity
from aioipc._sys.file_locks import flock_within

from .claims import UNFINISHED, Claim
from .names import unlink_if_same
from .owner_records import PATIENCE, discard


def bind_datagram(sock: socket.socket, name: str, mode: int, claim: Claim) -> None:
    """Bind a datagram socket to its path, in place of one that nobody has open; it can be sent to at once."""
    os.fchmod(sock.fileno(), mode | UNFINISHED)  # what the file is made with
    try:
        sock.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(error.errno, error.strerror, name) from None
        with locked(os.path.dirname(name) or os.curdir, name):
            remove_stale(name)
            sock.bind(name)
    claim.complete(file=file_identity(name))
    os.chmod(name, mode)  # the umask may have taken some away


def bind_listening(sock: socket.socket, name: str, mode: int, backlog: int, claim: Claim) -> None:
    """Bind the socket, have it listen, and only then let it be found at its path."""
    temporary = temporary_path(name, claim.token)
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
        claim.complete(file=file_identity(temporary))
        _publish(temporary, name)
    finally:
        os.unlink(temporary)


def temporary_path(name: str, token: str) -> str:
    """Return how a socket is called before it listens."""
    return os.path.join(os.path.dirname(name), f".{token[:8]}")


def _publish(temporary: str, name: str) -> None:
    """Give the listening socket its name, in place of one that nobody listens at."""
    try:
        os.link(temporary, name)
        return
    except FileExistsError:
        pass
    with locked(os.path.dirname(name) or os.curdir, name):
        remove_stale(name)
        os.link(temporary, name)


@contextlib.contextmanager
def locked(directory: str, name: str) -> Iterator[None]:
    """Keep others from taking over a path in a directory; `OSError` with EADDRINUSE where they are long at it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not flock_within(PATIENCE, fd, shared=False):
            raise OSError(errno.EADDRINUSE, "another process has locked the directory of this path", name)
        yield
    finally:
        os.close(fd)


def remove_stale(name: str) -> None:
    """Remove a socket that nobody listens at; raise where somebody does, or where it is no socket."""
    with contextlib.suppress(FileNotFoundError):
        known = os.lstat(name)
        if not stat.S_ISSOCK(known.st_mode):
            raise FileExistsError(errno.EEXIST, "is there and is no socket", name)
        if answers(name):
            raise OSError(errno.EADDRINUSE, "somebody listens at this path", name)
        file = file_identity(name)
        unlink_if_same(name, known)
        with contextlib.suppress(OSError):  # then the next clean-up does it
            discard("unix-socket", os.path.abspath(name), file)


def answers(name: str) -> bool:
    """Return True where somebody has the socket at a path open, and cannot be shown not to."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            if probe.connect_ex(name) not in (errno.ECONNREFUSED, errno.EPROTOTYPE, errno.ENOENT):
                return True
    return False
