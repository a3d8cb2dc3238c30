"""The records of a log: whatever is written comes back, and whatever is cut off or altered is noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aioipc.wire.records import (
    END_SIZE,
    HEADER_SIZE,
    MAGIC,
    OVERHEAD,
    START_SIZE,
    Damaged,
    LogHeader,
    Missing,
    Whole,
    decode,
    decode_header,
    encode,
    encode_header,
    ends_here,
    find,
)

bodies = st.binary(max_size=200) | st.just(MAGIC) | st.just(b"") | st.just(encode(b"inner", 0))
positions = st.integers(0, 2**63)


@given(st.lists(bodies), positions)
def test_what_is_written_comes_back(written: list[bytes], base: int) -> None:
    data = b""
    for body in written:
        data += encode(body, base + len(data))
    at, found = 0, []
    while at < len(data):
        record = decode(data, at, base + at)
        assert isinstance(record, Whole)
        assert record.size == OVERHEAD + len(record.body)
        found.append(record.body)
        at += record.size
        assert ends_here(data[at - END_SIZE : at], base + at)
    assert found == written
    assert isinstance(decode(memoryview(data), at, base + at), Missing)


@given(bodies, positions, st.data())
def test_cut_off_at_every_byte(body: bytes, position: int, data: st.DataObject) -> None:
    whole = encode(body, position)
    for size in range(len(whole)):
        found = decode(whole[:size], 0, position)
        assert isinstance(found, Missing)
        assert size < found.size == (START_SIZE if size < START_SIZE else len(whole))
        assert not ends_here(whole[:size][-END_SIZE:], position + size)


@given(bodies, positions, st.data())
def test_altered_bits(body: bytes, position: int, data: st.DataObject) -> None:
    altered = bytearray(encode(body, position))
    for bit in data.draw(st.sets(st.integers(0, len(altered) * 8 - 1), min_size=1, max_size=4)):
        altered[bit // 8] ^= 1 << bit % 8
    assert isinstance(decode(altered, 0, position), Damaged)


@given(bodies, positions, st.integers(1, 1000))
def test_a_record_at_another_place_is_none(body: bytes, position: int, distance: int) -> None:
    record = encode(body, position)
    assert isinstance(decode(record, 0, position + distance), Damaged)
    assert not ends_here(record[-END_SIZE:], position + len(record) + distance)


@given(st.binary(max_size=300), positions, bodies)
def test_any_bytes_are_no_record(garbage: bytes, position: int, body: bytes) -> None:
    assert not isinstance(decode(garbage, 0, position), Whole)
    data = garbage + encode(body, position + len(garbage))
    assert find(data, 0, position) == len(garbage)
    assert find(data[: len(garbage) + START_SIZE], 0, position) == len(garbage)
    assert find(garbage, 0, position) is None


@given(bodies, positions)
def test_the_search_takes_no_body_for_a_record(inner: bytes, position: int) -> None:
    record = encode(encode(inner, position), position)
    following = encode(b"next", position + len(record))
    assert find(record + following, 1, position) == len(record)


def test_a_limit() -> None:
    record = encode(bytes(100), 5)
    assert isinstance(decode(record, 0, 5, limit=100), Whole)
    for there in (len(record), START_SIZE):
        found = decode(record[:there], 0, 5, limit=99)
        assert isinstance(found, Damaged)
        assert "100 bytes, more than the 99" in found.reason


@given(st.integers(0, 2**64 - 1), positions, st.integers(0, HEADER_SIZE - 1), st.integers(1, 255))
def test_the_header_of_a_file(serial: int, base: int, at: int, change: int) -> None:
    header = encode_header(LogHeader(serial, base))
    assert len(header) == HEADER_SIZE
    assert decode_header(header + b"more") == (serial, base)
    assert isinstance(decode_header(header[:at]), Missing)
    altered = bytearray(header)
    altered[at] ^= change
    assert isinstance(decode_header(altered), Damaged)
    assert isinstance(decode_header(b"something else"), Damaged)
