"""What master and service say comes through unchanged; anything else is a ProtocolError and nothing worse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.wire import service_protocol as protocol
from aioipc.wire.framing import Buffer, Frame, FrameDecoder, ProtocolError
from aioipc.wire.service_protocol import Refusal

TEXTS = st.text(max_size=3000)
TEXT_KINDS = st.sampled_from([protocol.STATUS, protocol.STOPPING])


def transfer(pieces: list[Buffer]) -> Frame:
    """The frame as the other side decodes it."""
    decoder = FrameDecoder(limit=protocol.LIMIT)
    data = b"".join(pieces)
    decoder.buffer()[: len(data)] = data
    [frame] = decoder.received(len(data))
    return frame


def frame_of(kind: int, body: bytes) -> Frame:
    return Frame(kind, memoryview(body), memoryview(b""))


def test_boot() -> None:
    settings = {"environ": {"PATH": "/bin"}, "launch": None}
    frame = transfer(protocol.encode_boot(settings))
    assert (frame.kind, protocol.decode_boot(frame)) == (protocol.BOOT, settings)


@given(st.sampled_from(sorted(protocol.NAMES)))
def test_kinds_that_say_all(kind: int) -> None:
    frame = transfer(protocol.encode_plain(kind))
    assert (frame.kind, bytes(frame.body)) == (kind, b"")


@given(st.floats(allow_nan=False))
def test_stop(deadline: float) -> None:
    frame = transfer(protocol.encode_stop(deadline))
    assert (frame.kind, protocol.decode_stop(frame)) == (protocol.STOP, deadline)


@given(TEXT_KINDS, TEXTS)
def test_texts(kind: int, text: str) -> None:
    frame = transfer(protocol.encode_text(kind, text))
    sent = text.encode("utf-8", "replace").decode()
    got = protocol.decode_text(frame)
    assert frame.kind == kind
    assert sent.startswith(got.removesuffix("\ufffd")) or got == sent
    assert len(frame.body) <= protocol.LONGEST_STATUS


@given(
    st.builds(
        Refusal,
        st.sampled_from(["cwd", "user", "rlimits['nofile']"]),
        st.none() | st.integers(1, 4000),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
    )
)
def test_refusals(refusal: Refusal) -> None:
    frame = transfer(protocol.encode_refusal(refusal))
    assert (frame.kind, protocol.decode_refusal(frame)) == (protocol.REFUSED, refusal)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_garbage(kind: int, body: bytes) -> None:
    """A child may say anything: nothing is unpickled, and nothing but a ProtocolError comes of it."""
    frame = frame_of(kind, body)
    assert isinstance(protocol.decode_text(frame), str)
    assert not protocol.decode_status(frame) or protocol.decode_status(frame).isprintable()
    try:
        assert not math.isnan(protocol.decode_stop(frame))
    except ProtocolError:
        pass
    try:
        protocol.decode_refusal(frame)
    except ProtocolError:
        pass


@pytest.mark.parametrize("frame", [frame_of(protocol.BOOT, b"x"), frame_of(protocol.STOP, b""), frame_of(1, b"N.")])
def test_no_boot(frame: Frame) -> None:
    with pytest.raises(ProtocolError, match="BOOT"):
        protocol.decode_boot(frame)
