"""Whether a file is open anywhere: asked by a lease (``fcntl(2)``), which the kernel gives on files nobody else has."""

from __future__ import annotations

import fcntl
import signal


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
