"""Every wrong input has its clear error, and every exception of a task arrives as one that can be caught."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import re
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import descendants
from . import sample_functions as f


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with aioipc.Pool(1) as pool:
        yield pool
        assert await pool.run(f.square, 3) == 9  # whatever happened, it still works
        statistics = pool.statistics()
        assert statistics.crashes == statistics.restarts == 0


# -- bad input -------------------------------------------------------------------------------------------

BAD_POOLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workers": 0}, ValueError, "workers must be at least 1, not 0"),
    ({"workers": -1}, ValueError, "workers must be at least 1"),
    ({"workers": 1.0}, TypeError, "workers must be a whole number, not 1.0"),
    ({"workers": "2"}, TypeError, "workers must be a whole number, not '2'"),
    ({"workers": True}, TypeError, "workers must be a whole number, not True"),
    ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
    ({"concurrency": None}, TypeError, "concurrency must be a whole number"),
    ({"heartbeat_timeout": 1}, ValueError, "heartbeat_timeout must be at least 4 s"),
    ({"heartbeat_timeout": None}, TypeError, "heartbeat_timeout must be a number of seconds, not None"),
    ({"grace": -1}, ValueError, "grace must be at least 0 s"),
    ({"grace": math.inf}, ValueError, "grace must be at least 0 s and finite"),
    ({"grace": math.nan}, ValueError, "grace must be"),
    ({"shutdown": "1"}, TypeError, "shutdown must be a number of seconds, not '1'"),
    ({"shutdown": False}, TypeError, "shutdown must be a number of seconds"),
    ({"spin": -0.1}, ValueError, "spin must be at least 0 s"),
    ({"start_method": "fork"}, ValueError, "start_method must be 'zygote' or 'spawn', not 'fork'"),
    ({"preload": "json"}, TypeError, "preload must be a sequence of module names, not 'json'"),
    ({"preload": [1]}, TypeError, "preload must be a sequence of module names"),
    ({"nonsense": 1}, TypeError, "nonsense"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD_POOLS)
def test_bad_pools(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        aioipc.Pool(**options)
    assert not descendants(os.getpid())


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout": 0}, ValueError, "timeout must be more than 0 s"),
    ({"timeout": -1}, ValueError, "timeout must be"),
    ({"timeout": math.inf}, ValueError, "timeout must be at least 0 s and finite"),
    ({"timeout": math.nan}, ValueError, "timeout must be"),
    ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, not '1'"),
    ({"retries": -1}, ValueError, "retries must not be negative: -1"),
    ({"retries": 1.0}, TypeError, "retries must be a whole number, not 1.0"),
    ({"retries": True}, TypeError, "retries must be a whole number"),
    ({"retries": "1"}, TypeError, "retries must be a whole number"),
    ({"retry_on": OSError}, ValueError, "retry_on without retries never tries again"),
    ({"retries": 1, "retry_on": "OSError"}, TypeError, "retry_on must be an exception class or a tuple of them"),
    ({"retries": 1, "retry_on": (OSError, 1)}, TypeError, "retry_on must be an exception class or a tuple of them"),
    ({"retries": 1, "retry_on": OSError()}, TypeError, "retry_on must be an exception class or a tuple of them"),
    ({"priority": "high"}, TypeError, "priority must be a whole number, not 'high'"),
    ({"priority": None}, TypeError, "priority must be a whole number"),
    ({"nonsense": 1}, TypeError, "nonsense"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD_OPTIONS)
async def test_bad_options(pool: aioipc.Pool, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        pool.submit(f.square, 1, **options)
    with pytest.raises(kind, match=re.escape(text)):
        pool.map(f.square, [1], **options)
    assert pool.statistics().submitted == 0


BAD_FUNCTIONS = {"None": None, "a number": 5, "a name": "module:function", "a coroutine": "coroutine", "a result": 3.0}


@pytest.mark.parametrize("what", BAD_FUNCTIONS)
async def test_bad_functions(pool: aioipc.Pool, what: str) -> None:
    bad: Any = f.async_square(3) if what == "a coroutine" else BAD_FUNCTIONS[what]
    for use in (lambda: pool.submit(bad), lambda: pool.map(bad, [1])):
        with pytest.raises(TypeError, match="a task needs a function to call, not"):
            use()
    with pytest.raises(TypeError, match="a task needs a function to call, not"):
        await pool.run(bad)
    if what == "a coroutine":
        bad.close()
    assert pool.statistics().submitted == 0


async def test_bad_maps(pool: aioipc.Pool) -> None:
    anything: Any = pool
    with pytest.raises(TypeError, match="map needs at least one iterable"):
        pool.map(f.square)
    with pytest.raises(TypeError, match="map needs iterables, not 5"):
        anything.map(f.square, [1], 5)
    with pytest.raises(ValueError, match="window must be at least 1, not 0"):
        pool.map(f.square, [1], window=0)
    with pytest.raises(TypeError, match="window must be a whole number, not 1.5"):
        anything.map(f.square, [1], window=1.5)
    with pytest.raises(TypeError, match="function"):
        anything.map()
    with pytest.raises(TypeError, match="function"):
        anything.submit()
    with pytest.raises(TypeError, match="x"):
        anything.submit(f.square, x=1)  # arguments are positional
    assert pool.statistics().submitted == 0


# -- what cannot be sent ---------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("I stay here")

    def method(self) -> None:
        pytest.fail("never called")

    def __call__(self) -> None:
        pytest.fail("never called")


LOCAL = Unpicklable()
SECRET = (i for i in range(3))


def uses_an_unpicklable_global() -> Callable[[], Any]:
    """A lambda travels by value, with the globals it uses."""
    return lambda: SECRET


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (
            f.echo,
            ((i for i in range(3)),),
            r"sample_functions\.echo: argument 0, of type generator, cannot be sent: .*",
        ),
        (f.join, ("a", "b", LOCAL), r"\.join: argument 2, of type Unpicklable, cannot be sent: I stay here"),
        (f.echo, ({"deep": [LOCAL]},), r"\.echo: argument 0, of type dict, cannot be sent: I stay here"),
        (functools.partial(f.echo, LOCAL), (), r"\.echo: the function itself, of type partial, cannot be sent: I stay"),
        (LOCAL, (), r"Unpicklable: the function itself, of type Unpicklable, cannot be sent: I stay here"),
        (LOCAL.method, (), r"Unpicklable\.method: the function itself, of type method, cannot be sent: I stay here"),
        (uses_an_unpicklable_global(), (), r"<lambda>.*(cannot|can't) .*generator"),
    ],
)
async def test_what_cannot_be_sent_fails_before_anything_is_sent(
    pool: aioipc.Pool, function: Any, arguments: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(aioipc.SerializationError, match=text) as caught:
        pool.submit(function, *arguments)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, aioipc.IPCError)
    assert caught.value.__cause__ is not None
    assert pool.statistics().submitted == 0


async def test_an_open_file_cannot_be_sent(pool: aioipc.Pool) -> None:
    with (
        open(__file__, "rb") as file,  # noqa: ASYNC230 - it is only there to be refused
        pytest.raises(aioipc.SerializationError, match="argument 0, of type BufferedReader"),
    ):
        pool.submit(f.echo, file)


def make_generator() -> Any:
    return (i for i in range(3))


async def async_make_generator() -> Any:
    return make_generator()


async def agen() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (make_generator, r"make_generator", "generator"),
        (async_make_generator, r"", "generator"),
        (agen, r"agen", "async_generator"),
        (lambda: Unpicklable(), r"<lambda>", "Unpicklable"),
    ],
)
async def test_unpicklable_result(pool: aioipc.Pool, function: Any, name: str, kind: str) -> None:
    with pytest.raises(aioipc.SerializationError, match=rf"the result of .*{name}\(\), of type {kind}, cannot be sent"):
        await pool.run(function)
    assert pool.statistics().failed == 1


class LoadsOnlyIn:
    """Can be unpickled in one process only."""

    def __init__(self, pid: int, error: type[BaseException] = ValueError) -> None:
        self.pid = pid
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_only_in, (self.pid, self.error)


def _load_only_in(pid: int, error: type[BaseException]) -> LoadsOnlyIn:
    if os.getpid() != pid:
        raise error(f"not in {os.getpid()}")
    return LoadsOnlyIn(pid, error)


def load_only_here(error: type[BaseException] = ValueError) -> LoadsOnlyIn:
    return LoadsOnlyIn(os.getpid(), error)


@pytest.mark.parametrize("kind", [ValueError, StopIteration, AssertionError, KeyError])
async def test_a_result_that_cannot_be_loaded_here(pool: aioipc.Pool, kind: type[Exception]) -> None:
    with pytest.raises(
        aioipc.RemoteError, match=r"the result of .*load_only_here, task 1 cannot be loaded here"
    ) as caught:
        await pool.run(load_only_here, kind)
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.type_name == kind.__name__


async def test_arguments_that_cannot_be_loaded_there(pool: aioipc.Pool) -> None:
    with pytest.raises(ValueError, match="not in") as caught:
        await pool.run(f.echo, LoadsOnlyIn(os.getpid()))
    assert "the worker could not load the task's function or arguments" in caught.value.__notes__


async def test_a_function_whose_module_is_not_there(pool: aioipc.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("aioipc_only_here")
    exec("def function():\n    return 1\n", vars(module))
    monkeypatch.setitem(sys.modules, "aioipc_only_here", module)
    with pytest.raises(ModuleNotFoundError, match="aioipc_only_here"):
        await pool.run(module.function)


# -- exceptions of tasks ---------------------------------------------------------------------------------


class Custom(Exception):
    """Needs two arguments, and passes one on: it does not survive pickling."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Careful(Custom):
    """The same, with a way to be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Careful, (self.code, "again")


class BadReduce(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("no pickling")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BadState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise SystemExit("no loading")

    def __reduce__(self) -> tuple[Any, ...]:
        return BadState, (), {"x": 1}


class Carrier(Exception):
    """Carries something that cannot be sent."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = (i for i in ())


