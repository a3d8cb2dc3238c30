"""The last step of a command's start: descriptors, signals and environment as programs expect them, then execve(2).

Listening sockets are handed over as in systemd's socket activation (``sd_listen_fds(3)``): from descriptor 3 on.
Readiness comes back by ``sd_notify(3)``, or as a newline on the descriptor that NOTIFY_FD names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Collection
from typing import NamedTuple, NoReturn

from .._sys import failpoints
from .boot import Inheritance
from .launch import LaunchError

FIRST = 3
"""The descriptor of the first listener."""


class Command(NamedTuple):
    """An external program, and how it says that it is ready and well."""

    argv: tuple[str, ...]
    notify_socket: str | None = None
    """Where its ``sd_notify(3)`` goes."""
    watchdog: float | None = None
    """Seconds within which it is to send WATCHDOG=1; ``None``: never."""


def exec_command(command: Command, inheritance: Inheritance, saved_stderr: int) -> NoReturn:
    """Become the program; raises LaunchError where it cannot be started."""
    failpoints.hit("before-exec")
    kept = _arrange_descriptors(inheritance, saved_stderr)
    _set_environment(command, inheritance)
    _keep_only(kept)
    _reset_signals()
    name = command.argv[0]
    try:
        os.execvpe(name, command.argv, os.environ)
    except OSError as error:
        text = f"{name!r}: {os.strerror(error.errno or 0)}"
        if isinstance(error, FileNotFoundError) and os.path.exists(name):
            text += " (the interpreter that its first line names)"
        raise LaunchError("target", error.errno, text) from error


def _arrange_descriptors(inheritance: Inheritance, saved_stderr: int) -> set[int]:
    """Give each descriptor its number and return those that the program is to have beyond the standard ones."""
    notify = FIRST + len(inheritance.listeners)
    wanted = dict(enumerate(inheritance.listeners.values(), FIRST)) | {2: saved_stderr}
    if inheritance.notify >= 0:
        wanted[notify] = inheritance.notify
    # First above all these numbers, so that none of them is overwritten before it was copied.
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, notify + 1) for number, fd in wanted.items()}
    for number, fd in copies.items():
        os.dup2(fd, number)
    return set(wanted)


def _set_environment(command: Command, inheritance: Inheritance) -> None:
    if inheritance.listeners:
        os.environ["LISTEN_FDS"] = str(len(inheritance.listeners))
        os.environ["LISTEN_FDNAMES"] = ":".join(inheritance.listeners)
        os.environ["LISTEN_PID"] = str(os.getpid())
    if inheritance.notify >= 0:
        os.environ["NOTIFY_FD"] = str(FIRST + len(inheritance.listeners))
    if command.notify_socket is not None:
        os.environ["NOTIFY_SOCKET"] = command.notify_socket
    if command.watchdog is not None:
        os.environ["WATCHDOG_USEC"] = str(round(command.watchdog * 1e6))
        os.environ["WATCHDOG_PID"] = str(os.getpid())


def _keep_only(kept: Collection[int]) -> None:
    """Have every other descriptor closed by the exec: a preloaded module may have opened some that stay."""
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the one of the directory itself
                os.set_inheritable(fd, False)


def _reset_signals() -> None:
    """Default actions, nothing blocked: an ignored or blocked signal would stay so through the exec."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(signum) is not signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a SIGTERM that has come meanwhile ends us here
