"""Where two long collections differ first: what a failed test shows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest

LONG = 50  # elements; shorter ones are shown whole by pytest
SHOWN = 10  # differences

MISSING = "nothing"


def first_differences(left: object, right: object) -> list[str] | None:
    """The first differences of two sequences or two mappings, a line each; None if pytest explains them better."""
    if isinstance(left, (str, bytes)) or isinstance(right, (str, bytes)):
        return None
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        found = _of_sequences(left, right)
    elif isinstance(left, Mapping) and isinstance(right, Mapping):
        found = _of_mappings(left, right)
    else:
        return None
    if max(len(left), len(right)) < LONG:
        return None
    lines = [f"[{place!r}]: {one} != {other}" for place, one, other in islice(found, SHOWN)]
    title = f"{type(left).__name__} of {len(left)} == {type(right).__name__} of {len(right)}, first differences:"
    return [title, *lines]


def _of_sequences(left: Sequence[object], right: Sequence[object]) -> Iterator[tuple[object, str, str]]:
    nothing = object()
    for index, (one, other) in enumerate(zip_longest(left, right, fillvalue=nothing)):
        if one is nothing or other is nothing or one != other:
            yield index, MISSING if one is nothing else repr(one), MISSING if other is nothing else repr(other)


def _of_mappings(left: Mapping[object, object], right: Mapping[object, object]) -> Iterator[tuple[object, str, str]]:
    for key in [*left, *(key for key in right if key not in left)]:
        if key not in left or key not in right or left[key] != right[key]:
            one = repr(left[key]) if key in left else MISSING
            yield key, one, repr(right[key]) if key in right else MISSING
