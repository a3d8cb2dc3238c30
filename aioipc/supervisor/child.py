"""One worker process as its master sees it: its sockets, its scoreboard, how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from .._sys import procfs
from .._sys.anonymous_file import open_anonymous_file
from .boot import Inheritance
from .scoreboard import Scoreboard

_SEND_BUFFER = 1 << 20
LOG_PIPE = 1 << 18
"""Bytes of log records that wait for the master at most: a thousand or so."""
MAX_LISTENERS = 200
"""One packet to the zygote carries 253 descriptors at most."""


class ExitReport(NamedTuple):
    """How a worker ended."""

    exitcode: int | None
    """0 to 255, minus the signal's number, or ``None`` where nobody could learn it."""
    reason: str
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    peak_memory: int = 0
    """Bytes."""
    with_zygote: bool = False
    """It ended because its zygote did."""
    errno: int | None = None
    """Why it never came to be, where the kernel refused it."""


class ChildOwner(Protocol):
    """Who is told what becomes of a `Child`; each is called at most once, in the loop."""

    def child_spawned(self) -> None:
        """The process exists; its pid is known."""

    def child_exited(self, report: ExitReport) -> None:
        """The process has ended, or never came to be, and everything it wrote can be read."""


class Child:
    """The master's ends of one worker's descriptors. Create it, hand `inheritance` to the zygote, close it.

    ``logs`` gives it a pipe for log records, ``capture`` pipes in place of these of its standard streams, ``notify``
    one by which a program says that it is ready. The read ends are `pipes`, by the names that `Inheritance` has for
    the write ends. ``listeners`` are copied, and so is our standard input with ``stdin``, where there is one.

    Raises OSError where there are no descriptors left, ValueError for more listeners than one packet can carry.
    """

    def __init__(
        self,
        slots: int,
        *,
        logs: bool = False,
        capture: Collection[str] = (),
        notify: bool = False,
        stdin: bool = False,
        listeners: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        if len(listeners) > MAX_LISTENERS:
            raise ValueError(f"a process can be given {MAX_LISTENERS} listeners, not {len(listeners)}")
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.owner: ChildOwner | None = None
        self._ready = False
        self._dump_from: int | None = None
        with contextlib.ExitStack() as undo:
            self.data: socket.socket
            self.control: socket.socket
            self.data, self._their_data = _socket_pair(undo)
            self.control, self._their_control = _socket_pair(undo)
            self._their_scoreboard = Scoreboard.create(slots)
            undo.callback(os.close, self._their_scoreboard)
            self.scoreboard: Scoreboard = Scoreboard(self._their_scoreboard)
            undo.callback(self.scoreboard.close)
            self._stderr: int | None = open_anonymous_file("stderr")
            undo.callback(os.close, self._stderr)
            self.pipes: dict[str, int] = {}
            self._their_pipes: dict[str, int] = {}
            for name in _pipe_names(logs, capture, notify):
                self.pipes[name], self._their_pipes[name] = _pipe(undo)
            self._copies: dict[str, int] = {}
            self._listeners: dict[str, int] = {}
            if stdin and _has_stdin():
                self._copies["stdin"] = _copy(0, undo)
            for name, fd in listeners.items():
                self._listeners[name] = _copy(fd, undo)
            if logs:  # a task must never wait for the master to read its records
                os.set_blocking(self._their_pipes["logs"], False)
                _enlarge(self._their_pipes["logs"])
            undo.pop_all()

    def inheritance(self) -> Inheritance:
        """Return the descriptors the worker gets; they are still ours to close."""
        assert self._stderr is not None
        data, control = self._their_data.fileno(), self._their_control.fileno()
        always = {"data": data, "control": control, "scoreboard": self._their_scoreboard, "stderr": self._stderr}
        return Inheritance(**always, **self._their_pipes, **self._copies, listeners=self._listeners)

    def handed_over(self) -> None:
        """Close our copies of the worker's ends, so that its death is an end of file here."""
        self._their_data.close()
        self._their_control.close()
        if self._their_scoreboard >= 0:
            os.close(self._their_scoreboard)
            self._their_scoreboard = -1
        for fds in (self._their_pipes, self._copies, self._listeners):
            _close_all(fds)

    def ready(self) -> None:
        """Say that the worker has the real standard error now; the captured one serves for stack dumps from here on."""
        self._ready = True
        self._dump_from = None

    def stderr_tail(self, limit: int = 8192) -> str:
        """Return the last ``limit`` bytes that the worker wrote to standard error before it was ready."""
        return "" if self._stderr is None or self._ready else tail(self._stderr, limit, end=self._dump_from)

    def mark_dump(self) -> None:
        """Say that a stack dump is asked for: of a worker that is not ready it follows what it wrote before."""
        if self._stderr is not None and not self._ready and self._dump_from is None:
            self._dump_from = os.fstat(self._stderr).st_size

    def stacks(self, limit: int = 65536) -> str:
        """Return the last ``limit`` bytes of the stack dumps that the worker has made."""
        if self._stderr is None or (not self._ready and self._dump_from is None):
            return ""
        return tail(self._stderr, limit, begin=self._dump_from or 0)

    def signal(self, signum: int) -> None:
        """Send a signal to the process alone; not done where it is gone, or has no pidfd to be named by safely."""
        if self.pidfd is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signum)

    def state(self) -> str:
        """Return the letter /proc shows for the process, ``"?"`` where that is unknown."""
        info = procfs.process_info(self.pid) if self.pid is not None else None
        return "?" if info is None else info.state

    def wait_gone(self, timeout: float) -> None:
        """Block, for ``timeout`` seconds at most, until the killed process runs no more: all it wrote can be read."""
        if self.pidfd is not None:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            poller.poll(timeout * 1000)
            return
        deadline = time.monotonic() + timeout
        while self.state() not in "ZX?" and time.monotonic() < deadline:
            time.sleep(0.0005)

    def reap(self) -> None:
        """Take the zombie away where the kernel has given it to this process, as PID 1 or a subreaper."""
        if self.pidfd is not None:
            with contextlib.suppress(OSError):  # it is not ours
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)

    def close(self) -> None:
        """Close everything; may be called twice."""
        self.handed_over()
        if self._stderr is not None:
            os.close(self._stderr)
            self._stderr = None
        _close_all(self.pipes)
        self.data.close()
        self.control.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.scoreboard.close()
        self.close = _nothing  # type: ignore[method-assign]


