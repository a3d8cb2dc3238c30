"""Setting up a pipeline: what may be a stage and a redirection, and how the stages are joined.

Everything is checked before anything is started.
"""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeGuard

from .buffers import check_positive
from .pipes import PipeEnd, PipeReceiveStream, PipeSendStream, open_pipe
from .stages import FunctionStage, ProcessStage, Redirection, StageFunction, Start, stage_name

Command: TypeAlias = "Sequence[str | bytes | os.PathLike[str] | os.PathLike[bytes]]"
Stage: TypeAlias = "Command | StageFunction"


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that says how to start a pipeline; raises where one thing cannot be."""

    stages: tuple[Stage, ...]
    stdin: Redirection
    stdout: Redirection
    stderr: Redirection
    stderr_limit: int
    env: Mapping[str, str] | Mapping[bytes, bytes] | None
    cwd: str | bytes | os.PathLike[Any] | None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a pipeline needs at least one stage")
        for number, stage in enumerate(self.stages, start=1):
            _check_stage(f"stage {number}", stage)
        _check_redirection("stdin", self.stdin, {subprocess.PIPE, subprocess.DEVNULL})
        _check_redirection("stdout", self.stdout, {subprocess.PIPE, subprocess.DEVNULL})
        _check_redirection("stderr", self.stderr, {subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT})
        if is_function(self.stages[0]) and self.stdin not in (subprocess.PIPE, subprocess.DEVNULL):
            raise ValueError("stdin must be PIPE or DEVNULL where the first stage is a function")
        if is_function(self.stages[-1]) and self.stdout != subprocess.PIPE:
            raise ValueError("stdout must be PIPE where the last stage is a function")
        if self.env is not None and not isinstance(self.env, Mapping):
            raise TypeError(f"env must be a mapping, not {type(self.env).__name__}")
        if self.cwd is not None:
            os.fspath(self.cwd)
        check_positive("stderr_limit", self.stderr_limit)


def start_stages(
    setup: Setup, started: list[ProcessStage | FunctionStage]
) -> tuple[PipeSendStream | None, PipeReceiveStream | None]:
    """Start every stage, joined to its neighbours, and return our ends of the standard input and output.

    ``started`` gets each stage as it starts, and is to be ended where this raises `OSError`: a program cannot
    be started, or descriptors or processes ran out.
    """
    count = len(setup.stages)
    start = Start(setup.stderr, setup.stderr_limit, setup.env, setup.cwd)
    with _Ends() as ends:
        first, our_stdin = _standard_input(setup, ends)
        links: list[tuple[Redirection, Redirection]] = [ends.pipe() for _ in range(count - 1)]
        our_stdout, last = _standard_output(setup, ends)
        inputs = [first, *[read_end for read_end, _ in links]]
        outputs = [*[write_end for _, write_end in links], last]
        for number, (stage, stdin, stdout) in enumerate(zip(setup.stages, inputs, outputs, strict=True), start=1):
            name = stage_name(stage, number, count)
            if isinstance(stage, Sequence):
                started.append(ProcessStage(name, stage, start, stdin, stdout))
            else:
                started.append(FunctionStage(name, stage, ends.reader(stdin), ends.writer(stdout)))
        for each in started:
            if isinstance(each, FunctionStage):
                each.run()
        sender = None if our_stdin is None else ends.writer(our_stdin)
        receiver = None if our_stdout is None else ends.reader(our_stdout)
    return sender, receiver


def is_function(stage: object) -> TypeGuard[StageFunction]:
    """Return whether a stage is an async function, or an object that is called like one."""
    return inspect.iscoroutinefunction(stage) or (callable(stage) and inspect.iscoroutinefunction(stage.__call__))


class _Ends:
    """Ends of pipes that no stream has taken over; on leaving they are closed, and only the programs have them."""

    def __init__(self) -> None:
        self._fds: set[int] = set()

    def __enter__(self) -> _Ends:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._fds:
            os.close(fd)

    def pipe(self) -> tuple[int, int]:
        ends = open_pipe()
        self._fds.update(ends)
        return ends

    def close(self, fd: int) -> None:
        self._fds.discard(fd)
        os.close(fd)

    def reader(self, fd: object) -> PipeReceiveStream:
        """Make a stream of an end, which owns it from then on."""
        assert isinstance(fd, int)
        stream = PipeReceiveStream(fd)
        self._fds.discard(fd)
        return stream

    def writer(self, fd: object) -> PipeSendStream:
        assert isinstance(fd, int)
        stream = PipeSendStream(fd)
        self._fds.discard(fd)
        return stream


def _standard_input(setup: Setup, ends: _Ends) -> tuple[Redirection, int | None]:
    if setup.stdin != subprocess.PIPE and not is_function(setup.stages[0]):
        return setup.stdin, None
    read_end, write_end = ends.pipe()
    if setup.stdin == subprocess.PIPE:
        return read_end, write_end
    ends.close(write_end)  # a function has a pipe that is at its end
    return read_end, None


def _standard_output(setup: Setup, ends: _Ends) -> tuple[int | None, Redirection]:
    return ends.pipe() if setup.stdout == subprocess.PIPE else (None, setup.stdout)


def _check_stage(name: str, stage: object) -> None:
    if is_function(stage):
        try:
            inspect.signature(stage).bind(None, None)
        except TypeError as error:
            raise TypeError(f"{name} is called with a receive and a send stream, which does not fit: {error}") from None
        return
    if isinstance(stage, (str, bytes)) or not isinstance(stage, Sequence):
        raise TypeError(
            f"{name} must be a sequence of arguments or an async function, not {type(stage).__name__}; "
            "for a line of shell write ['sh', '-c', line]"
        )
    if not stage:
        raise ValueError(f"{name} has no program: the sequence is empty")
    for argument in stage:
        if not isinstance(argument, (str, bytes, os.PathLike)):
            raise TypeError(f"{name}: arguments must be str, bytes or paths, not {type(argument).__name__}")
        if b"\0" in os.fsencode(argument):
            raise ValueError(f"{name}: an argument contains a null byte")


def _check_redirection(name: Literal["stdin", "stdout", "stderr"], value: object, words: set[int]) -> None:
    if value is None or (type(value) is int and value in words):
        return
    if isinstance(value, PipeEnd):
        raise TypeError(f"{name} must not be a stream, whose descriptor does not block; give it .detach()")
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "fileno")):
        allowed = "PIPE, DEVNULL, STDOUT" if subprocess.STDOUT in words else "PIPE, DEVNULL"
        raise TypeError(f"{name} must be {allowed}, a descriptor, an open file or None, not {type(value).__name__}")
    fd = value if isinstance(value, int) else value.fileno()
    if fd < 0:
        raise ValueError(f"{name} cannot be {fd}")
    os.fstat(fd)  # OSError: it is closed
