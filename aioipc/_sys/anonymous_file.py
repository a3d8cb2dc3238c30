"""A file without a name: shared by descriptor, freed by the kernel with its last user."""

from __future__ import annotations

import contextlib
import os
import tempfile


def open_anonymous_file(label: str, size: int = 0) -> int:
    """Open an anonymous file of ``size`` bytes (close-on-exec) and return its descriptor.

    It is a memfd (memfd_create(2)); where the kernel refuses that, as seccomp filters may, an unlinked
    file in the first of /dev/shm, TMPDIR, /tmp, /var/tmp and the working directory that takes one.
    ``label`` is what /proc/PID/maps shows.

    Raises OSError where none of them can be had, naming what was tried; ENOSPC where the space is missing.
    """
    fd = _open(label)
    try:
        if size:
            os.posix_fallocate(fd, 0, size)  # a full file system is an error here, not a SIGBUS later
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(label: str) -> int:
    refusals: list[str] = []
    try:
        return os.memfd_create(f"aioipc-{label}", os.MFD_CLOEXEC)
    except (AttributeError, OSError) as error:
        refusals.append(f"memfd_create: {error}")
    for folder in _folders():
        try:
            return _open_unlinked(folder)
        except OSError as error:
            refusals.append(f"{folder}: {error.strerror}")
    raise OSError("no anonymous shared file to be had: " + "; ".join(refusals))


def _folders() -> list[str]:
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    return ["/dev/shm", *named, "/tmp", "/var/tmp", os.curdir]


def _open_unlinked(folder: str) -> int:
    with contextlib.suppress(AttributeError, OSError):
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fd, path = tempfile.mkstemp(prefix="aioipc-", dir=folder)
    os.unlink(path)
    return fd
