"""Waiting for standard input and output as they are.

Both are shared with the shell and its other programs, so O_NONBLOCK, which would be theirs too, is out of the
question; uvloop sets it on whatever it watches. An epoll instance of our own says when they are ready, and the loop
watches that.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncGenerator, Callable

CHUNK = 65536
LARGEST = 64 << 20


class DescriptorWatch:
    """Says whether a descriptor is ready for ``events``; regular files and devices such as /dev/null always are.

    With ``events=0``: whether the other end is gone.
    """

    def __init__(self, descriptor: int, events: int) -> None:
        self._epoll: select.epoll | None = select.epoll()
        self._always = events != 0
        try:
            self._epoll.register(descriptor, events)
        except PermissionError:  # EPERM: nothing that one can wait for
            self.close()
        except BaseException:
            self.close()
            raise

    def is_ready(self) -> bool:
        """Whether it is so now."""
        return self._always if self._epoll is None else bool(self._epoll.poll(0))

    async def wait(self) -> None:
        """Wait until it is so."""
        if self._epoll is None or self._epoll.poll(0):
            return
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._epoll.fileno(), _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._epoll.fileno())

    def call(self, callback: Callable[[], None]) -> None:
        """Call it, again and again, as soon as it is so; `close` ends that."""
        if self._epoll is not None:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), callback)

    def close(self) -> None:
        """Stop watching; closed already: do nothing."""
        if self._epoll is not None:
            epoll, self._epoll = self._epoll, None
            try:
                asyncio.get_running_loop().remove_reader(epoll.fileno())
            except RuntimeError:  # no loop runs any more
                pass
            epoll.close()


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def read_pieces(descriptor: int, separator: bytes | None) -> AsyncGenerator[bytes, None]:
    """What comes from a descriptor, cut at each separator; the last piece may lack one. None: all in one piece.

    Raises `ValueError` for a piece above 64 MiB.
    """
    watch = DescriptorWatch(descriptor, select.EPOLLIN)
    try:
        rest = bytearray()
        while True:
            await watch.wait()
            await asyncio.sleep(0)  # a file is always ready: let signals through
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                break
            rest += chunk
            if separator is not None and separator in chunk:
                *pieces, last = rest.split(separator)
                for piece in pieces:
                    yield bytes(piece)
                rest = bytearray(last)
            if len(rest) > LARGEST:
                raise ValueError(f"a message from standard input has more than {LARGEST >> 20} MiB")
        if rest or separator is None:
            yield bytes(rest)
    finally:
        watch.close()
