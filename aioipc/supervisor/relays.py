"""All that a worker says besides results: its log records and its output, as one thing for its master to hold."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from .child import LOG_PIPE, Child
from .log_levels import current_levels
from .log_relay import LogRelay
from .output_lines import OutputLine
from .output_relay import OutputRelay, Sink, log_line
from .source import Source

OUTPUT_PIPE = 1 << 16
"""Bytes of output that wait for the master at most, which is what a pipe holds."""

Stream = Literal["stdout", "stderr"]
_PIPES: dict[Stream, str] = {"stdout": "output_pipe", "stderr": "error_pipe"}


class RelayOptions(NamedTuple):
    """What of it is wanted."""

    logs: bool = False
    sink: Sink | None = None
    """Who gets the lines of output; ``None``: they are not captured."""
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    """Which of the two are captured."""

    @property
    def capture(self) -> tuple[Stream, ...]:
        """The standard streams that are captured."""
        return () if self.sink is None else self.streams

    @property
    def preload(self) -> list[str]:
        """What the zygote should import for it, once for all workers."""
        return ["aioipc.supervisor.worker_logging"] if self.logs else []


def relay_options(logs: object, capture: bool | Callable[[OutputLine], object]) -> RelayOptions:
    """Check the pool's options of these names; raises TypeError."""
    if not isinstance(logs, bool):
        raise TypeError(f"logs must be True or False, not {logs!r}")
    if isinstance(capture, bool):
        return RelayOptions(logs, log_line if capture else None)
    if not callable(capture):
        raise TypeError(f"capture must be True, False or a function that takes an OutputLine, not {capture!r}")
    if inspect.iscoroutinefunction(capture):
        raise TypeError(f"capture must be an ordinary function, since nobody would await it: {capture!r}")
    return RelayOptions(logs, capture)


class Relays:
    """What one worker says, read on the loop from `start` to `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Source, options: RelayOptions, child: Child) -> None:
        self.settings: dict[str, Any] = {"logs": current_levels() if options.logs else None}
        self._child = child
        pipes = child.pipes
        self._log = LogRelay(loop, pipes["logs"], source) if options.logs else None
        self._outputs: dict[Stream, OutputRelay] = {}
        if options.sink is not None:
            for stream in options.streams:
                self._outputs[stream] = OutputRelay(loop, pipes[_PIPES[stream]], source, stream, options.sink)

    def start(self) -> None:
        """Read output from now on, its pid being known; may be called twice."""
        if self._child.pid is not None:
            for output in self._outputs.values():
                output.start(self._child.pid)

    def before_results(self) -> None:
        """Read log records ahead of what else the worker has said."""
        if self._log is not None:
            self._log.read_ahead()

    def drain(self) -> None:
        """Read what a worker that has ended left behind."""
        self.start()
        if self._log is not None:
            self._log.drain(LOG_PIPE)
        for output in self._outputs.values():
            output.drain(2 * OUTPUT_PIPE)

    def stderr_tail(self) -> str:
        """Return the end of what it wrote to standard error, where that was captured."""
        return self._outputs["stderr"].tail() if "stderr" in self._outputs else ""

    def close(self) -> None:
        """Stop reading; the descriptors are the child's."""
        if self._log is not None:
            self._log.close()
        for output in self._outputs.values():
            output.close()
