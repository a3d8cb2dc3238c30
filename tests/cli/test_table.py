"""Tables fit the width that they are given, and texts for people are short and harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aioipc.cli.humans import format_age, format_size, printable
from aioipc.cli.table import Shape, lay_out

SHAPES = [Shape("KIND"), Shape("NAME", flexible=True), Shape("SIZE", right=True), Shape("OPENERS", flexible=True)]
ROWS = [["fifo", "/run/a-long-name-of-a-fifo", "1", "-"], ["posix-queue", "/q", "81920", "python:1 python:2 +3"]]


def test_as_wide_as_needed_for_a_file() -> None:
    assert lay_out(SHAPES, ROWS) == [
        "KIND         NAME                         SIZE  OPENERS",
        "fifo         /run/a-long-name-of-a-fifo      1  -",
        "posix-queue  /q                          81920  python:1 python:2 +3",
    ]
    assert lay_out(SHAPES, [], headings=False) == []


def test_a_terminal_cuts_what_is_long_and_then_leaves_out() -> None:
    assert lay_out(SHAPES, ROWS, width=55, droppable=True) == [
        "KIND         NAME               SIZE  OPENERS",
        "fifo         /run/a-long-nam…      1  -",
        "posix-queue  /q                81920  python:1 python:…",
    ]
    lines = lay_out(SHAPES, ROWS, width=29, droppable=True)
    assert lines == ["KIND         NAME", "fifo         /run/a-long-nam…", "posix-queue  /q"]
    asked_for = lay_out(SHAPES, ROWS, width=30)
    assert all(cell_len(line) <= 30 for line in asked_for)
    assert asked_for[2].startswith("posix-queue  /q")


CELLS = st.text(st.characters(exclude_categories=["C", "Z", "M"]))


@given(
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=5),
    width=st.integers(1, 60),
    droppable=st.booleans(),
)
def test_no_line_is_too_wide(rows: list[list[str]], width: int, droppable: bool) -> None:
    lines = lay_out(SHAPES, rows, width=width, droppable=droppable)
    assert len(lines) == len(rows) + 1
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1536, "1.5K"), (10240, "10K"), (1 << 20, "1.0M"), (1 << 34, "16G")],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3725, "1h02m"),
        (86400 * 3 + 3600 * 4, "3d04h"),
        (86400 * 400, "400d00h"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_names_cannot_play_with_the_terminal() -> None:
    assert printable("/caf\u00e9 \u6f22") == "/caf\u00e9 \u6f22"
    assert printable("a\x1b[2J\nb\udcff") == "a\\x1b[2J\\nb\\udcff"
