"""Frames on a byte stream: bytes in, frames out, no I/O.

    0      2      3      4             8                    16
    +------+------+------+-------------+---------------------+------+-------------+
    | magic| kind | zero | body length | attachments' length | body | attachments |
    +------+------+------+-------------+---------------------+------+-------------+

Attachments are large pieces that travel beside the body: the sender hands them to sendmsg(2) as they are and
the receiver gets a view of the one buffer they were received into, so neither side copies them again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_HEADER = struct.Struct("<HBBIQ")
HEADER_SIZE = _HEADER.size
_MAGIC = 0xA1C0

SCRATCH_SIZE = 256 * 1024
CONTROL_SCRATCH = 16 * 1024
BODY_LIMIT = 256 * 1024 * 1024
ATTACHMENTS_LIMIT = 16 * 1024**3

Buffer = bytes | bytearray | memoryview


class ProtocolError(ValueError):
    """The bytes are not the protocol. (This floor imports nothing: a worker must start quickly.)"""


class Frame(NamedTuple):
    """One whole frame. ``body`` is only valid until the decoder's next `FrameDecoder.buffer`."""

    kind: int
    body: memoryview
    attachments: memoryview


def encode_frame(kind: int, body: bytes, attachments: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the pieces of a frame, to be sent one after the other.

    Raises ValueError where the body or the attachments are longer than a frame may be.
    """
    length = sum(map(len, attachments))
    if len(body) > BODY_LIMIT or length > ATTACHMENTS_LIMIT:
        raise ValueError(
            f"a frame of {len(body) + length} bytes is too large: "
            f"at most {BODY_LIMIT} bytes of body and {ATTACHMENTS_LIMIT} of attachments"
        )
    header = _HEADER.pack(_MAGIC, kind, 0, len(body), length)
    return [header + body, *attachments]


class FrameDecoder:
    """Cuts received bytes into frames.

    Receive into `buffer`, then tell `received` how much came and take the frames it returns::

        n = sock.recv_into(decoder.buffer())
        for frame in decoder.received(n): ...

    Small frames are decoded where they lie in one scratch buffer; a frame larger than that gets a buffer of
    its own, allocated only after its header was checked against ``limit`` (bytes).
    """

    def __init__(self, scratch: int = SCRATCH_SIZE, limit: int = BODY_LIMIT + ATTACHMENTS_LIMIT) -> None:
        self._limit = limit
        self._scratch = memoryview(bytearray(scratch))
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._filled = 0

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame have been received."""
        return self._filled if self._large is not None else self._end - self._start

    def buffer(self) -> memoryview:
        """Return where the next bytes are to be received; never empty."""
        if self._large is not None:
            return self._large[self._filled :]
        if self._start:
            unread = self._end - self._start
            self._scratch[:unread] = bytes(self._scratch[self._start : self._end])
            self._start, self._end = 0, unread
        return self._scratch[self._end :]

    def received(self, count: int) -> list[Frame]:
        """Return the frames that ``count`` more bytes in `buffer` have completed.

        Raises ProtocolError where the bytes are no frames, or announce one over the limit.
        """
        if self._large is not None:
            return self._received_large(count)
        self._end += count
        frames: list[Frame] = []
        while self._end - self._start >= HEADER_SIZE:
            kind, body, attachments = self._header()
            size = HEADER_SIZE + body + attachments
            if size > len(self._scratch):
                self._start_large(size)
                break
            if self._end - self._start < size:
                break
            frames.append(self._cut(self._scratch[self._start : self._start + size], kind, body, copy=True))
            self._start += size
        return frames

    def _header(self) -> tuple[int, int, int]:
        magic, kind, zero, body, attachments = _HEADER.unpack_from(self._scratch, self._start)
        if magic != _MAGIC or zero:
            seen = bytes(self._scratch[self._start : min(self._end, self._start + 32)])
            raise ProtocolError(f"these bytes begin no frame: {seen!r}")
        if body + attachments > self._limit:
            raise ProtocolError(f"a frame of {body + attachments} bytes is over the limit of {self._limit}")
        return kind, body, attachments

    def _start_large(self, size: int) -> None:
        self._filled = self._end - self._start
        try:
            self._large = memoryview(bytearray(size))
        except MemoryError:
            raise ProtocolError(f"there is no memory for a frame of {size} bytes") from None
        self._large[: self._filled] = self._scratch[self._start : self._end]
        self._start = self._end = 0

    def _received_large(self, count: int) -> list[Frame]:
        assert self._large is not None
        self._filled += count
        if self._filled < len(self._large):
            return []
        whole, self._large = self._large, None
        _, kind, _, body, _ = _HEADER.unpack_from(whole)
        return [self._cut(whole, kind, body, copy=False)]

    @staticmethod
    def _cut(whole: memoryview, kind: int, body: int, *, copy: bool) -> Frame:
        attachments = whole[HEADER_SIZE + body :]
        if copy and attachments:  # they outlive the scratch buffer
            attachments = memoryview(bytes(attachments))
        return Frame(kind, whole[HEADER_SIZE : HEADER_SIZE + body], attachments)
