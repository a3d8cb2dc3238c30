"""Every error of aioipc.

    IPCError
    ├── ClosedResourceError   you closed it (also anyio's)
    ├── BrokenResourceError   the other end or the kernel broke it (also anyio's)
    │   └── ObjectRemovedError  somebody has removed the kernel object (also OSError)
    ├── BusyResourceError     another task is already doing this (also anyio's)
    ├── EndOfStream           the other end finished (also anyio's)
    ├── WouldBlock            an X_nowait call would have to wait (also anyio's)
    ├── SerializationError    something cannot be sent to another process (also TypeError)
    ├── UnsupportedPlatform   this system lacks the mechanism (also NotImplementedError)
    ├── TornWriteError        a writer of guarded memory ended half-way
    ├── RecordsLostError      records of a log are damaged, or were removed
    ├── LineTooLong           a line of text has more bytes than allowed (also ValueError)
    ├── PipelineError         a stage of a pipeline failed
    ├── PoolClosed            the pool takes no more tasks (also ClosedResourceError)
    ├── PoolFull              the pool has as many tasks as it may have (also WouldBlock)
    ├── WorkerBootError       workers, or the processes of a supervisor's child, cannot start
    ├── SupervisorFailed      a supervisor gave up
    ├── ReloadFailed          a reload was given up; what ran goes on
    ├── WorkerCrashed         a worker died while it ran the task
    ├── TaskQuarantined       the task has killed too many workers
    ├── TaskTimeout           the task ran longer than its timeout (also TimeoutError)
    ├── RemoteError           a worker's exception that cannot be raised here as itself
    ├── ShutdownTimeout       the deadline of a graceful shutdown passed (also TimeoutError)
    ├── ConfigError           a configuration file is wrong (also ValueError)
    └── ControlError          a master refuses, or cannot be told, what to do

An error that a task raised in a worker arrives as itself, with a `RemoteTraceback` as its cause.
"""

from __future__ import annotations

import signal as _signal

import anyio


class IPCError(Exception):
    """Base of every error that aioipc raises by itself."""


class ClosedResourceError(IPCError, anyio.ClosedResourceError):
    """The object was closed on this side, before or during the call."""


class BrokenResourceError(IPCError, anyio.BrokenResourceError):
    """The other side went away, so the operation can never succeed."""


class ObjectRemovedError(BrokenResourceError, OSError):
    """Somebody has removed the kernel object (``ipcrm(1)``), so nothing can be done with it any more.

    ``errno`` is what the kernel said, EIDRM to who waited and EINVAL to who comes later.
    """


class BusyResourceError(IPCError, anyio.BusyResourceError):
    """Another task is already doing this on the object, which serves one at a time."""

    def __init__(self, action: str) -> None:
        anyio.BusyResourceError.__init__(self, action)
        self._action = action

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._action,)


class EndOfStream(IPCError, anyio.EndOfStream):
    """The other side has finished sending and everything it sent was received."""


class WouldBlock(IPCError, anyio.WouldBlock):
    """An ``X_nowait`` call could not be done at once."""


class SerializationError(IPCError, TypeError):
    """A function, argument or result cannot be sent to another process; the message names it."""


class UnsupportedPlatform(IPCError, NotImplementedError):
    """The mechanism does not exist on this operating system."""


class TornWriteError(IPCError):
    """A writer of a `GuardedMemory` died, or left by an exception, half-way: what is there may be half old, half new.

    ``pid`` is the process it was.
    """

    def __init__(self, message: str, *, pid: int = 0) -> None:
        super().__init__(message)
        self.pid: int = pid

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), {"pid": self.pid})


class RecordsLostError(IPCError):
    """Records of a `RecordLog` cannot be read: they are damaged, or in a file that was removed by rotation.

    ``position`` is where they were, ``resume`` where the next record is, or will be. The reader that raises it goes on
    there when it is asked again.
    """

    def __init__(self, message: str, *, position: int = 0, resume: int = 0) -> None:
        super().__init__(message)
        self.position: int = position
        self.resume: int = resume

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), {"position": self.position, "resume": self.resume})


class LineTooLong(IPCError, ValueError):
    """A line of text has more bytes than ``max_line`` allows; it stays in the buffer of its `Lines`."""


class PipelineError(IPCError):
    """A stage of a pipeline failed; the message names it and ends with what it wrote to standard error.

    ``stage``
        The number of the first stage that failed, counted from 0.
    ``returncodes``
        How each stage ended: its exit status, or minus the number of the signal that killed it.
    ``stdout``
        What the last stage wrote.
    ``stderr``
        For each stage the end of what it wrote to standard error.
    """

    def __init__(
        self,
        message: str,
        *,
        stage: int = 0,
        returncodes: tuple[int, ...] = (),
        stdout: bytes = b"",
        stderr: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(message)
        self.stage: int = stage
        self.returncodes: tuple[int, ...] = returncodes
        self.stdout: bytes = stdout
        self.stderr: tuple[bytes, ...] = stderr

    def __reduce__(self) -> tuple[object, ...]:
        names = ("stage", "returncodes", "stdout", "stderr")
        return _rebuild, (type(self), str(self), {name: getattr(self, name) for name in names})


class PoolFull(WouldBlock):
    """The pool has as many tasks, or as many bytes of them, as it may have (``max_pending``, ``max_pending_bytes``)."""


class PoolClosed(ClosedResourceError):
    """The pool is closed, or is closing, and takes no more tasks."""


class WorkerBootError(IPCError):
    """Worker processes die before they are ready, so the pool was given up; or those of a child of a supervisor.

    ``stderr`` is the end of what the last of them wrote, ``exitcode`` how it ended.
    """

    def __init__(self, message: str, *, stderr: str = "", exitcode: int | None = None) -> None:
        super().__init__(message)
        self.stderr = stderr
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), {"stderr": self.stderr, "exitcode": self.exitcode})


