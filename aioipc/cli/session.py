"""One invocation of ``aioipc map``: signals, pool, display, and the exit code that sums it up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass

import aioipc

from .display import DisplayThread, choose_display, count_in_background
from .exit_codes import EXIT_BOOT, EXIT_FAILED, EXIT_PIPE_CLOSED
from .map_run import MapRun, Stop, Stopped, Work
from .output import ResultWriter
from .progress import Counters, SayWarnings, say, summary
from .tasks_input import TaskInput, count_tasks

LAST_FLUSH = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The command line, checked."""

    target: str
    is_async: bool
    files: tuple[str, ...]
    json_values: bool
    null: bool
    ordered: bool
    workers: int | None
    concurrency: int
    timeout: float | None
    retries: int
    fail_fast: bool
    no_progress: bool
    quiet: bool
    shutdown: float

    @property
    def names(self) -> list[str]:
        """The inputs; standard input where no file is named."""
        return list(self.files) or ["-"]

    @property
    def separator(self) -> bytes:
        """What ends a task."""
        return b"\0" if self.null else b"\n"


def execute(settings: Settings, descriptor: int) -> int:
    """Run all tasks, write results to ``descriptor``; the exit code."""
    logging.getLogger("aioipc").addHandler(logging.NullHandler() if settings.quiet else SayWarnings())
    code: int = aioipc.run(Session(settings, descriptor).main)
    return code


class Session:
    """The run with everything around it."""

    def __init__(self, settings: Settings, descriptor: int) -> None:
        self._settings = settings
        self._descriptor = descriptor
        self._counters = Counters()
        self._main: asyncio.Task[int] | None = None
        self._run: MapRun | None = None
        self._signum: signal.Signals | None = None
        self._output_error: OSError | None = None
        self._retried = 0

    async def main(self) -> int:
        """Everything, from the first task to the exit code."""
        self._main = asyncio.current_task()
        display = self._start_display()
        try:
            async with aioipc.graceful_shutdown(timeout=self._settings.shutdown) as shutdown:
                watcher = asyncio.ensure_future(self._watch(shutdown))
                try:
                    await self._work()
                finally:
                    watcher.cancel()
        except aioipc.ShutdownTimeout:
            say("tasks that still ran were ended", error=True)
        except asyncio.CancelledError:
            if self._signum is None or self._run is not None:
                raise
            if self._main is not None:
                self._main.uncancel()
        except aioipc.WorkerBootError as error:
            say(str(error), error=True)
            return EXIT_BOOT
        finally:
            if display is not None:
                display.close()
        return self._end()

    async def _watch(self, shutdown: aioipc.GracefulShutdown) -> None:
        await shutdown.requested()
        self._signum = signal.Signals(shutdown.signum or signal.SIGTERM)
        if self._run is None:  # no worker is ready yet: there is nothing to finish
            if self._main is not None:
                self._main.cancel()
            return
        if not self._settings.quiet:
            limit = f"{self._settings.shutdown:g} s at most; again to end now"
            say(f"{self._signum.name}: finishing the tasks that run, {limit}")
        self._run.stop(Stop.SIGNAL)

    async def _work(self) -> None:
        settings = self._settings
        writer = ResultWriter(self._descriptor, self._output_broken)
        pool = aioipc.Pool(settings.workers, concurrency=settings.concurrency, shutdown=settings.shutdown)
        flush_within: float | None = LAST_FLUSH
        try:
            async with pool:
                await self._map(pool, writer)
            flush_within = None
        except Stopped:
            flush_within = None
        finally:
            await self._flush(writer, flush_within)

    async def _map(self, pool: aioipc.Pool, writer: ResultWriter) -> None:
        settings = self._settings
        source = TaskInput(settings.names, json_values=settings.json_values, separator=settings.separator)
        work = Work(
            settings.target,
            settings.is_async,
            concurrency=settings.concurrency,
            ordered=settings.ordered,
            timeout=settings.timeout,
            retries=settings.retries,
            fail_fast=settings.fail_fast,
        )
        self._run = MapRun(pool, work, source, writer, self._counters)
        if self._output_error is not None:
            self._run.stop(Stop.OUTPUT_BROKEN)
        try:
            await self._run.run()
        finally:
            self._retried = pool.statistics().retried

    async def _flush(self, writer: ResultWriter, within: float | None) -> None:
        """Write out what is finished; after a cancellation only a moment is left for it."""
        if self._run is not None:
            self._run.finish()
        try:
            async with asyncio.timeout(within):
                await writer.aclose()
        except TimeoutError:
            pass

    def _output_broken(self, error: OSError) -> None:
        self._output_error = error
        if self._run is not None:
            self._run.stop(Stop.OUTPUT_BROKEN)

    def _start_display(self) -> DisplayThread | None:
        settings = self._settings
        if "-" in settings.names and os.isatty(0) and not settings.quiet:
            say("reading tasks from the terminal, one a line; Ctrl-D ends the input")
        display = choose_display(
            quiet=settings.quiet or settings.no_progress, results_on_terminal=os.isatty(self._descriptor)
        )
        if display is None:
            return None
        count_in_background(self._counters, lambda: count_tasks(settings.names, settings.separator))
        return DisplayThread(self._counters, display)

    def _end(self) -> int:
        """Say how it went; the exit code."""
        if isinstance(self._output_error, BrokenPipeError):
            return EXIT_PIPE_CLOSED
        if self._output_error is not None:
            say(f"cannot write the results: {self._output_error.strerror}", error=True)
        reason = self._run.stop_reason if self._run is not None else None
        if self._run is not None and self._run.error is not None:
            say(str(self._run.error), error=True)
        if not self._settings.quiet:
            say(summary(self._counters, self._retried))
        if self._signum is not None:
            return 128 + self._signum
        if reason is Stop.POOL_BROKEN:
            return EXIT_BOOT
        return EXIT_FAILED if self._counters.failed or reason or self._output_error else 0
