"""Things to wait for: a pretended object whose source reports as little as a source may, and records in a pipe."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue


class OneShot:
    """A list of items, and a `Readiness` that reports once for each time it is armed, as a thread would."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.armed = False
        self.closed = False
        self.attempts = 0
        self._report: Callable[[], bool] | None = None

    def put(self, *items: int) -> None:
        self.items.extend(items)
        self._announce()

    def take(self) -> int:
        self.attempts += 1
        if not self.items:
            raise BlockingIOError
        return self.items.popleft()

    def fire(self) -> bool:
        """Report, if armed, whether there is something or not."""
        if not self.armed or self._report is None:
            return False
        self.armed = False
        return self._report()

    def arm(self, report: Callable[[], bool]) -> None:
        if not self.armed:
            self.armed, self._report = True, report
            self._announce()

    def disarm(self) -> None:
        self.armed = False

    def close(self) -> None:
        self.armed, self.closed = False, True

    def _announce(self) -> None:
        if self.armed and self.items:
            asyncio.get_running_loop().call_soon(self.fire)


class Records:
    """Numbers as records of 8 bytes in a small pipe or a packet socket, with a wait queue at each end."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._ends = read_fd, write_fd
        self.readers = WaitQueue(DescriptorReadiness(read_fd, "read"), "record reader")
        self.writers = WaitQueue(DescriptorReadiness(write_fd, "write"), "record writer")

    async def receive(self) -> int | None:
        """A number, or None at the end."""
        data = await self.readers.take(os.read, self._ends[0], 8)
        return int.from_bytes(data) if data else None

    async def send(self, number: int) -> None:
        assert await self.writers.take(os.write, self._ends[1], number.to_bytes(8)) == 8

    def put(self, number: int) -> None:
        os.write(self._ends[1], number.to_bytes(8))

    def end(self) -> None:
        """Close the write end."""
        self.writers.close(lambda: os.close(self._ends[1]))

    def close(self) -> None:
        self.end()
        self.readers.close(lambda: os.close(self._ends[0]))


def make_pipe() -> Records:
    """A pipe that 512 records fill."""
    read_fd, write_fd = os.pipe()
    for fd in (read_fd, write_fd):
        os.set_blocking(fd, False)
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    return Records(read_fd, write_fd)


def make_packets() -> Records:
    """A pair of packet sockets that few records fill."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for end in (reader, writer):
        end.setblocking(False)
    return Records(reader.detach(), writer.detach())


MAKERS: dict[str, Callable[[], Records]] = {"pipe": make_pipe, "seqpacket": make_packets}


@contextmanager
def records(kind: str = "pipe") -> Iterator[Records]:
    made = MAKERS[kind]()
    try:
        yield made
    finally:
        made.close()


async def turns(count: int = 3) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