class BadHere(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return _load_only_in, (os.getpid(), ValueError)


def raise_(kind: Callable[..., BaseException], *args: Any) -> None:
    raise kind(*args)


async def async_raise(kind: Callable[..., BaseException], *args: Any) -> None:
    await asyncio.sleep(0)
    raise kind(*args)


BOTH = pytest.mark.parametrize("raiser", [raise_, async_raise])


@BOTH
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ValueError, ("bad", 1)),
        (KeyError, ("key",)),
        (FileNotFoundError, (2, "No such file", "/x")),
        (UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "invalid")),
        (AssertionError, ()),
        (TimeoutError, ("slow",)),
        (RecursionError, ("deep",)),
        (aioipc.TaskTimeout, ("mine",)),
        (BadRepr, ("fine",)),
    ],
)
async def test_an_exception_arrives_as_itself(pool: aioipc.Pool, raiser: Any, kind: Any, arguments: Any) -> None:
    with pytest.raises(kind) as caught:
        await pool.run(raiser, kind, *arguments)
    assert type(caught.value) is kind
    assert caught.value.args == kind(*arguments).args
    assert isinstance(caught.value.__cause__, aioipc.RemoteTraceback)


async def test_an_exception_with_its_own_way_to_be_pickled(pool: aioipc.Pool) -> None:
    with pytest.raises(Careful, match="7: again") as caught:
        await pool.run(raise_, Careful, 7, "first")
    assert caught.value.code == 7


