"""Shared memory: anonymous and handed over by descriptor (``memfd_create(2)``), or with a name (``shm_overview(7)``).

Anonymous memory leaves nothing behind, however its users end: the kernel frees it with its last one. Its size is
sealed, so nobody can shorten it under the others.

Named memory is a file in /dev/shm, there until somebody removes it. It gets its name when it is whole: all of it
allocated, so that a full /dev/shm is an error here and no SIGBUS later, and never seen half-made.

Rejected: ``multiprocessing.shared_memory``, whose resource tracker removes what its process has only opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from dataclasses import dataclass
from typing import Self

from aioipc._sys.anonymous_file import open_anonymous_file, seal_size
from aioipc._sys.cgroup import memory_limit
from aioipc._sys.file_identity import file_identity
from aioipc._sys.leases import open_past_leases
from aioipc._sys.mappings import map_file
from aioipc._sys.procfs import available_memory
from aioipc.exceptions import UnsupportedPlatform

from .claims import Claim
from .free_descriptors import descriptor_limit, naming_the_limit
from .names import check_mode, check_posix_name, check_range, unlink_if_same
from .pipes import above_stdio
from .segment import Segment

_FOLDER = "/dev/shm"
_LARGEST = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class SharedMemoryStatistics:
    """Shared memory at one moment; after closing all is 0."""

    size: int  #: bytes
    allocated: int  #: bytes of memory that it takes at this moment


class SharedMemory(Segment):
    """Shared memory without a name, or with one; `create`, `open` or `from_descriptor` makes the object."""

    _fd = -1

    def __init__(self, fd: int, *, name: str | None, readonly: bool, claim: Claim | None) -> None:
        """Take over a descriptor of it; the class methods do that."""
        size = os.fstat(fd).st_size
        mapping = map_file(fd, size, readonly=readonly)
        label = f"shared memory {name}" if name else "anonymous shared memory"
        super().__init__(mapping, size, label, readonly=readonly)
        self._fd = fd
        self._claim = claim  # anonymous memory needs none
        self.name: str | None = name

    @classmethod
    def create(
        cls, size: int, *, name: str | None = None, exist_ok: bool = False, remove: bool = True, mode: int = 0o600
    ) -> Self:
        """Make shared memory of ``size`` bytes, all zero, at once.

        Without a ``name`` it is anonymous: give `fileno` to another process, which takes it by `from_descriptor`. With
        one, such as ``"/samples"``, anybody opens it who knows that and has the permissions ``mode`` (exactly these,
        whatever the umask). ``exist_ok`` opens one that is there already and has ``size`` bytes or more; nothing is
        removed then. ``remove`` takes the name away when this object is closed.

        Raises `FileExistsError` where there is one, `OSError` with ENOSPC where /dev/shm has not so much room, ENOMEM
        where the machine or the control group has not so much memory, `PermissionError`, `UnsupportedPlatform`,
        `TypeError` or `ValueError` for wrong arguments.
        """
        check_range("size", size, 1, _LARGEST)
        check_mode(mode)
        if name is None:
            _check_memory(size)
            with naming_the_limit("shared memory"):
                fd = above_stdio(open_anonymous_file("shared-memory", size, sealed=True))
            return cls._taking(fd, name=None)
        path = _path(name)
        while True:
            try:
                with Claim.begin("posix-memory", name, remove=remove) as claim:
                    fd = _create(path, size, mode, claim)
            except FileExistsError:
                if not exist_ok:
                    raise FileExistsError(errno.EEXIST, "exists already; exist_ok=True opens it", name) from None
            else:
                try:
                    return cls._taking(fd, name=name, claim=claim)
                except BaseException:
                    os.unlink(path)
                    claim.end(gone=True)
                    raise
            with contextlib.suppress(FileNotFoundError):  # removed since: make it after all
                return cls._open_large_enough(name, size)

    @classmethod
    def open(cls, name: str, *, readonly: bool = False) -> Self:
        """Open shared memory that exists, at once (``shm_open(3)``). Closing never removes it.

        ``readonly`` maps it so that writing is a `TypeError`, and needs the permission to read only.

        Raises `FileNotFoundError` where there is none, `PermissionError`, `BlockingIOError` where its maker has not
        given it a size yet, `UnsupportedPlatform`, `TypeError` or `ValueError` for a wrong name or kind of file.
        """
        path = _path(name)
        flags = (os.O_RDONLY if readonly else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = above_stdio(open_past_leases(lambda: os.open(path, flags)))
        except OSError as error:
            raise _explained(error, name) from None
        return cls._taking(fd, name=name, readonly=readonly)

    @classmethod
    def from_descriptor(cls, fd: int, *, readonly: bool = False) -> Self:
        """Take anonymous memory that another process has made and passed on; ``fd`` is this object's from then on.

        Raises `OSError` with EBADF where it is not open, `PermissionError` where it is open for reading only and
        ``readonly`` is not set, `TypeError` or `ValueError` for anything that is no file with a size.
        """
        check_range("fd", fd, 0, (1 << 31) - 1)
        _check_file(fd, f"descriptor {fd}")
        os.set_inheritable(fd, False)
        seal_size(fd)
        return cls(above_stdio(fd), name=None, readonly=readonly, claim=None)

    @classmethod
    def _taking(cls, fd: int, *, name: str | None, readonly: bool = False, claim: Claim | None = None) -> Self:
        """Take over the descriptor, or close it."""
        try:
            _check_file(fd, name or "")
            if name is not None and claim is None:
                claim = Claim.join("posix-memory", name, file=file_identity(fd))
                if not os.fstat(fd).st_nlink:  # a clean-up was at it, for which joining waits
                    raise _explained(FileNotFoundError(errno.ENOENT, ""), name)
            return cls(fd, name=name, readonly=readonly, claim=claim)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def _open_large_enough(cls, name: str, size: int) -> Self:
        found = cls.open(name)
        if found.size < size:
            found.close()
            raise ValueError(f"the shared memory {name} exists and has {found.size} bytes, not {size}")
        return found

    def fileno(self) -> int:
        """Return the descriptor, which stays the object's own: for ``pass_fds=`` of a child, or a UNIX socket.

        Raises `ClosedResourceError` after closing.
        """
        self._open()
        return self._fd

    def statistics(self) -> SharedMemoryStatistics:
        """Return how large it is, and what it takes of the machine's memory."""
        if self._fd < 0:
            return SharedMemoryStatistics(0, 0)
        found = os.fstat(self._fd)
        return SharedMemoryStatistics(found.st_size, found.st_blocks * 512)

    def is_removed(self) -> bool:
        """Return True where no name leads to it, as with anonymous memory.

        Raises `ClosedResourceError` after closing.
        """
        return self.name is None or os.fstat(self.fileno()).st_nlink == 0

    def remove(self) -> None:
        """Take the name away now (``shm_unlink(3)``), also where it was there before; gone already: do nothing.

        Who has the memory open keeps it.
        Raises `PermissionError` for somebody else's, `ClosedResourceError` after closing.
        """
        if self.name is not None:
            unlink_if_same(_path(self.name), os.fstat(self.fileno()))
            if self._claim is not None:
                self._claim.forget()

    def _before_unmapping(self) -> None:
        if self._claim is not None and self._claim.removes and self.name is not None:
            unlink_if_same(_path(self.name), os.fstat(self._fd))

    def _after_unmapping(self) -> None:
        fd, self._fd = self._fd, -1
        if self._claim is not None:
            self._claim.end(gone=not os.fstat(fd).st_nlink)
        os.close(fd)


