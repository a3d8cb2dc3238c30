"""Frames survive any cutting of the bytes; whatever is no frame is refused before memory is taken for it."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aioipc.wire.framing import (
    ATTACHMENTS_LIMIT,
    BODY_LIMIT,
    HEADER_SIZE,
    SCRATCH_SIZE,
    Buffer,
    Frame,
    FrameDecoder,
    ProtocolError,
    encode_frame,
)

from ..harness.scripts import run_script

MAGIC = 0xA1C0
MIB = 1 << 20


class Plain(NamedTuple):
    """A frame as values: what went in, to be compared with what comes out."""

    kind: int
    body: bytes
    attachments: bytes


def header(magic: int = MAGIC, kind: int = 1, zero: int = 0, body: int = 0, attachments: int = 0) -> bytes:
    return struct.pack("<HBBIQ", magic, kind, zero, body, attachments)


def arriving(decoder: FrameDecoder, data: bytes) -> Iterator[Frame]:
    """Put bytes into the decoder as a socket does, no more at once than it has room for."""
    while data:
        room = decoder.buffer()
        assert len(room), "a receive into nothing would look like the end of the stream"
        count = min(len(room), len(data))
        room[:count] = data[:count]
        yield from decoder.received(count)
        data = data[count:]


def receive(decoder: FrameDecoder, data: bytes) -> list[Frame]:
    """The frames that the bytes complete; where they need several receives, the last frame's body is valid."""
    return list(arriving(decoder, data))


class Recorder:
    """Takes frames as they come: copies bodies at once, and keeps the attachments, which must stay as they are."""

    def __init__(self, scratch: int = SCRATCH_SIZE) -> None:
        self.decoder = FrameDecoder(scratch)
        self._kept: list[tuple[int, bytes, memoryview]] = []

    def receive(self, data: bytes) -> None:
        for frame in arriving(self.decoder, data):
            self._kept.append((frame.kind, bytes(frame.body), frame.attachments))

    @property
    def frames(self) -> list[Plain]:
        return [Plain(kind, body, bytes(attachments)) for kind, body, attachments in self._kept]


SCRATCH_SIZES = [HEADER_SIZE, HEADER_SIZE + 1, 64, 1000, SCRATCH_SIZE]


@st.composite
def sent_frames(draw: st.DrawFn, scratch: int) -> tuple[Plain, list[Buffer]]:
    """A frame as values and as the pieces it is sent in; its bytes repeat nowhere."""
    sizes = st.one_of(
        st.integers(0, 100),
        st.sampled_from([scratch - HEADER_SIZE + near for near in range(2)]),
        st.integers(0, 2 * scratch),
    )
    content = random.Random(draw(st.integers(0, 2**32)))
    kind = draw(st.integers(0, 255))
    body = content.randbytes(draw(sizes))
    attachments = [content.randbytes(size) for size in draw(st.lists(sizes, max_size=3))]
    return Plain(kind, body, b"".join(attachments)), encode_frame(kind, body, attachments)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[int, list[Plain], list[bytes]]:
    """A scratch size, some frames, and their bytes in chunks cut anywhere, most often near where a frame ends."""
    scratch = draw(st.sampled_from(SCRATCH_SIZES))
    sent = draw(st.lists(sent_frames(scratch), max_size=6))
    stream = b""
    cuts = [0]
    for _, pieces in sent:
        stream += b"".join(pieces)
        for near in draw(st.lists(st.sampled_from([-1, 0, 1, HEADER_SIZE - 1, HEADER_SIZE]), max_size=3)):
            cuts.append(max(0, len(stream) + near))
    cuts += draw(st.lists(st.integers(0, len(stream)), max_size=8))
    cuts = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return scratch, [frame for frame, _ in sent], [stream[begin:end] for begin, end in pairwise(cuts)]


@settings(deadline=None, max_examples=120)
@given(cut_streams())
def test_frames_come_out_as_they_went_in(case: tuple[int, list[Plain], list[bytes]]) -> None:
    scratch, frames, chunks = case
    recorder = Recorder(scratch)
    for chunk in chunks:
        recorder.receive(chunk)
    assert recorder.frames == frames
    assert recorder.decoder.pending == 0


def test_byte_by_byte() -> None:
    frames = [
        Plain(1, b"", b""),
        Plain(2, b"body", b""),
        Plain(3, b"", b"attached"),
        Plain(255, b"b" * 300, b"a" * 300),
    ]
    recorder = Recorder()
    pending: list[int] = []
    for frame in frames:
        for byte in b"".join(encode_frame(frame.kind, frame.body, [frame.attachments])):
            recorder.receive(bytes([byte]))
            pending.append(recorder.decoder.pending)
    assert recorder.frames == frames
    expected: list[int] = []
    for frame in frames:
        size = HEADER_SIZE + len(frame.body) + len(frame.attachments)
        expected += [*range(1, size), 0]
    assert pending == expected


def test_many_frames_in_one_chunk() -> None:
    frames = [Plain(i % 256, str(i).encode(), b"") for i in range(3000)]
    recorder = Recorder()
    recorder.receive(b"".join(piece for frame in frames for piece in encode_frame(frame.kind, frame.body)))
    assert recorder.frames == frames


def test_a_huge_frame_is_received_where_it_stays() -> None:
    body, attachment = b"b" * 100, b"a" * (5 * MIB)
    decoder = FrameDecoder()
    [frame] = receive(decoder, b"".join(encode_frame(2, body, [attachment])))
    assert frame.attachments == attachment
    assert frame.attachments.obj is frame.body.obj, "body and attachments lie in the one buffer they came in"
    assert len(decoder.buffer()) == SCRATCH_SIZE, "the next frame is received elsewhere again"


