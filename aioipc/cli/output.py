"""Where the results go: the real standard output, or a file, written by a thread of its own.

Rejected: O_NONBLOCK on descriptor 1 with ``loop.add_writer``. The flag belongs to the open file, which the
shell and every other process on the same terminal share. A daemon thread may block in ``write`` as long as
a slow reader likes; the loop goes on, and the exit does not wait for it longer than it wants to.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable

BACKLOG = 1024 * 1024
CHUNK = 64 * 1024
PAUSE = 0.02


def take_standard_output() -> int:
    """The real standard output as a private descriptor; from now on descriptor 1 is standard error.

    Worker processes inherit descriptor 1, so what they print never gets between the results.
    """
    open_missing_descriptors()
    private = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(2, 1)
    return private


def open_missing_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed, so that no file of ours ends up under such a number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class OutputError(Exception):
    """The file for the results cannot be opened; the text is one line that says why."""


def open_file(name: str, inputs: Iterable[str]) -> int:
    """Open the file for the results, emptied, unless it is one of the ``inputs``."""
    try:
        for each in inputs:
            if each != "-" and os.path.exists(name) and os.path.samefile(name, each):
                raise OutputError(f"{name} is an input: the results would overwrite it")
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error


class ResultWriter:
    """Writes lines to ``descriptor``, which it owns, in batches and never later than ``PAUSE`` seconds.

    ``on_broken(error)`` is called once, in the loop, when nothing more can be written; with EPIPE as soon
    as the reader of a pipe is gone, also while there is nothing to write.
    """

    def __init__(self, descriptor: int, on_broken: Callable[[OSError], None]) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._size = 0
        self._flush_timer: asyncio.Handle | None = None
        self._last_flush = 0.0
        self._chunks: deque[bytes] = deque()
        self._backlog = 0
        self._progress = asyncio.Event()
        self._ended = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        threading.Thread(target=self._run, name="aioipc-map-output", daemon=True).start()

    @property
    def full(self) -> bool:
        """True while the reader is so slow that more results should not be made."""
        return self._backlog + self._size > BACKLOG and not self._ended

    def write(self, line: bytes) -> None:
        """Add a line, newline included; it never waits."""
        if self._ended:
            return
        self._lines.append(line)
        self._size += len(line)
        if self._size >= CHUNK:
            self._flush()
        elif self._flush_timer is None:
            wait = max(0.0, self._last_flush + PAUSE - self._loop.time())
            self._flush_timer = self._loop.call_later(wait, self._flush)

    async def wait_room(self) -> None:
        """Wait until it is not `full`."""
        while self.full:
            self._progress.clear()
            await self._progress.wait()

    async def aclose(self) -> None:
        """Write everything out; cancelled, it leaves the rest to the thread, which ends with the process."""
        self._flush()
        self._wake(b"x")
        while not self._ended:
            self._progress.clear()
            await self._progress.wait()

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._lines:
            self._last_flush = self._loop.time()
            self._chunks.append(b"".join(self._lines))
            self._backlog += self._size
            self._lines.clear()
            self._size = 0
            self._wake(b"f")

    def _wake(self, sign: bytes) -> None:
        if self._ended:
            return
        try:
            os.write(self._wake_write, sign)
        except BlockingIOError:  # so many signs that nobody has read yet: one more says nothing new
            pass

    def _run(self) -> None:
        error = None
        try:
            self._write_until_closed()
        except OSError as failure:
            error = failure
        self._tell(functools.partial(self._end, error))

    def _write_until_closed(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        poller.register(self._descriptor, 0)  # what is reported unasked: the reader is gone
        closing = False
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                write_all(self._descriptor, chunk)
                self._tell(functools.partial(self._written, len(chunk)))
            if closing:
                return
            for descriptor, _ in poller.poll():
                if descriptor == self._descriptor:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                closing = b"x" in os.read(self._wake_read, 4096) or closing

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _written(self, size: int) -> None:
        self._backlog -= size
        self._progress.set()

    def _end(self, error: OSError | None) -> None:
        self._ended = True
        self._progress.set()
        for descriptor in (self._wake_read, self._wake_write, self._descriptor):
            os.close(descriptor)
        if error is not None:
            self._on_broken(error)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, also where somebody else has made the descriptor non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