@BOTH
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Custom, (7, "lost"), "7: lost"),
        (BadReduce, ("text",), "text"),
        (BadState, (), ""),
        (Carrier, ("with luggage",), "with luggage"),
        (BadHere, ("text",), "text"),
    ],
)
async def test_an_exception_that_cannot_travel(
    pool: aioipc.Pool, raiser: Any, kind: Any, arguments: Any, message: str
) -> None:
    """What it was and said arrives all the same."""
    with pytest.raises(aioipc.RemoteError, match=re.escape(f"{kind.__name__}: {message}")) as caught:
        await pool.run(raiser, kind, *arguments)
    assert caught.value.type_name == f"{__name__}.{kind.__qualname__}"
    assert isinstance(caught.value.__cause__, aioipc.RemoteTraceback)
    assert "raise kind(*args)" in caught.value.__cause__.text


@BOTH
async def test_an_exception_whose_str_fails(pool: aioipc.Pool, raiser: Any) -> None:
    with pytest.raises(BadStr) as caught:
        await pool.run(raiser, BadStr, "x")
    assert isinstance(caught.value.__cause__, aioipc.RemoteTraceback)
    assert "str() failed" in caught.value.__cause__.text


NOT_TO_BE_RAISED_HERE = [SystemExit, KeyboardInterrupt, GeneratorExit, StopAsyncIteration, BaseException]


@BOTH
@pytest.mark.parametrize("kind", NOT_TO_BE_RAISED_HERE)
async def test_exceptions_that_would_do_harm_here(pool: aioipc.Pool, raiser: Any, kind: type[BaseException]) -> None:
    """They neither end the worker nor the master."""
    with pytest.raises(aioipc.RemoteError, match=f"{kind.__name__}: 3") as caught:
        await pool.run(raiser, kind, 3)
    assert caught.value.type_name == kind.__name__


async def test_stop_iteration(pool: aioipc.Pool) -> None:
    with pytest.raises(aioipc.RemoteError, match="StopIteration: 3"):
        await pool.run(raise_, StopIteration, 3)
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        await pool.run(async_raise, StopIteration, 3)


async def test_sys_exit(pool: aioipc.Pool) -> None:
    import sys

    with pytest.raises(aioipc.RemoteError, match="SystemExit: 3"):
        await pool.run(sys.exit, 3)


async def test_cancelled_error_of_a_sync_task(pool: aioipc.Pool) -> None:
    with pytest.raises(aioipc.RemoteError, match="CancelledError: mine"):
        await pool.run(raise_, asyncio.CancelledError, "mine")


async def test_an_async_task_that_cancels_itself(pool: aioipc.Pool) -> None:
    """As with asyncio's own tasks: who awaits it sees that it was cancelled."""
    job = pool.submit(async_raise, asyncio.CancelledError)
    await asyncio.wait([job])
    assert job.cancelled()


