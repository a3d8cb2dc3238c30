"""How functions are told apart and sent: what a worker runs is the function as it is at the submit."""

from __future__ import annotations

import abc
import functools
import inspect
import math
import operator
import os
import pickle
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from aioipc.exceptions import SerializationError
from aioipc.pool.functions import Function, FunctionTable

from ..harness.scripts import ROOT

WORKER = """
import pickle, sys
functions = {}
while True:
    number, pickled, payload = pickle.load(sys.stdin.buffer)
    try:
        if not number:
            function, arguments = pickle.loads(payload)
        else:
            if number not in functions:
                functions[number] = pickle.loads(pickled)
            function, arguments = functions[number], pickle.loads(payload)
        answer = (True, pickle.dumps(function(*arguments)))
    except Exception as error:
        answer = (False, f"{type(error).__name__}: {error}")
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Failed(Exception):
    """A call failed in the worker."""


class Remote:
    """A table and a process like a worker, to which each function is sent once."""

    def __init__(self, worker: subprocess.Popen[bytes], first_id: int) -> None:
        self.table = FunctionTable()
        self._worker = worker
        self._first_id = first_id
        self.ids: list[int] = []

    def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        record, payload = self.table.prepare(function, arguments)
        self.ids.append(record.id)
        number = record.id and record.id + self._first_id
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        pickle.dump((number, record.pickled, payload), self._worker.stdin)
        self._worker.stdin.flush()
        good, answer = pickle.load(self._worker.stdout)
        if not good:
            raise Failed(answer)
        return pickle.loads(answer)


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose ``__main__`` knows nothing of ours."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.fixture
def remote(worker: subprocess.Popen[bytes]) -> Remote:
    return Remote(worker, first_id=time.monotonic_ns())


Program = Callable[[str], Any]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    """Make a module the program that was started: what it defines cannot be imported by a worker."""

    def start(source: str) -> types.ModuleType:
        module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        exec(inspect.cleandoc(source), module.__dict__)
        return module

    return start


def lookup(function: Callable[..., Any]) -> Function:
    return FunctionTable().lookup(function)


# -- what a worker can import ------------------------------------------------------------------------


def test_an_importable_function_is_sent_once_and_then_named_by_number() -> None:
    table = FunctionTable()
    first, payload = table.prepare(os.path.basename, ("/a/b",))
    second, _ = table.prepare(os.path.basename, ("/c/d",))
    assert first is second
    assert first.id > 0
    assert first.pickled == pickle.dumps(os.path.basename, 5)
    assert pickle.loads(payload) == ("/a/b",)


def test_each_function_has_a_number_of_its_own() -> None:
    table = FunctionTable()
    functions: list[Callable[..., Any]] = [os.path.basename, os.path.dirname, len, math.sqrt, int, operator.add]
    records = [table.lookup(function) for function in functions]
    assert len({record.id for record in records} - {0}) == len(functions)
    assert [table.lookup(function) for function in functions] == records


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (os.path.basename, ("/a/b",), "b"),
        (len, ("abc",), 3),
        (int, ("12",), 12),
        (Fraction, (1, 2), Fraction(1, 2)),
        (dict.fromkeys, ("ab",), {"a": None, "b": None}),
        (operator.itemgetter(1), ("abc",), "b"),
        ("{}-{}".format, (1, 2), "1-2"),
        (str.upper, ("a",), "A"),
    ],
)
def test_runs_in_a_worker(remote: Remote, function: Callable[..., Any], arguments: Any, result: object) -> None:
    assert remote.run(function, *arguments) == result
    assert remote.run(function, *arguments) == result


@pytest.mark.parametrize("thing", [None, 5, "os.path.basename", b"", object()])
def test_not_callable(thing: Any) -> None:
    with pytest.raises(TypeError, match="a task needs a function to call, not ") as caught:
        FunctionTable().prepare(thing, ())
    assert not isinstance(caught.value, SerializationError)


def test_names() -> None:
    def local() -> None: ...

    assert lookup(os.path.basename).name == "posixpath.basename"
    assert lookup(len).name == "len"
    assert lookup(local).name == f"{__name__}.test_names.<locals>.local"
    assert lookup(Fraction(1, 2).limit_denominator).name == "fractions.Fraction.limit_denominator"
    assert lookup(functools.partial(labelled(functools.partial(os.path.join, "a")), "b")).name == "posixpath.join"


# -- what has state of its own goes with each task, as it is then ------------------------------------


class Counter:
    def __init__(self) -> None:
        self.value = 1

    def get(self) -> int:
        return self.value

    def __call__(self, factor: int) -> int:
        return self.value * factor


def test_a_closure(remote: Remote) -> None:
    state = 1

    def closure() -> int:
        return state

    assert remote.run(closure) == 1
    state = 2
    assert remote.run(closure) == 2
    assert remote.ids == [0, 0]


def test_a_bound_method_and_a_callable_object(remote: Remote) -> None:
    counter = Counter()
    assert (remote.run(counter.get), remote.run(counter, 10)) == (1, 10)
    counter.value = 2
    assert (remote.run(counter.get), remote.run(counter, 10)) == (2, 20)
    assert remote.ids == [0] * 4


def test_a_partial(remote: Remote) -> None:
    items = [1]
    partial = functools.partial(operator.add, items)
    assert remote.run(partial, [5]) == [1, 5]
    items.append(2)
    assert remote.run(partial, [5]) == [1, 2, 5]
    assert remote.ids == [0, 0]


def test_a_bound_method_of_a_builtin_type(remote: Remote) -> None:
    known = {"a": 1}
    assert remote.run(known.get, "a") == 1
    known["a"] = 2
    assert remote.run(known.get, "a") == 2
    assert remote.run([3, 1, 3].count, 3) == 2


def test_a_lambda(remote: Remote) -> None:
    double = lambda x: x * 2  # noqa: E731
    assert remote.run(double, 4) == 8
    assert remote.run(double, 5) == 10
    assert remote.run(lambda text: [letter + letter for letter in text], "ab") == ["aa", "bb"]


def test_many_short_lived_functions(remote: Remote) -> None:
    """They are not collected without end, and still run when there have been very many."""
    for i in range(5000):
        remote.table.lookup(eval(f"lambda: {i}"))
    later = [remote.table.lookup(eval("lambda: 0")).id for _ in range(100)]
    assert set(later) == {0}
    assert remote.run(eval("lambda: 7")) == 7
    assert remote.run(os.path.basename, "/a/b") == "b"


# -- functions of __main__ ---------------------------------------------------------------------------


def test_main_is_sent_once_while_nothing_changes(program: Program, remote: Remote) -> None:
    main = program(
        """
        import math
        from os.path import basename
        LIMIT = 3
        NAME = "name"
        def helper(n):
            return n if n <= 0 else task(n - 1) + LIMIT
        def task(n):
            return helper(n) + math.floor(0.5) + len(basename("/a/") + NAME) - 4
        """
    )
    assert [remote.run(main.task, n) for n in (0, 1, 2)] == [0, 3, 6]
    assert remote.ids[0] > 0
    assert len(set(remote.ids)) == 1


@pytest.mark.parametrize(
    ("source", "change", "results"),
    [
        ("LIMIT = 1\ndef task(): return LIMIT", "LIMIT = 2", (1, 2)),
        ("LIMIT = 1000\ndef task(): return LIMIT", "LIMIT = 1001", (1000, 1001)),
        ("def help(): return 1\ndef task(): return help()", "def help(): return 2", (1, 2)),
        ("X = 1\ndef help(): return X\ndef task(): return help()", "X = 2", (1, 2)),
        ("X = 1\ndef task(): return (lambda: [X for _ in 'a'])()", "X = 2", ([1], [2])),
        ("import math as m\ndef task(): return m.__name__", "import cmath as m", ("math", "cmath")),
        (
            "from os.path import basename as b\ndef task(): return b('x/y')",
            "from os.path import dirname as b",
            ("y", "x"),
        ),
        ("len = sum\ndef task(): return len([5])", "del len", (5, 1)),
        ("class Box:\n x = 1\ndef task(): return Box.x", "class Box:\n x = 2", (1, 2)),
    ],
    ids=lambda value: value.splitlines()[0] if isinstance(value, str) else None,
)
def test_a_global_that_is_rebound(
    program: Program, remote: Remote, source: str, change: str, results: tuple[object, object]
) -> None:
    main = program(source)
    assert remote.run(main.task) == results[0]
    exec(change, main.__dict__)
    assert remote.run(main.task) == results[1]


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ("[]", "state.append(1)"),
        ("{}", "state[1] = 2"),
        ("set()", "state.add(1)"),
        ("bytearray()", "state.extend(b'x')"),
        ("([],)", "state[0].append(1)"),
        ("frozenset()", "state = frozenset([1])"),
        ("__import__('types').SimpleNamespace(x=1)", "state.x = 2"),
    ],
)
def test_a_global_that_can_change_in_place(program: Program, remote: Remote, value: str, change: str) -> None:
    main = program(f"state = {value}\ndef task(): return repr(state)")
    before = repr(main.state)
    assert remote.run(main.task) == before
    exec(change, main.__dict__)
    assert remote.run(main.task) == repr(main.state) != before


def test_a_global_that_comes_later(program: Program, remote: Remote) -> None:
    main = program("def task(): return helper()")
    with pytest.raises(Failed, match="NameError"):
        remote.run(main.task)
    exec("def helper(): return 5", main.__dict__)
    assert remote.run(main.task) == 5


def test_a_global_that_hides_a_builtin_later(program: Program, remote: Remote) -> None:
    main = program("def task(): return len([5])")
    assert remote.run(main.task) == 1
    main.len = sum
    assert remote.run(main.task) == 5


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("X = 1\nclass Box:\n def get(self): return X\ndef task(): return Box().get()", "X = 2"),
        ("X = 1\nclass Box:\n @property\n def x(self): return X\ndef task(): return Box().x", "X = 2"),
        ("X = 1\nclass Box:\n @staticmethod\n def x(): return X\ndef task(): return Box.x()", "X = 2"),
        ("X = 1\nclass Box:\n @classmethod\n def x(cls): return X\ndef task(): return Box.x()", "X = 2"),
        (
            "X = 1\nclass Box:\n def __init__(self):\n  super().__init__()\n  self.x = X\ndef task(): return Box().x",
            "X = 2",
        ),
        (
            "X = 1\nclass Box:\n def x(self): return X\nclass More(Box):\n def x(self): return super().x()\n"
            "def task(): return More().x()",
            "X = 2",
        ),
        (
            "from functools import cache\nX = 1\n@cache\ndef help(): return X\ndef task(): return help()",
            "X = 2; help.cache_clear()",
        ),
        ("class Box:\n x = 1\ndef task(): return Box.x", "Box.x = 2"),
        ("class Box:\n x = 1\nclass More(Box): pass\ndef task(): return More.x", "Box.x = 2"),
        ("def task(): return task.x\ntask.x = 1", "task.x = 2"),
        ("def help(): return help.x\nhelp.x = 1\ndef task(): return help()", "help.x = 2"),
        ("def task(a=[1]): return len(a)", "task.__defaults__[0].append(2)"),
        ("def task(*, a=[1]): return len(a)", "task.__kwdefaults__['a'].append(2)"),
        ("def help(a=[1]): return len(a)\ndef task(): return help()", "help.__defaults__[0].append(2)"),
    ],
    ids=lambda value: value.replace("\n", "; ") if "def" in value else None,
)
def test_state_that_is_found_by_way_of_a_function_or_class(
    program: Program, remote: Remote, source: str, change: str
) -> None:
    main = program(source)
    assert remote.run(main.task) == 1
    exec(change, main.__dict__)
    assert remote.run(main.task) == 2


def test_a_class_of_main_as_the_function(program: Program, remote: Remote) -> None:
    main = program("X = 1\nclass Box(str):\n def __new__(cls): return str(X)")
    assert remote.run(main.Box) == "1"
    main.X = 2
    assert remote.run(main.Box) == "2"


def test_a_function_made_elsewhere_that_no_worker_can_import(
    program: Program, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module can be imported, but it is not to be found there: it travels by value, with its state."""
    factory = types.ModuleType("made_up_factory")
    exec("def make(state):\n def made(): return len(state)\n return made", factory.__dict__)
    monkeypatch.setitem(sys.modules, factory.__name__, factory)
    main = program("import made_up_factory\nstate = [1]\nmade = made_up_factory.make(state)\ndef task(): return made()")
    assert remote.run(main.task) == 1
    main.state.append(2)
    assert remote.run(main.task) == 2