def test_pending_counts_a_huge_frame() -> None:
    decoder = FrameDecoder()
    stream = b"".join(encode_frame(1, b"x" * MIB))
    assert receive(decoder, stream[:-1]) == []
    assert decoder.pending == len(stream) - 1
    assert len(decoder.buffer()) == 1, "no byte of the next frame is received behind it"


def test_attachments_outlive_what_comes_later() -> None:
    decoder = FrameDecoder()
    [first] = receive(decoder, b"".join(encode_frame(1, b"", [b"first"])))
    receive(decoder, b"".join(encode_frame(1, b"", [b"other"])) * 20_000)
    assert first.attachments == b"first"


def test_attachments_are_sent_as_they_are() -> None:
    attachment = bytearray(b"a" * 1000)
    pieces = encode_frame(1, b"body", [attachment, b"more"])
    assert pieces[1] is attachment
    assert len(pieces) == 3


# -- what is no frame --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\0" * HEADER_SIZE,
        header(magic=0xC0A1),
        header(zero=1),
        header(zero=255, body=3) + b"abc",
    ],
)
@pytest.mark.parametrize("cut", [1, 7, HEADER_SIZE, 64])
def test_garbage_is_refused(garbage: bytes, cut: int) -> None:
    decoder = FrameDecoder()
    for i in range(0, HEADER_SIZE - cut, cut):
        assert receive(decoder, garbage[i : i + cut]) == [], "a header is judged when it is whole"
    begin = max(0, (HEADER_SIZE - 1) // cut * cut)
    with pytest.raises(ProtocolError, match="begin no frame: b'"):
        receive(decoder, garbage[begin:])


def test_garbage_behind_a_frame_is_refused() -> None:
    with pytest.raises(ProtocolError):
        receive(FrameDecoder(), b"".join(encode_frame(1, b"good")) + b"\xff" * HEADER_SIZE)


SMALL = st.integers(0, 50)
ANY_HEADER = st.builds(
    header,
    magic=st.sampled_from([MAGIC, MAGIC, MAGIC, 0]),
    kind=st.integers(0, 255),
    zero=st.sampled_from([0, 0, 0, 1]),
    body=st.one_of(SMALL, st.integers(0, 2**32 - 1)),
    attachments=st.one_of(SMALL, st.integers(0, 2**64 - 1)),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(st.binary(max_size=100), ANY_HEADER), max_size=8), st.integers(1, 200))
@example([header(body=2**32 - 1, attachments=2**64 - 1)], HEADER_SIZE)
@example([header(body=MIB), b"x" * 100], 50)
def test_any_bytes_are_frames_or_awaited_or_refused(parts: list[bytes], cut: int) -> None:
    limit = 1000
    stream = b"".join(parts)
    decoder = FrameDecoder(scratch=100, limit=limit)
    seen = 0
    try:
        for i in range(0, len(stream), cut):
            for frame in receive(decoder, stream[i : i + cut]):
                seen += HEADER_SIZE + len(frame.body) + len(frame.attachments)
                assert len(frame.body) + len(frame.attachments) <= limit
    except ProtocolError:
        return
    assert seen + decoder.pending == len(stream), "each byte is in a frame or waits for the rest of one"


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "attachments"),
    [(1001, 0), (0, 1001), (500, 501), (2**32 - 1, 0), (0, 2**63), (2**32 - 1, 2**64 - 1)],
)
def test_nothing_is_allocated_for_a_frame_over_the_limit(body: int, attachments: int) -> None:
    decoder = FrameDecoder(limit=1000)
    announcement = header(body=body, attachments=attachments)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=f"a frame of {body + attachments} bytes is over the limit of 1000"):
            receive(decoder, announcement)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_a_frame_of_exactly_the_limit() -> None:
    [frame] = receive(FrameDecoder(limit=1000), b"".join(encode_frame(1, b"b" * 400, [b"a" * 600])))
    assert (len(frame.body), len(frame.attachments)) == (400, 600)


def test_the_limit_that_holds_where_none_is_given() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        receive(FrameDecoder(), header(body=1, attachments=BODY_LIMIT + ATTACHMENTS_LIMIT))


def test_no_frame_is_made_that_could_not_be_received() -> None:
    with pytest.raises(ValueError, match=f"a frame of {BODY_LIMIT + 1} bytes is too large"):
        encode_frame(1, bytes(BODY_LIMIT + 1))
    chunk = bytes(ATTACHMENTS_LIMIT // 256)  # never touched, so it takes no memory
    assert len(encode_frame(1, b"", [chunk] * 256)) == 257
    with pytest.raises(ValueError, match="too large: at most"):
        encode_frame(1, b"", [chunk] * 256 + [b"!"])


def test_a_frame_there_is_no_memory_for() -> None:
    """It is refused as any other that is too large, not by an error that nobody expects of a decoder."""
    source = """
        import resource, struct
        from aioipc.wire.framing import FrameDecoder, ProtocolError

        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        decoder = FrameDecoder()
        header = struct.pack("<HBBIQ", 0xA1C0, 1, 0, 10, 8 << 30)
        decoder.buffer()[: len(header)] = header
        try:
            decoder.received(len(header))
        except ProtocolError:
            print("refused")
    """
    assert run_script(source).check().stdout == "refused\n"
