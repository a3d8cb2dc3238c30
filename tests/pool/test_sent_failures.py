"""Exceptions of tasks as bytes, whatever they do when they are pickled or printed."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aioipc.pool.sent_failures import dump_failure, load_failure


def caught(function: Callable[[], object]) -> BaseException:
    """What the function raises, with the traceback it has in a worker: one frame of ours, then the function's."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def raising(error: BaseException) -> BaseException:
    def users_function() -> None:
        raise error

    return caught(users_function)


def test_an_ordinary_failure() -> None:
    failure = load_failure(dump_failure(raising(ValueError("no", 5))))
    assert failure.pickled is not None
    original = pickle.loads(failure.pickled)
    assert type(original) is ValueError
    assert original.args == ("no", 5)
    assert failure.type_name == "ValueError"
    assert failure.message == "('no', 5)"
    assert failure.notes == ()


def test_the_traceback_begins_in_the_users_function() -> None:
    text = load_failure(dump_failure(raising(ValueError("no")))).traceback
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in users_function\n    raise error\n" in text
    assert "in caught" not in text
    assert text.endswith("ValueError: no\n")


def test_a_traceback_of_ours_alone_is_shown() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        text = load_failure(dump_failure(error)).traceback
    assert "in test_a_traceback_of_ours_alone_is_shown" in text


def test_no_traceback() -> None:
    assert load_failure(dump_failure(ValueError("never raised"))).traceback == "ValueError: never raised\n"


def test_causes_and_groups_are_told() -> None:
    def users_function() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError("second"), TypeError("third")]) from error

    failure = load_failure(dump_failure(caught(users_function)))
    for text in ("KeyError: 'first'", "direct cause", "ValueError: second", "TypeError: third"):
        assert text in failure.traceback
    assert failure.pickled is not None
    assert [str(error) for error in pickle.loads(failure.pickled).exceptions] == ["second", "third"]


def test_notes_and_attributes_travel_with_the_exception() -> None:
    error = OSError(28, "No space left on device", "/dev/shm")
    error.add_note("a note")
    error.extra = [1]  # type: ignore[attr-defined]
    failure = load_failure(dump_failure(raising(error), ("ours",)))
    assert failure.pickled is not None
    there = pickle.loads(failure.pickled)
    assert (there.errno, there.filename, there.extra, there.__notes__) == (28, "/dev/shm", [1], ["a note"])
    assert failure.notes == ("ours",)


def test_qualified_names() -> None:
    class Local(Exception):
        pass

    assert load_failure(dump_failure(Local())).type_name == f"{__name__}.test_qualified_names.<locals>.Local"
    assert load_failure(dump_failure(pickle.PicklingError())).type_name == "_pickle.PicklingError"


class TwoArguments(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)


class HoldsALock(Exception):
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class ReduceFails(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not today")


class ReduceExits(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class BecomesAnother(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("another",)


class LoadingExits(Exception):
    def __reduce__(self) -> Any:
        return _exit, ()


def _exit() -> None:
    raise SystemExit(3)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Screams(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def _text_of_a_class_nobody_can_send() -> str:
    class Text(str):
        __slots__ = ()

    return Text("special")


class SpecialText(Exception):
    def __str__(self) -> str:
        return _text_of_a_class_nobody_can_send()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TwoArguments(1, 2), "missing 1 required positional argument"),
        (HoldsALock(), "cannot pickle"),
        (ReduceFails("x"), "not today"),
        (ReduceExits("x"), "3"),
        (BecomesAnother("x"), "BecomesAnother is something else after pickling"),
        (LoadingExits("x"), "3"),
    ],
)
def test_an_exception_that_does_not_survive(error: Exception, why: str) -> None:
    failure = load_failure(dump_failure(raising(error), ("before",)))
    assert failure.pickled is None
    assert failure.type_name == f"{__name__}.{type(error).__name__}"
    assert failure.message == str(error)
    assert type(error).__name__ in failure.traceback
    before, note = failure.notes
    assert before == "before"
    assert note.startswith("the exception itself could not be sent: ")
    assert why in note


@pytest.mark.parametrize("error", [Speechless("x"), Screams("x"), SpecialText("x")])
def test_an_exception_that_cannot_even_be_printed(error: Exception) -> None:
    failure = load_failure(dump_failure(raising(error)))
    assert failure.type_name == f"{__name__}.{type(error).__name__}"
    assert failure.message in (f"<{type(error).__qualname__} whose str() fails>", "special")
    assert type(failure.message) is str
    assert isinstance(failure.traceback, str)


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), BaseException("base")])
def test_what_is_no_exception(error: BaseException) -> None:
    failure = load_failure(dump_failure(raising(error)))
    assert failure.type_name == type(error).__name__
    assert failure.message == str(error)


def test_odd_texts() -> None:
    for text in ("", "\udcff lone surrogate", "nul \0", "x" * 1_000_000):
        assert load_failure(dump_failure(raising(ValueError(text)))).message == text


def test_endless_recursion() -> None:
    def users_function() -> None:
        users_function()

    failure = load_failure(dump_failure(caught(users_function)))
    assert failure.type_name == "RecursionError"
    assert len(failure.traceback) < 20_000
