"""Log records as bytes: what goes in comes out, whatever lies between, and nothing else ever does."""

from __future__ import annotations

import pickle
import select
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.wire import log_protocol
from aioipc.wire.log_protocol import LARGEST, MAGIC, Record, RecordDecoder, decode_record, encode_record

RECORD = Record(
    lost=0,
    name="some.logger",
    levelno=20,
    levelname="INFO",
    message="hello",
    pathname="/srv/app.py",
    lineno=7,
    function="main",
    created=1e9,
    thread=1,
    thread_name="MainThread",
    process=4711,
    process_name="MainProcess",
    task_name=None,
    exc_text=None,
    stack_info=None,
    extra={},
)

texts = st.text(st.characters(), max_size=200)
records = st.builds(
    RECORD._replace,
    lost=st.integers(0, 1 << 40),
    message=texts,
    lineno=st.integers(0, 40),  # how often `stretch` repeats the message
    exc_text=st.none() | texts,
    extra=st.dictionaries(texts, st.none() | texts | st.integers() | st.booleans(), max_size=3),
)


def stretch(record: Record) -> Record:
    """With a message that needs several chunks and is not cut yet."""
    return record._replace(message=record.message * record.lineno)


def decode(data: bytes, at_once: int = 1 << 20) -> tuple[list[Record], int]:
    """The records, and how often there was a stretch of garbage."""
    garbage: list[None] = []
    decoder = RecordDecoder(lambda: garbage.append(None))
    found: list[Record] = []
    for begin in range(0, len(data), at_once):
        found += decoder.feed(data[begin : begin + at_once])
    return found, len(garbage)


@settings(deadline=None)
@given(st.lists(records.map(stretch), max_size=5), st.integers(1, 5000))
def test_comes_out_as_it_went_in(some: list[Record], at_once: int) -> None:
    pieces = [piece for serial, record in enumerate(some) for piece in encode_record(record, serial)]
    assert all(len(piece) <= select.PIPE_BUF for piece in pieces)
    assert decode(b"".join(pieces), at_once) == (some, 0)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | records.map(stretch), max_size=8), st.integers(1, 500))
def test_garbage_is_skipped(items: list[bytes | Record], at_once: int) -> None:
    """A record may only be lost with the garbage right before it, which can look like the beginning of a chunk."""
    data, sent = b"", []
    for serial, item in enumerate(items):
        if isinstance(item, bytes):
            data += item
        else:
            item = item._replace(created=float(serial))  # no two are equal
            data += b"".join(encode_record(item, serial))
            sent.append(item)
    found, garbage = decode(data, at_once)
    assert found == [record for record in sent if record in found]
    if MAGIC[:1] not in b"".join(item for item in items if isinstance(item, bytes)):
        assert len(found) == len(sent)
    assert garbage <= len(items)


@settings(deadline=None)
@given(st.binary(max_size=10_000))
def test_never_raises(data: bytes) -> None:
    found, _ = decode(data)
    assert not found
    assert decode_record(data) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from([MAGIC, b"\xff\x0f", b"\x03\0", b"\x01\0", b"\0\0\0\0", b"x" * 50]), max_size=200))
def test_never_raises_at_what_looks_like_chunks(pieces: list[bytes]) -> None:
    assert not decode(b"".join(pieces), 7)[0]


def test_garbage_is_told_once_a_stretch() -> None:
    good = b"".join(encode_record(RECORD, 1))
    assert decode(b"a" * 10_000, at_once=10) == ([], 1)
    assert decode(b"a" * 100 + good + b"b" * 100 + good) == ([RECORD] * 2, 2)


def test_record_that_was_cut_off() -> None:
    """The second chunk found no room; or a signal handler logged between the two."""
    first, *rest = encode_record(RECORD._replace(message="x" * 10_000), 1)
    (other,) = encode_record(RECORD, 2)
    assert decode(first + other) == ([RECORD], 0)
    assert decode(first + other + b"".join(rest)) == ([RECORD], 0)


@pytest.mark.parametrize("field", ["message", "exc_text", "stack_info", "pathname", "name", "task_name"])
def test_too_large_is_cut(field: str) -> None:
    record = RECORD._replace(**{field: "\N{GRINNING FACE}" * 300_000}, extra={"a": 1})
    pieces = encode_record(record, 0)
    assert sum(map(len, pieces)) < LARGEST
    ((found,), garbage) = decode(b"".join(pieces))
    assert not garbage
    assert len(getattr(found, field)) < 5000
    assert found.extra == {}


def test_everything_too_large_at_once() -> None:
    names = ("name", "levelname", "message", "pathname", "function", "thread_name", "process_name", "task_name")
    huge: dict[str, Any] = dict.fromkeys((*names, "exc_text", "stack_info"), "\N{GRINNING FACE}" * 100_000)
    pieces = encode_record(RECORD._replace(**huge, extra={"a": "b" * LARGEST}), 0)
    assert sum(map(len, pieces)) < LARGEST
    assert len(decode(b"".join(pieces))[0]) == 1


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("something was called",)


@pytest.mark.parametrize(
    "value",
    [
        Harmful(),
        RECORD._replace(message=Harmful()),  # type: ignore[arg-type]
        RECORD._replace(extra={"a": Harmful()}),
        RECORD._replace(levelno="high"),  # type: ignore[arg-type]
        RECORD._replace(extra={1: 2}),  # type: ignore[dict-item]
        RECORD[:-1],
        list(RECORD),
        None,
    ],
)
def test_plain_values_only(value: object) -> None:
    assert decode_record(pickle.dumps(tuple(value) if isinstance(value, Record) else value, 5)) is None


def test_serials_wrap() -> None:
    assert decode(b"".join(encode_record(RECORD, log_protocol._FIRST << 32))) == ([RECORD], 0)