class SupervisorFailed(IPCError):
    """A supervisor gave up and has stopped all its children; the message says why.

    ``kind``
        "boot": a child could not get ready. "intensity": there were more restarts than it allows.
    ``child``
        The child it was: below a supervisor with the names that lead to it, "backend/db".
    ``replica``
        Which of its processes, from 0 on; ``None`` where it was none of them alone.
    ``exitcode``
        How that ended: 0 to 255, minus the number of the signal that killed it, ``None`` where nobody could learn it.
    ``stderr``
        The end of what it wrote to standard error, as far as that came through the master.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        child: str = "",
        replica: int | None = None,
        exitcode: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.kind: str = kind
        self.child: str = child
        self.replica: int | None = replica
        self.exitcode: int | None = exitcode
        self.stderr: str = stderr

    def __reduce__(self) -> tuple[object, ...]:
        names = ("kind", "child", "replica", "exitcode", "stderr")
        return _rebuild, (type(self), str(self), {name: getattr(self, name) for name in names})


class ReloadFailed(IPCError):
    """A reload was given up, the message says why; what it has not replaced yet runs as before."""


class WorkerCrashed(IPCError):
    """The worker died while it ran this task.

    ``exitcode``
        What ``waitid(2)`` reported: 0 to 255 for an exit, minus the signal number for a death by
        signal, ``None`` where nobody could learn it.
    ``signal``
        The signal that ended it, or ``None``.
    ``oom``
        True where the control group's ``memory.events`` counted a kill at that time.
    ``pid``, ``slot``
        The worker's process id and its place in the pool.
    ``task``
        The task, as text: function and number.
    ``reason``
        One line that says why aioipc thinks it died.
    ``stderr``
        The end of what it wrote to standard error, where that was captured.
    ``stacks``
        What its threads and async tasks were doing, where aioipc killed it for being stuck.
    """

    def __init__(
        self,
        reason: str,
        *,
        exitcode: int | None = None,
        oom: bool = False,
        pid: int | None = None,
        slot: int | None = None,
        task: str = "",
        stderr: str = "",
        stacks: str = "",
    ) -> None:
        self.reason = reason
        self.exitcode = exitcode
        self.oom = oom
        self.pid = pid
        self.slot = slot
        self.task = task
        self.stderr = stderr
        self.stacks = stacks
        super().__init__(self._text())

    @property
    def signal(self) -> _signal.Signals | int | None:
        """The signal that ended the worker, or ``None`` where it exited or nobody knows."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return _signal.Signals(-self.exitcode)
        except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has no name
            return -self.exitcode

    def _text(self) -> str:
        where = f"worker {self.slot} (pid {self.pid})" if self.pid else "the worker"
        doing = f" while it ran {self.task}" if self.task else ""
        tail = f"\n--- end of its stderr ---\n{self.stderr}" if self.stderr else ""
        stacks = f"\n--- its stacks ---\n{self.stacks}" if self.stacks else ""
        return f"{where} died{doing}: {self.reason}{tail}{stacks}"

    def __reduce__(self) -> tuple[object, ...]:
        names = ("exitcode", "oom", "pid", "slot", "task", "stderr", "stacks")
        return _rebuild, (type(self), self.reason, {name: getattr(self, name) for name in names})


class TaskQuarantined(WorkerCrashed):
    """The task, running alone, has killed worker after worker; it will not be tried again.

    The attributes describe the last of those deaths.
    """


class TaskTimeout(IPCError, TimeoutError):
    """The task ran longer than its ``timeout`` and was ended."""


class RemoteError(IPCError):
    """A worker's exception that cannot be raised here as itself.

    That is so where the exception does not survive pickling, or is not an `Exception` (``SystemExit``),
    or may not be raised into a future (``StopIteration``).
    ``type_name`` is the qualified name of the original class.
    """

    def __init__(self, message: str, *, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), {"type_name": self.type_name})


class RemoteTraceback(Exception):
    """The traceback of an exception in a worker, as text; it is the cause of the exception raised here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class ShutdownTimeout(IPCError, TimeoutError):
    """The deadline of a graceful shutdown passed before the body of the ``async with`` ended."""


class ConfigError(IPCError, ValueError):
    """A configuration file is wrong; the message names file, table, field and value, and says what is allowed."""


class ControlError(IPCError):
    """A master does not do what it is told by its control socket, or cannot be told; the message says why.

    ``kind``
        "unreachable": there is no master, or it does not answer. "protocol": it does not understand. "usage": a value
        is wrong. "not-found": there is no such child. "state": not now, it stops. "failed": it was tried in vain.
    """

    def __init__(self, message: str, *, kind: str = "unreachable") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), {"kind": self.kind})


def _rebuild(cls: type[IPCError], text: str, names: dict[str, object]) -> IPCError:
    return cls(text, **names)
