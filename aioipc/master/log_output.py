"""Log lines on their way out of the master, by a thread: who reads them slowly, or not at all, holds up nobody.

The loop that starts and watches processes must not wait for a terminal or for a log collector, and neither must a
worker. So lines wait in a queue of bounded length; what finds no room there is counted, and the count is written as
soon as there is room again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque

MOST_WAITING = 10_000
"""Lines."""
MOST_CHARACTERS = 32 << 20
"""Of all lines that wait."""
_PORTION = 1 << 18
"""Characters that are written at once, or a longer line."""
_LAST_MOMENTS = 2.0


class LogOutput(logging.Handler):
    """Writes formatted records to a descriptor, which stays its owner's; `stop` ends it."""

    def __init__(
        self, fd: int, formatter: logging.Formatter, *, most: int = MOST_WAITING, most_characters: int = MOST_CHARACTERS
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lost: int = 0
        """How many records found no room and were not told of yet."""
        self._fd = fd
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._lines: deque[str] = deque()
        self._there = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="aioipc-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record in the queue."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        with self._there:
            if len(self._lines) < self._most and self._characters + len(line) <= self._most_characters:
                self._lines.append(line)
                self._characters += len(line)
            else:
                self.lost += 1
            self._there.notify()

    def stop(self, timeout: float = _LAST_MOMENTS) -> None:
        """Write what waits, for so many seconds at most, and end."""
        with self._there:
            self._ended = True
            self._there.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._there:
                while not (self._lines or self.lost or self._ended):
                    self._there.wait()
                lines, ended = self._take(), self._ended
                lost, self.lost = self.lost, 0
            if lost:
                lines.append(self._say_lost(lost))
            if lines:
                self._write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
            elif ended:
                return

    def _take(self) -> list[str]:
        """Take some lines out of the queue."""
        lines: list[str] = []
        size = 0
        while self._lines and size < _PORTION:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        self._characters -= size
        return lines

    def _say_lost(self, lost: int) -> str:
        text = "%d log records were lost: whoever reads the log is too slow"
        record = logging.LogRecord("aioipc.master", logging.WARNING, __file__, 0, text, (lost,), None)
        return self.format(record)

    def _write(self, data: bytes) -> None:
        """Write all of it; where nobody reads any more, it is dropped."""
        view = memoryview(data)
        with contextlib.suppress(OSError):
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:  # somebody has made it non-blocking
                    time.sleep(0.01)