def test_a_global_that_changes_all_the_time(program: Program) -> None:
    """What a worker keeps is bounded: not one more function for every task."""
    main = program("COUNT = 0\ndef task(): return COUNT")
    table = FunctionTable()
    rounds = 6000
    ids = set()
    for main.COUNT in range(1000, 1000 + rounds):
        ids.add(table.lookup(main.task).id)
    assert len(ids) < rounds - 1000


def test_what_is_known_of_its_duration_outlives_a_change(program: Program) -> None:
    main = program("X = 1000\ndef task(): return X")
    table = FunctionTable()
    table.lookup(main.task).observe(0.25)
    main.X = 2000
    assert table.lookup(main.task).seconds == 0.25


PROGRAMS = {
    "a function with a cache": """
        from functools import cache
        @cache
        def task(n):
            return n if n < 2 else task(n - 1) + task(n - 2)
    """,
    "a function that uses one with a cache": """
        from functools import lru_cache
        @lru_cache(maxsize=5)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        def task(n):
            return fibonacci(n)
    """,
    "a method with a cache": """
        from functools import cache
        class Box:
            @cache
            def get(self, n):
                return n * 11
        def task(n):
            return Box().get(n // 2)
    """,
    "a new type": """
        from typing import NewType
        Number = NewType("Number", int)
        def task(n: Number) -> Number:
            return Number(n * 5 + 5)
    """,
    "an enumeration": """
        import enum
        class Kind(enum.Enum):
            TEN = 10
        def task(n):
            return Kind(n).value * 5 + 5
    """,
    "a data class": """
        from dataclasses import dataclass, field
        @dataclass(frozen=True, slots=True)
        class Box:
            n: int
            more: list = field(default_factory=lambda: [5])
        def task(n):
            return Box(n).n * 5 + Box(n).more[0]
    """,
    "a generic class": """
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Box(Generic[T]):
            def get(self, n: T) -> T:
                return n
        def task(n):
            return Box[int]().get(n) * 5 + 5
    """,
    "a context manager": """
        import contextlib
        @contextlib.contextmanager
        def five():
            yield 5
        def task(n):
            with five() as x:
                return n * x + x
    """,
    "a decorated function": """
        import functools
        def plus_five(function):
            @functools.wraps(function)
            def decorated(n):
                return function(n) + 5
            return decorated
        @plus_five
        def task(n):
            return n * 5
    """,
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_what_programs_are_made_of(program: Program, remote: Remote, case: str) -> None:
    main = program(PROGRAMS[case])
    assert [remote.run(main.task, 10) for _ in range(2)] == [55, 55]


# -- what cannot be sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", [operator.add, lambda a, b: None, functools.partial(operator.add)])
def test_the_argument_is_named(function: Callable[..., Any]) -> None:
    with pytest.raises(SerializationError) as caught:
        FunctionTable().prepare(function, ("good", threading.Lock()))
    name = FunctionTable().lookup(function).name
    assert str(caught.value) == f"{name}: argument 1, of type lock, cannot be sent: cannot pickle '_thread.lock' object"
    assert isinstance(caught.value.__cause__, TypeError)


def test_the_function_itself_is_named() -> None:
    lock = threading.Lock()

    def closure() -> object:
        return lock

    for function in (closure, functools.partial(operator.add, lock), lock.__enter__):
        with pytest.raises(SerializationError, match=r"the function itself, of type .*, cannot be sent: cannot pickle"):
            FunctionTable().prepare(function, ("good",))


def test_a_function_of_main_that_uses_what_cannot_be_sent(program: Program) -> None:
    main = program("import threading\nlock = threading.Lock()\ndef task(x): return lock")
    with pytest.raises(SerializationError, match="task: the function itself, of type function, cannot be sent: cannot"):
        FunctionTable().prepare(main.task, (1,))


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("I stay here")


def test_an_object_that_refuses() -> None:
    with pytest.raises(SerializationError, match="argument 0, of type Refuses, cannot be sent: I stay here"):
        FunctionTable().prepare(len, (Refuses(),))


def test_an_argument_that_is_nested_too_deeply() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(SerializationError, match=r"argument 1, of type list, cannot be sent: .*recursion"):
        FunctionTable().prepare(operator.add, (1, deep))


def test_one_that_could_not_be_sent_leaves_nothing_behind(program: Program, remote: Remote) -> None:
    main = program("import threading\nlock = threading.Lock()\ndef task(): return str(lock)")
    with pytest.raises(SerializationError):
        remote.run(main.task)
    main.lock = 5
    assert remote.run(main.task) == "5"


# -- async functions ---------------------------------------------------------------------------------


async def coroutine_function(x: int = 0) -> int:
    return x


def labelled(partial: Any) -> Any:
    """A partial with an attribute stays whole inside another one; others are merged."""
    partial.label = "label"
    return partial


async def async_generator() -> Any:
    yield 1


class Async:
    async def method(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    @classmethod
    async def of_class(cls) -> None: ...

    async def __call__(self) -> None: ...


class Sync:
    async def method(self) -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (coroutine_function, True),
        (functools.partial(coroutine_function, 1), True),
        (functools.partial(labelled(functools.partial(coroutine_function)), 1), True),
        (Async().method, True),
        (Async.static, True),
        (Async.of_class, True),
        (functools.partial(Async().method), True),
        (Async(), True),
        (functools.partial(Async()), True),
        (Async, False),
        (functools.partial(Async), False),
        (Sync(), False),
        (Sync, False),
        (async_generator, True),
        (lambda: coroutine_function(), False),
        (len, False),
        (functools.partial(len), False),
        (Counter().get, False),
    ],
)
def test_async_functions_are_recognised(function: Callable[..., Any], is_async: bool) -> None:
    assert lookup(function).is_async is is_async