@BOTH
async def test_exception_groups(pool: aioipc.Pool, raiser: Any) -> None:
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])
    with pytest.raises(ExceptionGroup) as caught:
        await pool.run(raiser, functools.partial(echo_group, group))
    assert caught.value.message == "two"
    assert caught.group_contains(ValueError, match="a")
    assert caught.group_contains(KeyError, match="b")
    with pytest.raises(aioipc.RemoteError, match="BaseExceptionGroup"):
        await pool.run(raiser, functools.partial(echo_group, BaseExceptionGroup("bad", [SystemExit(1)])))


def echo_group(group: BaseException) -> BaseException:
    return group


# -- the remote traceback --------------------------------------------------------------------------------


def outer(x: int) -> None:
    inner(x)


def inner(x: int) -> None:
    raise ValueError(f"from inner: {1 // x}")  # this very line


async def async_outer(x: int) -> None:
    await async_inner(x)


async def async_inner(x: int) -> None:
    try:
        inner(x)
    except ZeroDivisionError as error:
        raise LookupError("translated") from error


@pytest.mark.parametrize("raiser", [outer, async_outer])
async def test_the_remote_traceback(pool: aioipc.Pool, raiser: Any) -> None:
    with pytest.raises(ValueError, match="from inner: 1") as caught:
        await pool.run(raiser, 1)
    cause = caught.value.__cause__
    assert isinstance(cause, aioipc.RemoteTraceback)
    lines = cause.text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.fullmatch(rf'  File ".*test_errors\.py", line \d+, in {raiser.__name__}', lines[1])
    assert any("# this very line" in line for line in lines)
    assert lines[-1] == "ValueError: from inner: 1"
    assert f"{os.sep}aioipc{os.sep}pool" not in cause.text
    shown = "".join(traceback.format_exception(caught.value))
    assert "# this very line" in shown
    assert shown.index("# this very line") < shown.index("The above exception was the direct cause")


async def test_the_remote_traceback_shows_causes(pool: aioipc.Pool) -> None:
    with pytest.raises(LookupError, match="translated") as caught:
        await pool.run(async_outer, 0)
    text = str(caught.value.__cause__)
    assert "ZeroDivisionError" in text
    assert "LookupError: translated" in text


async def test_the_remote_traceback_of_a_lambda_names_its_file(pool: aioipc.Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await pool.run(lambda: 1 // 0)
    assert os.path.basename(__file__) in str(caught.value.__cause__)


async def test_notes_travel_and_say_where(pool: aioipc.Pool) -> None:
    def fail() -> None:
        error = ValueError("noted")
        error.add_note("by the task")
        raise error

    [worker] = pool.statistics().workers
    with pytest.raises(ValueError, match="noted") as caught:
        await pool.run(fail)
    assert caught.value.__notes__[0] == "by the task"
    assert caught.value.__notes__[-1].startswith(f"raised in worker 0 (pid {worker.pid}), in ")
    assert caught.value.__notes__[-1].endswith("fail, task 1")


async def test_each_waiter_sees_the_same_exception(pool: aioipc.Pool) -> None:
    job = pool.submit(raise_, KeyError, "once")
    results = await asyncio.gather(job, job, return_exceptions=True)
    assert isinstance(results[0], KeyError)
    assert results[0] is results[1] is job.exception()


# -- our own errors --------------------------------------------------------------------------------------


async def test_our_errors_travel_from_worker_to_master(pool: aioipc.Pool) -> None:
    """As when a task runs a pool of its own."""
    crashed = aioipc.WorkerCrashed("it fell", exitcode=-11, oom=True, pid=7, slot=3, task="f, task 1", stderr="ouch")
    for error in (
        crashed,
        aioipc.TaskQuarantined("it fell", exitcode=-11, pid=7, slot=3, task="f, task 1"),
        aioipc.WorkerBootError("no", stderr="err", exitcode=3),
        aioipc.RemoteError("x: y", type_name="x"),
        aioipc.BusyResourceError("receiving"),
    ):
        with pytest.raises(type(error)) as caught:
            await pool.run(raise_, functools.partial(echo_group, error))
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)
        mine = {name: value for name, value in vars(error).items() if name != "__notes__"}
        assert {name: getattr(caught.value, name) for name in mine} == mine
    assert crashed.signal == 11
    assert crashed.signal.name == "SIGSEGV"  # type: ignore[union-attr]


def test_every_error_has_the_base() -> None:
    errors = [value for name in aioipc.__all__ if isinstance(value := getattr(aioipc, name), type)]
    errors = [error for error in errors if issubclass(error, BaseException) and error is not aioipc.RemoteTraceback]
    assert len(errors) >= 13
    assert all(issubclass(error, aioipc.IPCError) for error in errors)
