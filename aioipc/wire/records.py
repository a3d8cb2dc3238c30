"""The records of a log file as bytes, and back: where one begins, that it is whole, and where the next one is.

    file    header │ record │ record │ …
    header  magic, format, serial of the log, position of the file's first record, CRC                     32 bytes
    record  magic, length, CRC of the body, CRC of these three and the position │ body │ end, CRC    24 bytes + body

The position of a record is how many bytes were ever written before it, over all files of the log. It is in no record
but in the CRCs of each, so bytes that look like a record are one only at the place where it was written: no body can be
taken for a record in the search for the next one, whatever is in it.

A write that was cut off leaves the beginning of a record and nothing behind it. `decode` tells that from a damage: the
CRC of the first 16 bytes makes the length trustworthy before the body is there. The last 8 bytes say that everything
before them was written, so whoever appends need not read the last record to know that it is whole.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\xf5AR\xff"  # no such bytes in any UTF-8 text
HEADER_SIZE, START_SIZE, END_SIZE = 32, 16, 8
OVERHEAD = START_SIZE + END_SIZE  # bytes of a record that are not its body
LARGEST_BODY = (1 << 31) - 1

_FILE_MAGIC, _FORMAT = b"\xf5AIOIPC\n", 1
_HEADER = struct.Struct("<8sIQQI")
_START = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<II")
_END = struct.Struct("<II")
_POSITION = struct.Struct("<Q")

Buffer = bytes | bytearray | memoryview


class LogHeader(NamedTuple):
    """What a log file begins with."""

    serial: int  #: tells this log from another one of the same name
    base: int  #: the position of the first record in the file


class Whole(NamedTuple):
    """There is a whole record; ``size`` bytes of the file belong to it."""

    body: bytes
    size: int


class Missing(NamedTuple):
    """There is the beginning of a record, or nothing; the file needs ``size`` bytes from there on to tell more."""

    size: int


class Damaged(NamedTuple):
    """There is no record here; ``reason`` says what is wrong."""

    reason: str


def encode_header(header: LogHeader) -> bytes:
    """Return the first bytes of a log file."""
    checked = _HEADER.pack(_FILE_MAGIC, _FORMAT, header.serial, header.base, 0)[:-4]
    return checked + struct.pack("<I", crc32(checked))


def decode_header(data: Buffer) -> LogHeader | Missing | Damaged:
    """Read the first bytes of a file."""
    if len(data) < HEADER_SIZE:
        beginning = bytes(data) == _FILE_MAGIC[: len(data)] or bytes(data[:8]) == _FILE_MAGIC
        return Missing(HEADER_SIZE) if beginning else Damaged("it is no record log")
    magic, format, serial, base, check = _HEADER.unpack_from(data)
    if magic != _FILE_MAGIC:
        return Damaged("it is no record log")
    if crc32(bytes(data[: HEADER_SIZE - 4])) != check:
        return Damaged("the header of the file is damaged")
    if format != _FORMAT:
        return Damaged(f"it is a record log of another format, {format}")
    return LogHeader(serial, base)


def encode(body: Buffer, position: int) -> bytes:
    """Return the bytes of a record at ``position``; the body has `LARGEST_BODY` bytes at most."""
    size = len(body)
    check = crc32(body)
    salt = crc32(_POSITION.pack(position))
    start = _START.pack(MAGIC, size, check, _check_start(size, check, salt))
    return b"".join((start, body, _end(position + OVERHEAD + size)))


def decode(data: Buffer, at: int, position: int, limit: int = LARGEST_BODY) -> Whole | Missing | Damaged:
    """Read what is in ``data`` from ``at`` on, which is ``position`` in the log.

    A record whose body has more than ``limit`` bytes counts as damaged, before any memory is taken for it.
    """
    there = len(data) - at
    if there < START_SIZE:
        beginning = bytes(data[at : at + len(MAGIC)])
        return Missing(START_SIZE) if MAGIC.startswith(beginning) else Damaged(_NO_RECORD)
    magic, size, check, start_check = _START.unpack_from(data, at)
    if magic != MAGIC or start_check != _check_start(size, check, crc32(_POSITION.pack(position))):
        return Damaged(_NO_RECORD)
    if size > limit:
        return Damaged(f"there is a record of {size} bytes, more than the {limit} that are allowed (max_record)")
    whole = OVERHEAD + size
    if there < whole:
        return Missing(whole)
    body = bytes(data[at + START_SIZE : at + START_SIZE + size])
    if data[at + whole - END_SIZE : at + whole] != _end(position + whole) or crc32(body) != check:
        return Damaged("the record there is damaged")
    return Whole(body, whole)


def find(data: Buffer, start: int, position: int) -> int | None:
    """Return where in ``data`` from ``start`` on the next record begins, or `None`; ``data`` begins at ``position``.

    Only its first 16 bytes need be there.
    """
    source = data if isinstance(data, bytes | bytearray) else bytes(data)
    at = source.find(MAGIC, start)
    while at >= 0:
        found = decode(source, at, position + at)
        if isinstance(found, Whole) or (isinstance(found, Missing) and found.size > START_SIZE):
            return at
        at = source.find(MAGIC, at + 1)
    return None


def ends_here(last: Buffer, position: int) -> bool:
    """Whether the last 8 bytes before ``position`` say that a record was written up to there."""
    return bytes(last) == _end(position)


_NO_RECORD = "there is no record"


def _check_start(size: int, check: int, salt: int) -> int:
    return crc32(_CHECKED.pack(size, check), salt)


def _end(position: int) -> bytes:
    packed = position & 0xFFFFFFFF
    return _END.pack(packed, crc32(b"end", crc32(_POSITION.pack(position))))
