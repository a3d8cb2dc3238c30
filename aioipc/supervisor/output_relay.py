"""What a worker writes to standard output and standard error, read by its master line by line.

The pipes are read in the callback, a portion a turn. While one is full the worker's ``print`` waits, so nothing is
lost and nothing piles up here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Literal

from .output_lines import LineSplitter, OutputLine
from .pipe_reader import PipeReader
from .source import Source

_output_log = logging.getLogger("aioipc.output")

LINES = 64
"""Lines handed over in one turn of the loop; a portion may hold thousands of empty ones."""
TAIL = 8192
"""Bytes that are kept for the report of a crash."""

Sink = Callable[[OutputLine], object]


def log_line(line: OutputLine) -> None:
    """Log a line to ``aioipc.output``: INFO what came from standard output, WARNING what came from standard error."""
    level = logging.INFO if line.stream == "stdout" else logging.WARNING
    if not _output_log.isEnabledFor(level):
        return
    source = Source(line.slot, line.service)
    text, arguments = "%s (pid %d): %s", (source.label, line.pid, line.text)
    record = _output_log.makeRecord(_output_log.name, level, __file__, 0, text, arguments, None)
    record.process, record.processName = line.pid, source.process_name
    record.worker, record.stream, record.line = line.slot, line.stream, line.text
    if line.service:
        record.service = line.service
    _output_log.handle(record)


class OutputRelay(PipeReader):
    """Reads the pipe ``fd`` of a worker on the loop and hands lines to ``sink``; the descriptor stays its
    owner's. It reads from `start` on, since a line names the pid.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        source: Source,
        stream: Literal["stdout", "stderr"],
        sink: Sink,
    ) -> None:
        super().__init__(loop, fd)
        self._source = source
        self._stream = stream
        self._sink = sink
        self._pid = -1
        self._splitter = LineSplitter()
        self._lines: deque[str] = deque()
        self._tail = bytearray()
        self._due = False

    def start(self, pid: int) -> None:
        """Begin to read; done so already: do nothing."""
        if self._pid < 0:
            self._pid = pid
            self.listen()

    def tail(self) -> str:
        """Return the end of all that was read."""
        return self._tail.decode("utf-8", "replace")

    def drain(self, limit: int) -> None:
        """See `PipeReader`; all that was read is handed over, also a line without an end."""
        super().drain(limit)
        self._lines.extend(self._splitter.finish())
        self._deliver(len(self._lines))

    def _readable(self) -> None:
        if not self._lines:
            self._read()
            self._go_on()

    def _go_on(self) -> None:
        """Hand over some lines; the rest in the next turn."""
        self._due = False
        self._deliver(LINES)
        if self._lines and not self._due:
            self._due = True
            self._loop.call_soon(self._go_on)

    def _take(self, data: bytes) -> None:
        self._lines.extend(self._splitter.feed(data))
        self._tail += data[-TAIL:]
        del self._tail[:-TAIL]

    def _deliver(self, count: int) -> None:
        for _ in range(min(count, len(self._lines))):
            line = OutputLine(self._source.slot, self._pid, self._stream, self._lines.popleft(), self._source.service)
            try:
                self._sink(line)
            except Exception:
                log = logging.getLogger(self._source.logger)
                log.exception("the function given as capture= has failed for %r", line)
