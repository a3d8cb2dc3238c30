"""How the values of options are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.cli.object_kinds import KINDS, parse_kind
from aioipc.cli.parameters import parse_counts, parse_duration, parse_key, parse_mode, parse_number, parse_size


@given(st.integers(0, (1 << 32) - 1))
def test_numbers_as_c_writes_them(number: int) -> None:
    assert parse_number(str(number)) == number
    assert parse_number(f"{number:#x}") == number
    assert parse_number(f"0{number:o}") == number


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("10", 10), ("10B", 10), ("4k", 4096), ("4K", 4096), ("4KiB", 4096), ("4KB", 4000), ("1 M", 1 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5s", 0.5), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_permissions_and_lists() -> None:
    assert parse_mode("0640") == parse_mode("640") == parse_mode("0o640") == 0o640
    assert parse_counts("1,2,3") == [1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_a_short_name_too(kind: str) -> None:
    assert parse_kind(kind) == parse_kind(KINDS[kind].upper()) == kind


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        (parse_key, "queue", "decimal, 0x hexadecimal or 0 octal"),
        (parse_key, "089", "decimal, 0x hexadecimal or 0 octal"),
        (parse_key, "0x100000000", "32 bits"),
        (parse_key, "0", "private"),
        (parse_size, "10X", "4K"),
        (parse_size, "-1", "4K"),
        (parse_size, "", "4K"),
        (parse_mode, "0800", "octal"),
        (parse_mode, "1777", "octal"),
        (parse_duration, "", "1h30m"),
        (parse_duration, "1h x", "1h30m"),
        (parse_duration, "-1", "1h30m"),
        (parse_counts, "1,,2", "1,2,3"),
        (parse_kind, "queue", r"sysv-queue \(msg\)"),
    ],
)
def test_what_is_none(parse: object, text: str, why: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=why):
        parse(text)
