"""Sending a signal to a process that may end at any moment, with a value if need be.

A process's number is free for another process once it was reaped. So the target is first held by a pidfd, then it is
checked that this is the process meant, and then the pidfd, not the number, is signalled.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from typing import Protocol

from aioipc._sys.signal_sending import send, send_by_pidfd, send_to_thread
from aioipc._sys.signals import name

from .processes import open_pidfd  # one way to hold a process

_REASONS = {
    errno.ESRCH: "it is gone",
    errno.EPERM: "it belongs to another user (kill(2))",
    errno.EAGAIN: "its user has as many signals pending as RLIMIT_SIGPENDING (ulimit -i) allows",
}


class HasPid(Protocol):
    """A process object, of whatever library."""

    @property
    def pid(self) -> int | None:
        """Its number."""


def send_signal(
    process: int | HasPid, signum: int, value: int | None = None, *, thread: int | threading.Thread | None = None
) -> None:
    """Send a signal to a process (``kill(2)``, ``sigqueue(3)``), or to one of its threads (``tgkill(2)``).

    ``process`` is a number, or a process object of ``subprocess``, ``asyncio``, ``multiprocessing`` or anyio: anything
    with a ``pid``. An object is never mistaken for another process that has got its number meanwhile; it is sent by
    pidfd, where the kernel has that. ``thread`` is a ``threading.Thread`` of this process, or the kernel's number for a
    thread (``native_id``).

    ``value`` is a whole number from -2**31 to 2**31-1 that comes with the signal; `open_signal_receiver` with
    ``values=True`` receives it. Real-time signals are queued, one by one. Of a standard signal that is pending already
    the second one is lost, and with it its value. A real-time signal without a value is sent as with the value 0, since
    kill(2) would lose it without a word where the queue is full.

    Returns at once; whether and when the process acts on it nobody can tell. There is nothing to cancel.

    Raises ProcessLookupError where there is no such process or thread, or it was reaped, PermissionError where it
    belongs to somebody else, BlockingIOError (EAGAIN) where no more signals can be queued (RLIMIT_SIGPENDING),
    ValueError for signals that do not exist, values out of range, processes not started and numbers below 1 (for
    process groups: ``os.killpg``), TypeError for other things.
    """
    number = _check_signal(signum)
    content = _check_value(value)
    if content is None and number >= signal.SIGRTMIN:
        content = 0
    pid = _check_pid(process)
    try:
        if thread is not None:
            send_to_thread(pid, _check_thread(thread, pid), number, content)
        else:
            _send_to_process(process, pid, number, content)
    except OSError as error:
        target = f"process {pid}" if thread is None else f"thread {thread!r} of process {pid}"
        raise OSError(error.errno, _explain(error, number, target)) from error


def _send_to_process(process: object, pid: int, signum: int, value: int | None) -> None:
    pidfd = open_pidfd(pid)
    try:
        if _has_ended(process, pid):
            raise ProcessLookupError(errno.ESRCH, "it has ended and was reaped")
        if pidfd is None:
            send(pid, signum, value)
        else:
            send_by_pidfd(pidfd, signum, value)
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _has_ended(process: object, pid: int) -> bool:
    """Whether the object's number is its own no more; asked while a pidfd holds whoever has that number."""
    if isinstance(process, int):
        return False
    if isinstance(process, subprocess.Popen):
        return process.poll() is not None
    if hasattr(process, "returncode"):  # asyncio's, whose watcher may have reaped it without having said so yet
        return process.returncode is not None or not _is_own_child(pid)
    return getattr(process, "exitcode", None) is not None


def _is_own_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _explain(error: OSError, signum: int, target: str) -> str:
    reason = _REASONS.get(error.errno or 0, error.strerror)
    return f"cannot send {name(signum)} to {target}: {reason}"


def _check_signal(signum: object) -> int:
    if not isinstance(signum, int) or isinstance(signum, bool):
        raise TypeError(f"a signal is a member of signal.Signals or its number, not {signum!r}")
    if signum not in signal.valid_signals():
        raise ValueError(f"there is no signal {signum}")
    return int(signum)


def _check_value(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"the value of a signal is a whole number, not {value!r}")
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"the value of a signal is a number from -2**31 to 2**31-1, not {value}")
    return int(value)


def _check_pid(process: object) -> int:
    pid = getattr(process, "pid", process)
    if pid is None and process is not None:
        raise ValueError(f"{process!r} was not started, so it has no process id")
    if not isinstance(pid, int) or isinstance(pid, bool):
        raise TypeError(f"a process is its number or an object with a pid, not {process!r}")
    if not 0 < pid < 2**31:
        raise ValueError(f"{pid} is not the number of one process; os.killpg signals a process group")
    return pid


def _check_thread(thread: object, pid: int) -> int:
    if isinstance(thread, threading.Thread):
        if pid != os.getpid():
            raise ValueError(f"{thread!r} is a thread of this process, not of process {pid}")
        if thread.native_id is None:
            raise ValueError(f"{thread!r} was not started")
        if not thread.is_alive():
            raise ProcessLookupError(errno.ESRCH, "it has ended")
        return thread.native_id
    if not isinstance(thread, int) or isinstance(thread, bool):
        raise TypeError(f"a thread is a threading.Thread or its native_id, not {thread!r}")
    if not 0 < thread < 2**31:
        raise ValueError(f"{thread} is not the number of a thread")
    return thread
