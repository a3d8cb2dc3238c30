"""The pipeline: programs and async functions, each reading what the one before it writes.

Two programs side by side are joined by a pipe of the kernel, whose ends they get directly: what passes between
them never passes through this process. An async function gets streams on its two pipes and runs in a task.

Leaving the ``async with`` of a pipeline ends what is left of it, in a task of its own under its own deadline,
which waits through every cancellation (`aioipc._loop.finish`): SIGTERM for each stage's process group, and SIGKILL
``grace`` seconds later for the sessions. No cancel scope stays open meanwhile, so a fixture may hold a pipeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import select
import signal
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from anyio.abc import AsyncResource

from aioipc._loop.finish import finish
from aioipc._sys.procfs import running_in_sessions
from aioipc.exceptions import BrokenResourceError, ClosedResourceError, PipelineError

from .buffers import Buffer, item_size
from .pipeline_setup import Setup, Stage, start_stages
from .pipes import PipeReceiveStream, PipeSendStream
from .stages import UNKNOWN, FunctionStage, ProcessStage, Redirection

KILL_PATIENCE = 5.0  # seconds; only what hangs in the kernel, or is another user's, outlives SIGKILL
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02  # seconds between two looks for what stages have left behind

_log = logging.getLogger("aioipc.pipelines")
logging.getLogger("aioipc").addHandler(logging.NullHandler())  # what is said is the program's to show


@dataclass(frozen=True, slots=True)
class CompletedPipeline:
    """What `run_pipeline` returns."""

    stdout: bytes  #: all that the last stage wrote
    stderr: tuple[bytes, ...]  #: for each stage the end of what it wrote to standard error
    returncodes: tuple[int, ...]  #: for each stage its exit status, or minus the number of the signal it died by


class Pipeline(AsyncResource):
    """A pipeline that runs; `open_pipeline` makes it.

    ``stdin`` is the stream into the first stage, None where that was redirected to something else.

    Leaving its ``async with`` normally closes ``stdin``. Where ``stdout`` is a stream that was not read to its end,
    the pipeline is ended at once. Otherwise the last stage is waited for; the others, of which nobody reads
    any more, then have ``grace`` seconds to follow. Leaving it by an exception or a cancellation ends it at once.

    To end it means: SIGTERM for the process group of each stage (a function is cancelled), and SIGKILL for all
    that is left of their sessions ``grace`` seconds later. Programs that a stage has left running in the background
    are ended too. No cancellation interrupts that. Afterwards no process, descriptor or task is left.
    """

    def __init__(self, setup: Setup, grace: float) -> None:
        self.stdin: PipeSendStream | None = None
        self._stdout: PipeReceiveStream | None = None
        self._setup = setup
        self._grace = grace
        self._stages: list[ProcessStage | FunctionStage] = []
        self._ending: asyncio.Task[None] | None = None
        self._errors_told = False

    @property
    def stdout(self) -> PipeReceiveStream:
        """The stream out of the last stage; `AttributeError` where that was redirected to something else."""
        if self._stdout is None:
            raise AttributeError("the pipeline has no stream as its stdout, which was redirected")
        return self._stdout

    @property
    def returncodes(self) -> tuple[int | None, ...]:
        """How each stage ended: its exit status, or minus the number of the signal it died by; None: it runs.

        For a function 0 where it returned, 1 where it raised, minus SIGPIPE where nobody read what it sent, and
        minus SIGTERM where it was cancelled. 255 where somebody else has reaped the process.
        """
        return tuple(stage.returncode for stage in self._stages)

    @property
    def stderr(self) -> tuple[bytes, ...]:
        """For each stage the end of what it has written to standard error so far, where that is kept."""
        return tuple(stage.stderr for stage in self._stages)

    @property
    def pids(self) -> tuple[int | None, ...]:
        """The process id of each stage, which leads a session of its own; None for a function."""
        return tuple(stage.pid for stage in self._stages)

    async def wait(self) -> tuple[int, ...]:
        """Wait until every stage has ended, and return their `returncodes`.

        Nobody reads ``stdout`` meanwhile: read it first where the last stage writes more than a pipe holds.
        Raises the error of a function that raised one, an `ExceptionGroup` of several.
        Cancelled: nothing happened.
        """
        for stage in self._stages:
            await stage.exited.wait()
        self._tell_errors()
        return _settled(self)

    async def aclose(self) -> None:
        """End the pipeline at once, as the class describes. Cancelled: it has ended when CancelledError comes."""
        await self._finish(self._grace)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self.stdin is not None:
                    self.stdin.close()
                await self._follow()
        finally:
            await self.aclose()
        if kind is None:
            self._tell_errors()

    def __repr__(self) -> str:
        stages = ", ".join(
            f"{stage.name}: {'running' if stage.returncode is None else stage.returncode}" for stage in self._stages
        )
        return f"<Pipeline {stages}>"

    def __del__(self) -> None:
        if self._stages and self._ending is None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._close()

    def _start(self) -> None:
        self.stdin, self._stdout = start_stages(self._setup, self._stages)

    async def _follow(self) -> None:
        """Wait as long as somebody may still want what the stages do; see the class."""
        grace = None
        if self._stdout is not None:
            try:
                if not _is_at_end(self._stdout.fileno()):
                    return
            except ClosedResourceError:  # nobody reads, and maybe nobody has told the last stage
                grace = self._grace
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._stages[-1].exited.wait()
            async with asyncio.timeout(self._grace):
                await self._all_exited()

    async def _finish(self, grace: float) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end(grace))
        await finish(self._ending)

    async def _end(self, grace: float) -> None:
        """Ask all to end, kill what has not ended ``grace`` seconds later, reap."""
        loop = asyncio.get_running_loop()
        try:
            self._close_streams()
            if self._is_over():
                return
            for stage in self._stages:
                stage.terminate()
            if grace and await self._is_over_by(loop.time() + grace):
                return
            for stage in self._stages:
                stage.kill()
            if not await self._is_over_by(loop.time() + KILL_PATIENCE):
                _log.warning("%r does not end, not even by SIGKILL; it is left alone", self)
        except asyncio.CancelledError:  # by a loop that is being shut down; there is no time left
            pass
        finally:
            self._close()

    def _is_over(self) -> bool:
        """Whether no stage runs, and nothing that a stage has left behind."""
        if any(stage.returncode is None for stage in self._stages):
            return False
        sessions = {stage.pid for stage in self._stages if stage.pid is not None and not stage.is_reaped}
        return not sessions or not running_in_sessions(sessions)

    async def _is_over_by(self, deadline: float) -> bool:
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout_at(deadline):
                await self._all_exited()
                while not self._is_over():
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except TimeoutError:
            return False
        return True

    async def _all_exited(self) -> None:
        for stage in self._stages:
            await stage.exited.wait()

    def _close_streams(self) -> None:
        for stream in (self.stdin, self._stdout):
            if stream is not None:
                stream.close()

    def _close(self) -> None:
        self._close_streams()
        for stage in self._stages:
            stage.close()

    def _tell_errors(self) -> None:
        """Raise what functions raised, once."""
        errors = [stage.error for stage in self._stages if stage.error is not None]
        if not errors or self._errors_told:
            return
        self._errors_told = True
        raise errors[0] if len(errors) == 1 else ExceptionGroup("functions of a pipeline failed", errors)


async def open_pipeline(
    *stages: Stage,
    stdin: Redirection = subprocess.DEVNULL,
    stdout: Redirection = subprocess.PIPE,
    stderr: Redirection = subprocess.PIPE,
    stderr_limit: int = 65536,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
    grace: float = 5.0,
) -> Pipeline:
    """Start a pipeline and return it.

    Each of the ``stages`` is a sequence of a program and its arguments, or an async function that is called with
    a `PipeReceiveStream` on what the stage before sends and a `PipeSendStream` to the stage behind.

    ``stdin`` and ``stdout`` are those of the first and the last stage, with the words of `subprocess`: PIPE for a
    stream (`Pipeline.stdin`, `Pipeline.stdout`), DEVNULL, a descriptor, an open file, or None to inherit ours.
    ``stderr`` is every program's: PIPE keeps the last ``stderr_limit`` bytes of each (`Pipeline.stderr`), STDOUT
    sends it the way of its standard output. ``env`` and ``cwd`` are the environment and the working directory
    of the programs. ``grace`` is how many seconds lie between SIGTERM and SIGKILL when the pipeline is ended.

    Raises `FileNotFoundError`, `PermissionError` or another `OSError` that names the stage which cannot be
    started, and `TypeError` or `ValueError` where an argument cannot be; nothing is left running then.
    Cancelled: nothing was started.

    Where this process is killed, the stages find their pipes broken or at the end, as in a shell; it cannot end
    those that look at neither.
    """
    setup = Setup(stages, stdin, stdout, stderr, stderr_limit, env, cwd)
    if not isinstance(grace, int | float):
        raise TypeError(f"grace must be a number of seconds, not {type(grace).__name__}")
    if not 0 <= grace < math.inf:
        raise ValueError(f"grace must be a finite number of seconds from 0 on, not {grace}")
    await asyncio.sleep(0)
    pipeline = Pipeline(setup, grace)
    try:
        pipeline._start()
    except BaseException:
        await pipeline._finish(0)
        raise
    return pipeline


async def run_pipeline(
    *stages: Stage,
    input: Buffer | None = None,
    check: bool = False,
    stderr_limit: int = 65536,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
    grace: float = 5.0,
) -> CompletedPipeline:
    """Run a pipeline to its end: send it ``input``, collect what it writes meanwhile, and return that.

    The other arguments are those of `open_pipeline`. A stage that ends before it has read everything is no error:
    the rest of the input, or of what the stages before it write, is then not wanted.

    ``check`` makes a failed stage a `PipelineError`: one that exited with another status than 0, or died by a
    signal, unless it was one before the last and died of SIGPIPE.
    Raises as `open_pipeline` does, and the error of a function that raised one.
    Cancelled: the pipeline is ended as if left early, then CancelledError comes.
    """
    if input is not None:
        item_size(input)
    pipeline = await open_pipeline(
        *stages,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stderr_limit=stderr_limit,
        env=env,
        cwd=cwd,
        grace=grace,
    )
    async with pipeline:
        feeding = asyncio.get_running_loop().create_task(_feed(pipeline.stdin, input))
        try:
            stdout = b"".join([chunk async for chunk in pipeline.stdout])
            await pipeline._follow()  # a last stage may read on when it writes no more
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
        feeding.cancelled() or feeding.result()
    done = CompletedPipeline(stdout, pipeline.stderr, _settled(pipeline))
    if check:
        _check(pipeline, done)
    return done


async def _feed(stdin: PipeSendStream | None, data: Buffer | None) -> None:
    if stdin is not None and data is not None:
        async with stdin:
            with contextlib.suppress(BrokenResourceError):  # it wants no more
                await stdin.send(data)


def _is_at_end(fd: int) -> bool:
    """Whether everything was read from a pipe, and nobody writes to it any more."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return all(events & select.POLLHUP and not events & select.POLLIN for _, events in poller.poll(0) or [(fd, 0)])


def _settled(pipeline: Pipeline) -> tuple[int, ...]:
    return tuple(UNKNOWN if code is None else code for code in pipeline.returncodes)


def _check(pipeline: Pipeline, done: CompletedPipeline) -> None:
    """Raise for the first stage that failed; one of which nobody wanted more has not."""
    for number, (stage, code) in enumerate(zip(pipeline._stages, done.returncodes, strict=True)):
        unwanted = stage.was_ended or code == -signal.SIGPIPE
        if code == 0 or (unwanted and number < len(done.returncodes) - 1):
            continue
        how = f"exited with {code}" if code > 0 else f"died of {_signal_name(-code)}"
        text = done.stderr[number].decode(errors="replace").rstrip()
        tail = f"\n--- end of its stderr ---\n{text}" if text else ""
        raise PipelineError(
            f"{stage.name} {how}{tail}",
            stage=number,
            returncodes=done.returncodes,
            stdout=done.stdout,
            stderr=done.stderr,
        )


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:  # a real-time signal between SIGRTMIN and SIGRTMAX has no name
        return f"signal {signum}"
