"""POSIX named semaphores by ctypes (``sem_overview(7)``), which Python does not offer.

The C library keeps one as a small file that is mapped into memory. Using one after it was closed, or one whose file is
too short, would end the process by a signal, so both are refused here.
"""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from pathlib import Path

from aioipc.exceptions import ClosedResourceError, UnsupportedPlatform

from .file_identity import FileIdentity, file_identity
from .library import failure, library_with

LARGEST_VALUE = (1 << 31) - 1  # SEM_VALUE_MAX
_SIZE = 4 * ctypes.sizeof(ctypes.c_long)  # sizeof (sem_t) of glibc

_lib = library_with("sem_open", "libpthread.so.0")
if _lib is not None:
    _lib.sem_open.restype = ctypes.c_void_p
    _lib.sem_close.argtypes = _lib.sem_post.argtypes = _lib.sem_trywait.argtypes = [ctypes.c_void_p]
    _lib.sem_getvalue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


class NamedSemaphore:
    """An open semaphore. Any thread may use it; the lock is why none finds it unmapped under its hands."""

    def __init__(self, name: str, address: int) -> None:
        self.name: str = name
        self.identity: FileIdentity | None = identity(name)
        self._lock = threading.RLock()  # a signal handler may come in between
        self._address: int | None = address

    def try_wait(self) -> None:
        """Take one, or raise `BlockingIOError` (``sem_trywait(3)``)."""
        with self._lock:
            if _library().sem_trywait(self._open()):
                raise failure()

    def post(self) -> None:
        """Give one (``sem_post(3)``); OSError EOVERFLOW at `LARGEST_VALUE`."""
        with self._lock:
            if _library().sem_post(self._open()):
                raise failure()

    def value(self) -> int:
        """Return how many there are to take (``sem_getvalue(3)``)."""
        value = ctypes.c_int()
        with self._lock:
            if _library().sem_getvalue(self._open(), ctypes.byref(value)):
                raise failure()
        return value.value

    def close(self) -> None:
        """Unmap it (``sem_close(3)``); closed already: do nothing."""
        with self._lock:
            address, self._address = self._address, None
            if address is not None and _library().sem_close(address):
                raise failure()

    def _open(self) -> int:
        if self._address is None:
            raise ClosedResourceError(f"the POSIX semaphore {self.name} is closed")
        return self._address


def create_semaphore(name: str, mode: int, value: int) -> NamedSemaphore:
    """Make a semaphore of this value, at once; `FileExistsError` where there is one. Raises as ``sem_open(3)``."""
    flags = os.O_CREAT | os.O_EXCL
    return _opened(name, _library().sem_open(os.fsencode(name), flags, ctypes.c_uint(mode), ctypes.c_uint(value)))


def set_mode(name: str, mode: int) -> None:
    """Set the permissions of a semaphore, where its file can be seen."""
    if identity(name) is not None:
        os.chmod(path_of(name), mode)


def open_semaphore(name: str) -> NamedSemaphore:
    """Open the semaphore of that name. Raises as ``sem_open(3)``, and ValueError for a file that is none."""
    while True:
        before = identity(name)
        try:
            found = os.lstat(path_of(name))
        except OSError:
            pass  # sem_open says what is wrong
        else:
            if not stat.S_ISREG(found.st_mode) or found.st_size < _SIZE:
                raise ValueError(f"{path_of(name)} is no semaphore: it has {found.st_size} bytes and not {_SIZE}")
        opened = _opened(name, _library().sem_open(os.fsencode(name), 0))
        if opened.identity == before:
            return opened
        opened.close()  # the name has come to lead to another one meanwhile, or nowhere; which was opened?


def unlink_semaphore(name: str) -> None:
    """Take the name away; who has the semaphore open keeps it. Raises as ``sem_unlink(3)``."""
    if _library().sem_unlink(os.fsencode(name)):
        raise failure()


def identity(name: str) -> FileIdentity | None:
    """Return which file the name leads to now; None where it leads nowhere."""
    try:
        return file_identity(str(path_of(name)))
    except OSError:
        return None


def path_of(name: str) -> Path:
    """Return where glibc keeps the semaphore of that name."""
    return Path("/dev/shm/sem." + name[1:])


def _opened(name: str, address: int | None) -> NamedSemaphore:
    if not address:
        raise failure()
    return NamedSemaphore(name, address)


def _library() -> ctypes.CDLL:
    if _lib is None:
        raise UnsupportedPlatform("this system has no POSIX named semaphores (no sem_open in its C library)")
    return _lib
