"""One stage of a pipeline: a program in a process of its own, or an async function in a task.

A program leads a session, so that it can be ended with everything it has started. It is not reaped when it
exits but when the pipeline closes: until then its number, and that of its group, belongs to it, and whatever
it has left behind can be signalled without hitting a stranger.

What it writes to standard error goes to an anonymous file. A pipe could fill up and stop it while nobody reads.
Once a second the file gives back what is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import IO, Any, NamedTuple, TypeAlias

import anyio

from aioipc._sys.anonymous_file import discard_front, open_anonymous_file

from .pipes import PipeReceiveStream, PipeSendStream
from .processes import ExitWatch, kill_group, kill_session

Redirection: TypeAlias = "int | IO[Any] | None"
StageFunction: TypeAlias = "Callable[[PipeReceiveStream, PipeSendStream], Coroutine[Any, Any, object]]"

UNKNOWN = 255  # the exit status where somebody else has reaped the process, as asyncio says
TRIM_EVERY = 1.0  # seconds


class Start(NamedTuple):
    """What the programs of a pipeline have in common."""

    stderr: Redirection
    stderr_limit: int
    env: Mapping[str, str] | Mapping[bytes, bytes] | None
    cwd: str | bytes | os.PathLike[Any] | None


class ProcessStage:
    """A program that runs. ``exited`` is set as soon as ``returncode`` is known.

    Raises the `OSError` of starting it, which names the stage.
    """

    error: Exception | None = None

    def __init__(
        self,
        name: str,
        argv: Sequence[str | bytes | os.PathLike[Any]],
        start: Start,
        stdin: Redirection,
        stdout: Redirection,
    ) -> None:
        self.name = name
        self.returncode: int | None = None
        self.exited: asyncio.Event = asyncio.Event()
        self.was_ended: bool = False
        self._stderr = _StderrFile(start.stderr_limit) if start.stderr == subprocess.PIPE else None
        try:
            self._popen = subprocess.Popen(
                [os.fspath(argument) for argument in argv],
                stdin=stdin,
                stdout=stdout,
                stderr=start.stderr if self._stderr is None else self._stderr.fd,
                env=start.env,
                cwd=start.cwd,
                start_new_session=True,
            )
            try:
                self._watch = ExitWatch(asyncio.get_running_loop(), self._popen.pid, self._on_exit)
            except BaseException:
                self._popen.kill()
                self._popen.wait()
                raise
        except BaseException as error:
            if self._stderr is not None:
                self._stderr.close()
            if isinstance(error, OSError):
                raise OSError(error.errno, f"{name} cannot start: {error.strerror}", error.filename) from error
            raise

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its group's and its session's."""
        return self._popen.pid

    @property
    def is_reaped(self) -> bool:
        """Whether its number belongs to it no more."""
        return self._popen.returncode is not None

    @property
    def stderr(self) -> bytes:
        """The end of what it wrote to standard error, where that is kept."""
        return b"" if self._stderr is None else self._stderr.tail()

    def signal(self, signum: int) -> None:
        """Signal its group, what it has started and left behind included."""
        if not self.is_reaped:
            with contextlib.suppress(PermissionError):  # it has become another user's
                kill_group(self._popen.pid, signum)

    def terminate(self) -> None:
        """Ask it to end."""
        self.was_ended = self.was_ended or self.returncode is None
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped one hears nothing before that

    def kill(self) -> None:
        """Kill it and its whole session."""
        self.was_ended = self.was_ended or self.returncode is None
        self.signal(signal.SIGKILL)
        if not self.is_reaped:
            with contextlib.suppress(PermissionError):
                kill_session(self._popen.pid)

    def close(self) -> None:
        """Reap it and close what belongs to it; kill it first if it still runs."""
        self._watch.close()
        if self.returncode is None:
            self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in an uninterruptible wait, or another user's
            self._popen.wait(1)
        if self.returncode is None:
            self._set_returncode(UNKNOWN if self._popen.returncode is None else self._popen.returncode)
        if self._stderr is not None:
            self._stderr.close()

    def _on_exit(self) -> None:
        try:
            found = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            self._popen.poll()  # lets it know, so that the number is never used again
            self._set_returncode(UNKNOWN)
            return
        assert found is not None
        self._set_returncode(found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)

    def _set_returncode(self, code: int) -> None:
        self.returncode = code
        self.exited.set()


