"""Tasks for ``aioipc map``: lines or JSON values of files and standard input.

A daemon thread reads, because a read from a file, a FIFO or a terminal can block for ever and cannot be
cancelled; being a daemon it never holds up the exit. It hands over whole batches, at most ``LOOK_AHEAD``
of them ahead of the consumer, so that memory stays flat on an endless input. A batch is what one read
gave: a line that arrives alone is handed over alone, at once.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import NamedTuple, NoReturn

CHUNK = 64 * 1024
LOOK_AHEAD = 2
MAX_TASK = 64 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Task(NamedTuple):
    """One task, or a line that should have been one."""

    value: object
    """The argument for the function."""
    shown: bytes
    """The task as JSON, for the results."""
    problem: str | None = None
    """Why the line is no task: it is not JSON."""


class InputError(Exception):
    """The input cannot be read any further; the text says why."""


class TaskInput:
    """The tasks of ``names`` (``-`` is standard input), in order, batch by batch.

    ``json_values``
        Each line is a JSON value. Otherwise a task is the line itself, a ``str``.
    ``separator``
        What ends a line: a line feed, or a zero byte as ``find -print0`` writes it.
    """

    def __init__(self, names: list[str], *, json_values: bool = False, separator: bytes = b"\n") -> None:
        self._names = names
        self._separator = separator
        self._tasks = _json_tasks if json_values else _text_tasks
        self._loop = asyncio.get_running_loop()
        self._batches: deque[list[Task] | InputError | None] = deque()
        self._arrived = asyncio.Event()
        self._ahead = threading.Semaphore(LOOK_AHEAD)
        self._closed = False
        threading.Thread(target=self._run, name="aioipc-map-input", daemon=True).start()

    async def next_batch(self) -> list[Task] | None:
        """The next tasks, or ``None`` at the end; `InputError` where the input breaks off."""
        while not self._batches:
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._batches.popleft()
        self._ahead.release()
        if isinstance(batch, InputError):
            raise batch
        return batch

    def close(self) -> None:
        """Let the thread end once the read that it is in returns."""
        self._closed = True
        self._ahead.release()

    def _run(self) -> None:
        try:
            for name in self._names:
                first = 1
                for lines in _read_file(name, self._separator):
                    if tasks := self._tasks(lines, name, first):
                        self._hand_over(tasks)
                    first += len(lines)
                    if self._closed:
                        return
        except InputError as error:
            self._hand_over(error)
        else:
            self._hand_over(None)

    def _hand_over(self, batch: list[Task] | InputError | None) -> None:
        self._ahead.acquire()
        self._batches.append(batch)
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is closed: nobody wants the rest
            self._closed = True


def count_tasks(names: list[str], separator: bytes = b"\n") -> int | None:
    """How many tasks there will be, or ``None`` where a name is no regular file; consumes nothing."""
    total = 0
    try:
        for name in names:
            descriptor = os.dup(0) if name == "-" else os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                start = os.lseek(0, 0, os.SEEK_CUR) if name == "-" else 0
                for lines in split_lines(_reader_at(descriptor, start), separator):
                    total += len(lines) - lines.count(b"") - lines.count(b"\r")
            finally:
                os.close(descriptor)
    except (OSError, InputError):  # the reading thread will say so
        return None
    return total


def split_lines(read: Callable[[], bytes], separator: bytes) -> Iterator[list[bytes]]:
    """The lines, without what ends them, that each ``read()`` completes, until it gives nothing."""
    parts: list[bytes] = []
    size = 0
    while chunk := read():
        lines = chunk.split(separator)
        if len(lines) > 1:
            lines[0] = b"".join([*parts, lines[0]])
            parts, size = [], 0
            chunk = lines.pop()
            yield lines
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_TASK:
            raise InputError(f"a line is longer than {MAX_TASK >> 20} MiB")
    if size:
        yield [b"".join(parts)]


def _read_file(name: str, separator: bytes) -> Iterator[list[bytes]]:
    shown = "standard input" if name == "-" else name
    try:
        descriptor = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from split_lines(functools.partial(os.read, descriptor, CHUNK), separator)
        finally:
            if descriptor:
                os.close(descriptor)
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"cannot read {shown}: {error}") from error


def _reader_at(descriptor: int, offset: int) -> Callable[[], bytes]:
    def read() -> bytes:
        nonlocal offset
        chunk = os.pread(descriptor, CHUNK, offset)
        offset += len(chunk)
        return chunk

    return read


def _text_tasks(lines: list[bytes], name: str, first: int) -> list[Task]:
    if first == 1:
        lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
    tasks = []
    for line in lines:
        text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")  # open(text) finds any file name
        if text:
            tasks.append(Task(text, _shown(text)))
    return tasks


def _json_tasks(lines: list[bytes], name: str, first: int) -> list[Task]:
    if first == 1:
        lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
    tasks = []
    for number, line in enumerate(lines, first):
        if not (stripped := line.strip()):
            continue
        try:
            tasks.append(Task(json.loads(stripped.decode(), parse_constant=_no_constant), stripped))
        except (ValueError, RecursionError) as error:
            where = f"{'standard input' if name == '-' else name}, line {number}"
            text = line.decode("utf-8", "surrogateescape")
            tasks.append(Task(None, _shown(text), f"{where}: not a JSON value: {error}"))
    return tasks


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _shown(text: str) -> bytes:
    try:
        return encode_basestring(text).encode()
    except UnicodeEncodeError:  # lone surrogates, of bytes that are not UTF-8: only ASCII JSON holds them
        return encode_basestring_ascii(text).encode()
