"""A file without a name: shared by descriptor, freed by the kernel with its last user."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import tempfile
from collections.abc import Callable, Iterator

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None)


def open_anonymous_file(label: str, size: int = 0, *, sealed: bool = False) -> int:
    """Open an anonymous file of ``size`` bytes (close-on-exec) and return its descriptor.

    It is a memfd (memfd_create(2)); where the kernel refuses that, as seccomp filters may, an unlinked
    file in the first of /dev/shm, TMPDIR, /tmp, /var/tmp and the working directory that takes one.
    ``label`` is what /proc/PID/maps shows. ``sealed`` fixes the size of a memfd for ever: whoever gets the descriptor
    cannot shorten it and so end by SIGBUS everybody who has it mapped.

    Raises OSError where none of them can be had (ENOSPC where all are full), naming what was tried.
    """
    refusals: list[str] = []
    numbers: list[int] = []
    for name, opener in _ways(label, sealed):
        try:
            fd = _sized(opener(), size)
        except OSError as error:
            refusals.append(f"{name}: {error.strerror}")
            numbers.append(error.errno or errno.EIO)
        else:
            if sealed:
                seal_size(fd)
            return fd
    number = errno.ENOSPC if errno.ENOSPC in numbers else numbers[-1]
    raise OSError(number, f"no anonymous shared file of {size} bytes to be had: " + "; ".join(refusals))


def seal_size(fd: int) -> None:
    """Fix the size of the file for ever, where it is of the kind that can be sealed (fcntl(2), F_ADD_SEALS)."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def discard_front(fd: int, size: int) -> None:
    """Give the memory, or the disk blocks, of the first ``size`` bytes of a file back; they read as zeros then.

    The size and the offset stay as they are (fallocate(2), FALLOC_FL_PUNCH_HOLE). A file system or a system that
    cannot do this keeps them.
    """
    call = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
    if call is not None:
        call(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size))


def _ways(label: str, sealed: bool) -> Iterator[tuple[str, Callable[[], int]]]:
    if hasattr(os, "memfd_create"):
        flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealed else 0)
        yield "memfd_create", lambda: os.memfd_create(f"aioipc-{label}", flags)
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for folder in ["/dev/shm", *named, "/tmp", "/var/tmp", os.curdir]:
        yield folder, functools.partial(_open_unlinked, folder)


def _sized(fd: int, size: int) -> int:
    """Reserve the space now: a full file system is an error here, not a SIGBUS later."""
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_unlinked(folder: str) -> int:
    with contextlib.suppress(AttributeError, OSError):
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fd, path = tempfile.mkstemp(prefix="aioipc-", dir=folder)
    os.unlink(path)
    return fd