class FunctionStage:
    """An async function that reads from one pipe and writes to another, which are closed when it is done.

    Its ``returncode`` is 0 where it returned, 1 where it raised ``error``, and as for a process minus SIGPIPE where
    nobody reads what it sends any more, minus SIGTERM where it was cancelled.
    """

    pid: int | None = None
    stderr = b""
    is_reaped = True

    def __init__(self, name: str, function: StageFunction, receive: PipeReceiveStream, send: PipeSendStream) -> None:
        self.name = name
        self.returncode: int | None = None
        self.error: Exception | None = None
        self.exited: asyncio.Event = asyncio.Event()
        self.was_ended: bool = False
        self._function = function
        self._ends = receive, send
        self._task: asyncio.Task[object] | None = None

    def run(self) -> None:
        """Start its task."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._function(*self._ends), name=f"aioipc {self.name}")
        self._task.add_done_callback(self._on_exit)

    def terminate(self) -> None:
        """Cancel it; one that was not started yet never runs."""
        if self.returncode is not None:
            return
        self.was_ended = True
        if self._task is None:
            self._set_returncode(-signal.SIGTERM)
        else:
            self._task.cancel()

    kill = terminate

    def close(self) -> None:
        """Close its streams, whatever it is doing."""
        self.terminate()
        for end in self._ends:
            end.close()
        if self.returncode is None:
            self._set_returncode(-signal.SIGTERM)

    def _on_exit(self, task: asyncio.Task[object]) -> None:
        for end in self._ends:
            end.close()
        if self.returncode is not None:  # closed meanwhile
            return
        if task.cancelled():
            self._set_returncode(-signal.SIGTERM)
            return
        error = task.exception()
        if isinstance(error, anyio.BrokenResourceError) and isinstance(error.__cause__, BrokenPipeError):
            self._set_returncode(-signal.SIGPIPE)
            return
        self.error = error if isinstance(error, Exception) else None
        self._set_returncode(0 if error is None else 1)

    def _set_returncode(self, code: int) -> None:
        self.returncode = code
        self.exited.set()


class _StderrFile:
    """The file that a process writes its standard error to; its last ``limit`` bytes are kept."""

    def __init__(self, limit: int) -> None:
        self.fd = open_anonymous_file("stderr")
        self._limit = limit
        self._kept = b""  # after closing
        self._discarded = 0
        self._timer = asyncio.get_running_loop().call_later(TRIM_EVERY, self._trim)

    def tail(self) -> bytes:
        if self.fd < 0:
            return self._kept
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, self._limit, max(0, size - self._limit))

    def close(self) -> None:
        if self.fd >= 0:
            self._timer.cancel()
            self._kept = self.tail()
            fd, self.fd = self.fd, -1
            os.close(fd)

    def _trim(self) -> None:
        surplus = os.fstat(self.fd).st_size - self._limit
        if surplus - self._discarded > self._limit:
            discard_front(self.fd, surplus)
            self._discarded = surplus
        self._timer = asyncio.get_running_loop().call_later(TRIM_EVERY, self._trim)


def stage_name(stage: object, number: int, count: int) -> str:
    """Return what errors call a stage, as ``stage 2 of 3 (grep python)``."""
    if callable(stage):
        while isinstance(stage, functools.partial):
            stage = stage.func
        text = getattr(stage, "__qualname__", type(stage).__qualname__)
    else:
        assert isinstance(stage, Sequence)
        text = shlex.join(os.fsdecode(argument) for argument in stage)
    return f"stage {number} of {count} ({text if len(text) <= 80 else text[:77] + '...'})"
