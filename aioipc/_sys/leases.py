"""Whether a file is open anywhere: asked by a lease (``fcntl(2)``), which the kernel gives on files nobody else has."""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Callable

_PATIENCE = 1.0  # seconds; a lease is held for microseconds, unless its holder is stopped right then


def is_open_elsewhere(fd: int) -> bool:
    """Return True where somebody else has the file open or mapped, in whatever process, namespace or container.

    The lease is given back at once. Whoever opens the file in between waits for that, or gets EAGAIN with O_NONBLOCK;
    the kernel would tell this process by a signal, for which one is taken that does nothing by default.

    Raises `PermissionError` where the file is another user's, `OSError` with EINVAL where it is of a kind or on a file
    system without leases.
    """
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def open_past_leases(open_it: Callable[[], int]) -> int:
    """Return what ``open_it`` opens with O_NONBLOCK; try again while somebody has a lease to look at the file.

    Raises its `OSError`: that with EAGAIN only where it stays so for long.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return open_it()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.0001)
