"""A pipe of a worker, read by its master on the loop, a portion a turn."""

from __future__ import annotations

import asyncio
import os

PORTION = 8192
"""Bytes read in one turn of the loop: so many log records that handling them takes a few milliseconds."""


class PipeReader:
    """Reads the pipe ``fd`` from `listen` to `close`; the descriptor stays its owner's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._listening = False

    def listen(self) -> None:
        """Begin to read."""
        if self._fd >= 0:
            self._listening = True
            self._loop.add_reader(self._fd, self._readable)

    def drain(self, limit: int) -> None:
        """Read what a worker that has ended left behind, at most ``limit`` bytes.

        There may be no end of file: a process that it has started can live on and hold the pipe open.
        """
        self._read_portions(limit // PORTION + 1)

    def close(self) -> None:
        """Stop reading; may be called twice."""
        if self._listening:
            self._loop.remove_reader(self._fd)
            self._listening = False
        self._fd = -1

    def _take(self, data: bytes) -> None:
        """Do something with a portion."""
        raise NotImplementedError

    def _readable(self) -> None:
        self._read()

    def _read_portions(self, count: int) -> None:
        for _ in range(count):
            if not self._read():
                return

    def _read(self) -> bool:
        """Read one portion; False where that was all there is."""
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, PORTION)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:  # a task has closed it, or the worker has ended
            self.close()
            return False
        self._take(data)
        return len(data) == PORTION
