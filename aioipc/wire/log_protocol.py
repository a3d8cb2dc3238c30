"""Log records of a worker as bytes in a pipe, and back.

A record is cut into chunks, each of which one write(2) puts into the pipe whole or not at all (`select.PIPE_BUF`).
So the writer never waits and never has half a chunk left to write, the master never misses where the next one
begins, and a record whose second half found no room is simply thrown away at the other end.

The reader trusts nothing: a task can write to any descriptor. What is no chunk is skipped up to the next thing
that is one, and records hold plain values only: unpickling looks up no class.
"""

from __future__ import annotations

import io
import pickle
import select
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

MAGIC = b"\xf5\xffLR"  # no such bytes in any UTF-8 text
LARGEST = 60 * 1024
"""Bytes of an encoded record."""
SHORT, NAME = 4096, 256
"""Characters to which the texts and the names of a record are cut that is larger than `LARGEST`."""

_HEADER = struct.Struct("=4sHBxI")  # magic, bytes that follow, flags, serial number of the record
_ROOM = select.PIPE_BUF - _HEADER.size
_FIRST, _LAST = 1, 2


class Record(NamedTuple):
    """A log record, its message formatted and its exception printed to text."""

    lost: int
    """Records before this one that found no room."""
    name: str
    levelno: int
    levelname: str
    message: str
    pathname: str
    lineno: int
    function: str | None
    created: float
    thread: int | None
    thread_name: str | None
    process: int | None
    process_name: str | None
    task_name: str | None
    exc_text: str | None
    stack_info: str | None
    extra: dict[str, Any]
    """Attributes that the caller added, as far as they are plain values."""


_TYPES: tuple[type | tuple[type, ...], ...] = (
    *(int, str, int, str, str, str, int, (str, type(None)), float),
    *[(int, type(None)), (str, type(None))] * 2,
    *[(str, type(None))] * 3,
    dict,
)


def encode_record(record: Record, serial: int) -> list[bytes]:
    """Encode a record, or ``Record.lost`` alone where it has no name; the ``serial`` wraps round at 2**32."""
    size = len(record.message) + len(record.exc_text or "") + len(record.stack_info or "")
    body = b"" if size > LARGEST else pickle.dumps(tuple(record), 5)
    if not 0 < len(body) <= LARGEST:
        body = pickle.dumps(tuple(_cut(record)), 5)
    pieces = [body[begin : begin + _ROOM] for begin in range(0, len(body), _ROOM)]
    last = len(pieces) - 1
    return [
        _HEADER.pack(MAGIC, len(piece), (i == 0) * _FIRST | (i == last) * _LAST, serial & 0xFFFFFFFF) + piece
        for i, piece in enumerate(pieces)
    ]


def _cut(record: Record) -> Record:
    """Keep the beginning of a message and the end of a traceback: that is where it says what happened."""
    missing = len(record.message) - SHORT
    message = f"{record.message[:SHORT]}… ({missing} more characters)" if missing > 0 else record.message
    return record._replace(
        name=record.name[:NAME],
        levelname=record.levelname[:NAME],
        message=message,
        pathname=record.pathname[-NAME:],
        function=record.function and record.function[:NAME],
        thread_name=record.thread_name and record.thread_name[:NAME],
        process_name=record.process_name and record.process_name[:NAME],
        task_name=record.task_name and record.task_name[:NAME],
        exc_text=record.exc_text and record.exc_text[-SHORT:],
        stack_info=record.stack_info and record.stack_info[-SHORT:],
        extra={},
    )


class RecordDecoder:
    """Bytes in, records out. ``on_garbage`` is called for what is none, once for each stretch of it."""

    def __init__(self, on_garbage: Callable[[], object]) -> None:
        self._on_garbage = on_garbage
        self._buffer = bytearray()
        self._body = bytearray()
        self._serial = -1
        self._in_garbage = False

    def feed(self, data: bytes) -> list[Record]:
        """Take in what was read; return the records that are whole now."""
        buffer = self._buffer
        buffer += data
        records: list[Record] = []
        at = 0
        while len(buffer) - at >= _HEADER.size:
            magic, size, flags, serial = _HEADER.unpack_from(buffer, at)
            if magic != MAGIC or size > _ROOM or flags > _FIRST | _LAST:
                at = self._skip(at)
                continue
            begin = at + _HEADER.size
            if len(buffer) < begin + size:
                break
            self._in_garbage = False
            at = begin + size
            if (record := self._take(flags, serial, buffer[begin:at])) is not None:
                records.append(record)
        del buffer[:at]
        return records

    def _skip(self, at: int) -> int:
        """Return where the next chunk may begin."""
        self._garbage()
        following = self._buffer.find(MAGIC, at + 1)
        return following if following >= 0 else max(at + 1, len(self._buffer) - len(MAGIC) + 1)

    def _take(self, flags: int, serial: int, piece: bytearray) -> Record | None:
        if flags & _FIRST:
            self._body, self._serial = piece, serial
        elif serial == self._serial:
            self._body += piece
        else:
            return None  # the rest of a record whose beginning another thread or a signal handler cut off
        if not flags & _LAST and len(self._body) <= 2 * LARGEST:
            return None
        body, self._body, self._serial = self._body, bytearray(), -1
        record = decode_record(body)
        if record is None:
            self._garbage()
        return record

    def _garbage(self) -> None:
        if not self._in_garbage:
            self._in_garbage = True
            self._on_garbage()


def decode_record(body: bytes | bytearray) -> Record | None:
    """Return the record that `encode_record` was given; ``None`` where the bytes are something else."""
    try:
        values = _Plain(io.BytesIO(body)).load()
    except Exception:
        return None
    if type(values) is not tuple or len(values) != len(_TYPES):
        return None
    if not all(isinstance(value, kind) for value, kind in zip(values, _TYPES, strict=True)):
        return None
    return Record(*values) if all(type(key) is str for key in values[-1]) else None


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a log record has no {module}.{name}")
