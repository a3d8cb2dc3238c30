"""Where ``aioipc recv`` writes: message by message, at once, and only where somebody reads it.

A message is taken out of its queue when there is room for it, or for the first 4 KiB of it. What cannot be written
whole, because the reader has left or the command shall end, goes back to the queue.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
from collections.abc import Callable

from .standard_streams import DescriptorWatch

LAST_WRITE = 1.0
"""Seconds for the rest of a message, once the command shall end."""


class MessageOutput:
    """Standard output. ``on_gone`` is called once its reader has left, also while there is nothing to write.

    Raises `OSError` where the descriptor is closed.
    """

    def __init__(self, descriptor: int, on_gone: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._on_gone = on_gone
        self._room = DescriptorWatch(descriptor, select.EPOLLOUT)
        self._reader = DescriptorWatch(descriptor, 0)
        self._reader.call(self._gone)
        self.is_gone: bool = False
        self.wrote_all: bool = True  #: of what `write` was called with last

    async def wait_room(self) -> None:
        """Wait until a message can be written; `BrokenPipeError` where nobody reads any more."""
        if not self._room.is_ready():
            await self._room.wait()
        if self.is_gone or self._reader.is_ready():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    async def write(self, data: bytes) -> None:
        """Write all of it. Cancelled half-way: goes on for a second at most; then `wrote_all` says how that ended."""
        self.wrote_all = False
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[await self._write_some(rest) :]
        except asyncio.CancelledError:
            if len(rest) < len(data):
                await self._finish(rest)
            raise
        self.wrote_all = True

    async def _finish(self, rest: memoryview) -> None:
        try:
            async with asyncio.timeout(LAST_WRITE):
                while rest:
                    rest = rest[await self._write_some(rest) :]
        except TimeoutError:
            return
        self.wrote_all = True

    async def _write_some(self, data: memoryview) -> int:
        """Write as much as there is room for at least, so that it does not block."""
        if not self._room.is_ready():
            await self._room.wait()
        try:
            return os.write(self._descriptor, data[: select.PIPE_BUF])
        except BlockingIOError:  # somebody has made it non-blocking, and somebody has used the room
            await asyncio.sleep(0)
            return 0

    def close(self) -> None:
        """Watch it no longer; the descriptor stays open."""
        self._room.close()
        self._reader.close()

    def _gone(self) -> None:
        self._reader.close()
        self.is_gone = True
        self._on_gone()