def tail(fd: int, limit: int = 8192, *, begin: int = 0, end: int | None = None) -> str:
    """Return the last ``limit`` bytes of a file, or of the part of it from ``begin`` to ``end``, as text."""
    size = os.fstat(fd).st_size if end is None else end
    begin = max(begin, size - limit)
    return os.pread(fd, size - begin, begin).decode(errors="replace") if size > begin else ""


def _nothing() -> None:
    pass


def _pipe_names(logs: bool, capture: Collection[str], notify: bool) -> list[str]:
    wanted = {"logs": logs, "output_pipe": "stdout" in capture, "error_pipe": "stderr" in capture, "notify": notify}
    return [name for name, here in wanted.items() if here]


def _copy(fd: int, undo: contextlib.ExitStack) -> int:
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    undo.callback(os.close, copy)
    return copy


def _has_stdin() -> bool:
    """Whether descriptor 0 is a standard input. Where that is closed any other may have its number: one that is not for
    children, as every descriptor that Python opens.
    """
    try:
        return os.get_inheritable(0)
    except OSError:
        return False


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    ours, theirs = os.pipe()
    undo.callback(os.close, ours)
    undo.callback(os.close, theirs)
    os.set_blocking(ours, False)
    return ours, theirs


def _enlarge(fd: int) -> None:
    """Make a pipe hold more, where the user's share of pipe memory (fs.pipe-user-pages-soft) allows that."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, LOG_PIPE)


def _close_all(fds: dict[str, int]) -> None:
    while fds:
        os.close(fds.popitem()[1])


def _socket_pair(undo: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    undo.enter_context(ours)
    undo.enter_context(theirs)
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ours, theirs
