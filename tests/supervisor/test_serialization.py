"""Values, functions of ``__main__`` as bytes, and back again in another process."""

from __future__ import annotations

import pickle
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.supervisor.serialization import (
    PLAIN,
    dump,
    dump_arguments,
    dump_by_value,
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
        from aioipc.supervisor.serialization import dump, loads

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
            from aioipc.supervisor.serialization import dump, loads
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
