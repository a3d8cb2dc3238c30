"""Bytes to lines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.supervisor.output_lines import LONGEST_LINE, LineSplitter

some_bytes = st.binary(max_size=200) | st.text("ab\n\ré漢\N{GRINNING FACE}", max_size=100).map(str.encode)


def split(pieces: list[bytes], limit: int = LONGEST_LINE) -> list[str]:
    splitter = LineSplitter(limit)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    lines += splitter.finish()
    assert splitter.finish() == []
    return lines


@settings(deadline=None)
@given(st.lists(some_bytes, max_size=20))
def test_is_what_splitting_it_all_at_once_gives(pieces: list[bytes]) -> None:
    *whole, last = b"".join(pieces).split(b"\n")
    expected = [line.removesuffix(b"\r") for line in whole] + ([last] if last else [])
    assert split(pieces) == [line.decode(errors="replace") for line in expected]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=300), st.integers(4, 50))
def test_long_lines_are_cut_between_characters(text: str, limit: int) -> None:
    data = text.encode()
    lines = split([data[:7], data[7:]], limit)
    assert "".join(lines) == text
    assert all(len(line.encode()) <= limit for line in lines)
    assert all(len(line.encode()) > limit - 4 for line in lines[:-1])


@settings(deadline=None)
@given(st.lists(some_bytes, max_size=20), st.integers(1, 10))
def test_no_line_is_too_long(pieces: list[bytes], limit: int) -> None:
    """Also of bytes that are no characters; each of them becomes at most one."""
    assert all(len(line) <= limit for line in split(pieces, limit))


def test_default_limit() -> None:
    assert [len(line) for line in split([b"x" * 70_000, b"x" * 70_000 + b"\ny"])] == [65536, 65536, 8928, 1]


def test_ends_of_lines() -> None:
    assert split([b"one\r", b"\ntwo\n", b"\n50 %\r100 %\n", b"\xff", b"\xc3", b"\xa9 part"]) == [
        "one",
        "two",
        "",
        "50 %\r100 %",
        "\ufffdé part",
    ]
