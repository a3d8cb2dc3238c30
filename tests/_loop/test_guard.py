from __future__ import annotations

import pytest

from aioipc import BusyResourceError
from aioipc._loop.guard import Guard


def test_one_may_enter() -> None:
    guard = Guard("reading from")
    with guard, pytest.raises(BusyResourceError, match="already reading from this resource"), guard:
        pytest.fail("two are in")


def test_leaving_frees_it_however_it_is_left() -> None:
    guard = Guard("reading from")
    with pytest.raises(KeyError), guard:
        raise KeyError
    with guard:
        pass


def test_being_refused_does_not_free_it() -> None:
    guard = Guard("reading from")
    with guard:
        for _ in range(2):
            with pytest.raises(BusyResourceError), guard:
                pytest.fail("two are in")
