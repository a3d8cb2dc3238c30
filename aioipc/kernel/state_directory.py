"""The state directory: where aioipc keeps what must outlive a process.

It is what AIOIPC_STATE_DIR says. Without that it is ``aioipc`` in RUNTIME_DIRECTORY (which systemd gives a service) or
in XDG_RUNTIME_DIR (which a login gives a user), else ``aioipc-UID`` in the temporary directory. A relative path would
be another one whenever a process changes its working directory: the first is refused then, the others do not count.

It must be a directory of this user alone. In a temporary directory anybody can make one of that name, or a link; so it
is opened without following links, looked at when open, and everything is done by its descriptor from then on.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .free_descriptors import descriptor_limit

VARIABLE = "AIOIPC_STATE_DIR"

logger: logging.Logger = logging.getLogger("aioipc.owners")
logging.getLogger("aioipc").addHandler(logging.NullHandler())  # what is said is the program's to show

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_said: set[str] = set()


class Candidate(NamedTuple):
    """A place where the state directory may be."""

    path: str
    forbidden: int  #: permissions that nobody but the owner may have


class StateDirectory(NamedTuple):
    """An open state directory, which is of this user alone."""

    path: str
    fd: int


def candidates() -> list[Candidate]:
    """Return where the state directory may be, the best place first."""
    if explicit := os.environ.get(VARIABLE):
        return [Candidate(explicit, 0o022)]
    found = []
    for parent in (os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0], os.environ.get("XDG_RUNTIME_DIR", "")):
        if os.path.isabs(parent) and _is_ours(parent):
            found.append(Candidate(os.path.join(parent, "aioipc"), 0o077))
    try:
        found.append(Candidate(os.path.join(tempfile.gettempdir(), f"aioipc-{os.geteuid()}"), 0o077))
    except FileNotFoundError:  # there is no directory that can be written to
        pass
    return found


def create_file(name: str) -> tuple[int, str] | None:
    """Make a file in the state directory, which is made too where it is missing; return its descriptor and path.

    ``None`` where that can be done nowhere, which is said once. Raises `OSError` with EMFILE or ENFILE where there are
    no descriptors left.
    """
    refusals = []
    for candidate in candidates():
        try:
            directory = _open(candidate, create=True)
            try:
                fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            if descriptor_limit(error.errno) is not None:
                raise
            refusals.append(f"{candidate.path}: {error.strerror}")
        else:
            return fd, os.path.join(candidate.path, name)
    warn_once("; ".join(refusals) or f"no temporary directory can be written to, and {VARIABLE} is not set")
    return None


def usable() -> Iterator[str]:
    """Go through the state directories, the best first, each made where it is missing; those that cannot be used are
    left out.
    """
    for candidate in candidates():
        try:
            os.close(_open(candidate, create=True))
        except OSError as error:
            if descriptor_limit(error.errno) is not None:
                raise
        else:
            yield candidate.path


@contextmanager
def existing() -> Iterator[list[StateDirectory]]:
    """Give all state directories that are there, open. One that is not of this user alone is left out, with a warning.

    Raises the `OSError` where AIOIPC_STATE_DIR leads to such a one.
    """
    found: list[StateDirectory] = []
    try:
        for candidate in candidates():
            try:
                found.append(StateDirectory(candidate.path, _open(candidate, create=False)))
            except FileNotFoundError:
                pass
            except OSError as error:
                if os.environ.get(VARIABLE) or descriptor_limit(error.errno) is not None:
                    raise
                say_once(f"{candidate.path} is left out as a state directory: {error.strerror}")
        yield found
    finally:
        for each in found:
            os.close(each.fd)


def warn_once(why: str) -> None:
    """Say, once in the life of the process, that objects are made without a record of their owner."""
    say_once("objects are made without owner records, so remove_orphans() will not find them", why)


def say_once(text: str, why: str = "") -> None:
    """Warn of something, unless that was done before in this process, for whatever reason."""
    if text not in _said:
        _said.add(text)
        logger.warning("%s", f"{text}: {why}" if why else text)


def _open(candidate: Candidate, *, create: bool) -> int:
    path = candidate.path
    if not os.path.isabs(path):
        raise OSError(errno.EINVAL, f"is relative; set {VARIABLE} to an absolute path", path)
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        if not create:
            raise
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # somebody else was quicker
            pass
        fd = os.open(path, _OPEN)
    except NotADirectoryError:
        raise NotADirectoryError(errno.ENOTDIR, "is no directory, or a symbolic link to one", path) from None
    try:
        _check(fd, candidate)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(fd: int, candidate: Candidate) -> None:
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        text = f"belongs to uid {found.st_uid} and not to uid {os.geteuid()}; set {VARIABLE} to a directory of yours"
        raise PermissionError(errno.EPERM, text, candidate.path)
    if found.st_mode & candidate.forbidden:
        text = f"others may use it (mode {stat.S_IMODE(found.st_mode):#o}); chmod 700 it, or set {VARIABLE} to another"
        raise PermissionError(errno.EPERM, text, candidate.path)


def _is_ours(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False
