"""Whatever a function returns becomes one line of strict JSON."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.cli.json_text import to_json


def strict(text: bytes) -> Any:
    """Parse, refusing what only Python takes for JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text.decode(), parse_constant=refuse)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Celsius:
    def __str__(self) -> str:
        return "21 °C"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_json_values_stay_what_they_are(value: object) -> None:
    text = to_json(value)

    assert strict(text) == value
    assert b"\n" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        ([1.5, math.inf, {"deep": -math.inf}], [1.5, None, {"deep": None}]),
        ((1, (2, 3)), [1, [2, 3]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({1}), [1]),
        (range(3), [0, 1, 2]),
        ((n * n for n in range(3)), [0, 1, 4]),
        (collections.deque([1]), [1]),
        ({"a": 1}.values(), [1]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.ChainMap({"a": {1}}), {"a": [1]}),
        ({(1, 2): {1}, None: 2, True: 3, Colour.RED: 4, 5: 6}, None),
        (Point(1, {"b", "a"}), {"x": 1, "tags": ["a", "b"]}),
        (Colour.RED, "red"),
        (pathlib.PurePosixPath("/etc/hosts"), "/etc/hosts"),
        (datetime.datetime(2024, 2, 29, 12, 30), "2024-02-29T12:30:00"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        (ValueError("no"), "no"),
        (Celsius(), "21 °C"),
        (int, "<class 'int'>"),
        (1 << 100, 1 << 100),
    ],
)
def test_other_values(value: object, expected: object) -> None:
    if isinstance(value, dict) and expected is None:
        expected = {"(1, 2)": [1], "null": 2, "true": 3, "red": 4, "5": 6}

    assert strict(to_json(value)) == expected


def test_text_stays_readable() -> None:
    assert to_json("naïve 文") == '"naïve 文"'.encode()


def test_file_names_that_are_not_utf8() -> None:
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")

    text = to_json({"name": name})

    assert text.isascii()
    assert strict(text) == {"name": name}


def test_arrays_and_their_scalars_as_numpy_has_them() -> None:
    class Scalar:
        def tolist(self) -> float:
            return math.nan

    assert strict(to_json(array.array("d", [1, 2]))) == [1.0, 2.0]
    assert strict(to_json({"scalar": Scalar()})) == {"scalar": None}


def test_a_value_that_contains_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(RecursionError):
        to_json(value)
