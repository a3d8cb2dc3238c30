"""Values, functions of ``__main__`` and failures as bytes, and back again in another process."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.pool.serialization import (
    PLAIN,
    dump,
    dump_arguments,
    dump_by_value,
    dump_failure,
    load_failure,
    loads,
)

from ..harness.scripts import run_script

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.fractions()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4), st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_values(value: object) -> None:
    there = loads(dump(value))
    assert there == value
    assert type(there) is type(value)


@given(st.lists(VALUES, max_size=4))
def test_arguments(arguments: list[object]) -> None:
    assert loads(dump_arguments(tuple(arguments))) == tuple(arguments)


@pytest.mark.parametrize("value", [1, 1.5, "__main__", b"__main__", bytearray(b"__main__"), True, None])
def test_plain_values_are_not_searched_for_classes(value: object) -> None:
    assert type(value) in PLAIN
    assert dump(value) == pickle.dumps(value, 5)
    assert dump_arguments((value, value)) == pickle.dumps((value, value), 5)


@pytest.mark.parametrize("value", [["__main__"], {"__main__": 1}, Fraction(1, 3)])
def test_a_text_that_only_looks_like_the_module(value: object) -> None:
    assert loads(dump(value)) == value


def test_what_plain_pickle_refuses() -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    base = 3
    assert loads(dump(lambda x: x + base))(4) == 7
    assert loads(dump(Local(5))).value == 5
    assert loads(dump_arguments((Local(6), 1)))[0].value == 6


@pytest.mark.parametrize("value", [threading.Lock(), (i for i in "abc"), [1, {"deep": threading.Lock()}]])
def test_what_cannot_be_sent_at_all(value: object) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        dump(value)
    with pytest.raises(TypeError, match="cannot pickle"):
        dump_arguments((1, value))
    with pytest.raises(TypeError, match="cannot pickle"):
        dump_by_value(value)


def test_what_main_defines_goes_to_a_process_with_another_main_and_back() -> None:
    """Classes, instances, enumerations and functions; what comes back is an instance of the class it was."""
    program = """
        import enum, subprocess, sys
        from dataclasses import dataclass
        from aioipc.pool.serialization import dump, loads

        class Color(enum.Enum):
            RED = 1

        @dataclass
        class Point:
            x: int
            def moved(self):
                return Point(self.x + STEP)

        STEP = 10

        def work(point, color):
            assert color is Color.RED
            return point.moved(), color

        other = '''if True:
            import sys
            from aioipc.pool.serialization import dump, loads
            function, arguments = loads(sys.stdin.buffer.read())
            assert not hasattr(sys.modules["__main__"], "Point")
            sys.stdout.buffer.write(dump(function(*arguments)))
        '''
        sent = dump((work, (Point(1), Color.RED)))
        done = subprocess.run([sys.executable, "-c", other], input=sent, stdout=subprocess.PIPE, check=True)
        point, color = loads(done.stdout)
        print(point, type(point) is Point, color is Color.RED)
    """
    assert run_script(program).check().stdout == "Point(x=11) True True\n"


# -- failures ----------------------------------------------------------------------------------------


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