def _path(name: str) -> str:
    check_posix_name(name)
    if sys.platform != "linux":
        raise UnsupportedPlatform("shared memory with a name is supported on Linux only")
    return _FOLDER + name


def _create(path: str, size: int, mode: int, claim: Claim) -> int:
    """Make the file without a name, allocate it, then give it its name; `FileExistsError` where there is one."""
    if os.path.lexists(path):
        raise FileExistsError
    _check_memory(size)
    name = path.removeprefix(_FOLDER)
    try:
        fd, temporary = _open_unnamed(claim)
    except OSError as error:
        raise _explained(error, name) from None
    try:
        try:
            os.posix_fallocate(fd, 0, size)
            os.fchmod(fd, mode)
            claim.complete(file=file_identity(fd))
            if temporary:
                os.link(temporary, path)
            else:
                os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)  # src_dir_fd: or Python does not follow the link
        finally:
            if temporary:
                os.unlink(temporary)
    except OSError as error:
        os.close(fd)
        raise _explained(error, name, size) from None
    return fd


def temporary_path(token: str) -> str:
    """Return how a file in /dev/shm is called before it gets its name, where it cannot be made without one."""
    return f"{_FOLDER}/aioipc-{token}"


def _open_unnamed(claim: Claim) -> tuple[int, str | None]:
    """Open a new file in /dev/shm: without a name, else with one that nobody guesses, which is returned too."""
    if os.access("/proc/self/fd", os.X_OK):
        with contextlib.suppress(AttributeError, OSError):
            return above_stdio(os.open(_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)), None
    temporary = temporary_path(claim.token)
    return above_stdio(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)), temporary


def _check_memory(size: int) -> None:
    """Refuse what would make the kernel kill processes, since the allocation of a memfd knows no limit."""
    limits = [limit for limit in (available_memory(), memory_limit()) if limit is not None]
    if limits and size > min(limits):
        text = f"shared memory of {size} bytes is more than the {min(limits)} bytes that are available"
        raise OSError(errno.ENOMEM, text)


def _check_file(fd: int, what: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{what} is no shared memory but another kind of file")
    if not found.st_size:
        raise BlockingIOError(errno.EAGAIN, "has no size yet: its maker has not called ftruncate(2)", what)


def _explained(error: OSError, name: str, size: int = 0) -> OSError:
    """Say what it means, and which limit it was."""
    number = error.errno or errno.EIO
    text = os.strerror(number)
    if number == errno.ENOENT:
        text = "there is no shared memory of this name"
    elif number == errno.EACCES:
        text = "the permissions of this shared memory forbid it"
    elif number == errno.ELOOP:
        text = "is a symbolic link, not shared memory"
    elif limit := descriptor_limit(number):
        text = f"no descriptor is free: {limit}"
    elif number == errno.ENOSPC:
        room = os.statvfs(_FOLDER)
        free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        text = f"{size} bytes do not fit in {_FOLDER}, where {free} of {total} are free"
    return OSError(number, text, name)