# -- records of what has no number -------------------------------------------------------------------


def test_the_same_method_has_one_record_for_all_objects() -> None:
    table = FunctionTable()
    table.lookup(Counter().get).observe(0.5)
    assert table.lookup(Counter().get).seconds == 0.5


@functools.lru_cache
def cached_one() -> None: ...


@functools.lru_cache
def cached_two() -> None: ...


class AbstractOne(abc.ABC): ...  # noqa: B024


class AbstractTwo(abc.ABC): ...  # noqa: B024


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (functools.partial(math.sqrt, 4), functools.partial(time.sleep, 1), ("math.sqrt", "time.sleep")),
        (cached_one, cached_two, (f"{__name__}.cached_one", f"{__name__}.cached_two")),
        (AbstractOne, AbstractTwo, (f"{__name__}.AbstractOne", f"{__name__}.AbstractTwo")),
        (functools.partial(int), functools.partial(str), ("int", "str")),
        (Counter().get, Counter(), (f"{__name__}.Counter.get", f"{__name__}.Counter")),
        ([].append, {}.get, ("list.append", "dict.get")),
    ],
)
def test_different_callables_are_not_taken_for_one(one: Any, other: Any, names: tuple[str, str]) -> None:
    """Neither in what errors call them nor in how long they are expected to take."""
    table = FunctionTable()
    first, second = table.lookup(one), table.lookup(other)
    assert (first.name, second.name) == names
    first.observe(0.5)
    assert second.seconds is None


# -- durations ---------------------------------------------------------------------------------------


def test_durations_rise_at_once_and_fall_by_and_by() -> None:
    record = Function(1, "f", False, b"")
    assert record.seconds is None
    seen = []
    for seconds in (1.0, 3.0, 1.0, 1.0, 8.0, 0.0):
        record.observe(seconds)
        seen.append(record.seconds)
    assert seen == [1.0, 3.0, 2.5, 2.125, 8.0, 6.0]
