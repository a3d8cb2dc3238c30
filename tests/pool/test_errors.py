"""Every wrong input has its clear error, and every exception of a task arrives as one that can be caught."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import re
import sys
import traceback
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import descendants
from . import sample_functions as f


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    """One worker, which has to survive whatever the test does to it."""
    async with f.open_pool(1, preload=[f.__name__, "uvloop"]) as pool:
        yield pool
        assert await pool.run(f.square, 3) == 9
        statistics = pool.statistics()
        assert statistics.crashes == statistics.restarts == 0


def error_of(call: Callable[[], object]) -> BaseException | None:
    """What the call raises."""
    try:
        call()
    except BaseException as error:
        return error
    return None


async def outcome(pool: aioipc.Pool, function: Any, *args: Any) -> Any:
    """What the task raises, or what it returns."""
    job = pool.submit(function, *args)
    await asyncio.wait([job])
    return asyncio.CancelledError() if job.cancelled() else job.exception() or job.result()


# -- bad input -------------------------------------------------------------------------------------------

BAD_POOLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workers": 0}, ValueError, "workers must be at least 1, not 0"),
    ({"workers": -1}, ValueError, "workers must be at least 1, not -1"),
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


def test_bad_pools() -> None:
    for options, kind, text in BAD_POOLS:
        error = error_of(lambda options=options: aioipc.Pool(**options))  # type: ignore[misc]
        assert type(error) is kind, (options, error)
        assert text in str(error), options
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


async def test_bad_options(pool: aioipc.Pool) -> None:
    for options, kind, text in BAD_OPTIONS:
        uses = (functools.partial(pool.submit, f.square, 1), functools.partial(pool.map, f.square, [1]))
        for use in uses:
            error = error_of(functools.partial(use, **options))
            assert type(error) is kind, (options, error)
            assert text in str(error), options
    assert pool.statistics().submitted == 0


async def test_bad_functions(pool: aioipc.Pool) -> None:
    coroutine = f.async_square(3)
    bad: Any
    for bad in (None, 5, "module:function", 3.0, coroutine):
        for use in (functools.partial(pool.submit, bad), functools.partial(pool.map, bad, [1])):
            error = error_of(use)
            assert type(error) is TypeError, (bad, error)
            assert str(error).startswith("a task needs a function to call, not "), (bad, error)
        with pytest.raises(TypeError, match="a task needs a function to call, not"):
            await pool.run(bad)
    coroutine.close()
    assert pool.statistics().submitted == 0


async def test_bad_maps(pool: aioipc.Pool) -> None:
    anything: Any = pool
    with pytest.raises(TypeError, match="map needs at least one iterable"):
        pool.map(f.square)
    with pytest.raises(TypeError, match="map needs iterables, not 5"):
        anything.map(f.square, [1], 5)
    with pytest.raises(ValueError, match="window must be at least 1, not 0"):
        pool.map(f.square, [1], window=0)
    with pytest.raises(TypeError, match=r"window must be a whole number, not 1\.5"):
        anything.map(f.square, [1], window=1.5)
    with pytest.raises(TypeError, match="function"):
        anything.map()
    with pytest.raises(TypeError, match="function"):
        anything.submit()
    with pytest.raises(TypeError, match="x"):
        anything.submit(f.square, x=1)  # arguments are positional
    assert pool.statistics().submitted == 0


# -- what cannot be sent ---------------------------------------------------------------------------------

STAYS = f.Unpicklable()
GENERATOR = f.make_generator()

CANNOT_BE_SENT: list[tuple[Any, tuple[Any, ...], str]] = [
    (f.echo, (GENERATOR,), r"sample_functions\.echo: argument 0, of type generator, cannot be sent: .*"),
    (f.join, ("a", "b", STAYS), r"\.join: argument 2, of type Unpicklable, cannot be sent: I stay here"),
    (f.echo, ({"deep": [STAYS]},), r"\.echo: argument 0, of type dict, cannot be sent: I stay here"),
    (functools.partial(f.echo, STAYS), (), r"\.echo: the function itself, of type partial, cannot be sent: I stay"),
    (STAYS, (), r"Unpicklable: the function itself, of type Unpicklable, cannot be sent: I stay here"),
    (STAYS.method, (), r"Unpicklable\.method: the function itself, of type method, cannot be sent: I stay here"),
    (lambda: GENERATOR, (), r"<lambda>.* (cannot|can't) .*generator"),  # goes by value, with the globals it uses
]


async def test_what_cannot_be_sent_fails_before_anything_is_sent(pool: aioipc.Pool) -> None:
    for function, arguments, text in CANNOT_BE_SENT:
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


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (f.make_generator, "generator"),
        (f.async_make_generator, "generator"),
        (f.make_unpicklable, "Unpicklable"),
    ],
)
async def test_unpicklable_result(pool: aioipc.Pool, function: Any, kind: str) -> None:
    text = rf"the result of .*{function.__name__}\(\), of type {kind}, cannot be sent"
    with pytest.raises(aioipc.SerializationError, match=text):
        await pool.run(function)
    assert pool.statistics().failed == 1


async def test_a_result_that_cannot_be_loaded_here(pool: aioipc.Pool) -> None:
    for kind in (ValueError, KeyError, StopIteration, AssertionError):
        error = await outcome(pool, f.make_loadable_only_here, kind)
        assert type(error) is aioipc.RemoteError, error
        assert re.search(r"the result of .*make_loadable_only_here, task \d+ cannot be loaded here", str(error))
        assert type(error.__cause__) is kind
        assert error.type_name == kind.__name__


async def test_arguments_that_cannot_be_loaded_there(pool: aioipc.Pool) -> None:
    with pytest.raises(ValueError, match="not in") as caught:
        await pool.run(f.echo, f.LoadsOnlyIn(os.getpid()))
    assert "the worker could not load the task's function or arguments" in caught.value.__notes__


async def test_a_function_whose_module_is_not_there(pool: aioipc.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("aioipc_only_here")
    exec("def function():\n    return 1\n", vars(module))
    monkeypatch.setitem(sys.modules, "aioipc_only_here", module)
    with pytest.raises(ModuleNotFoundError, match="aioipc_only_here"):
        await pool.run(module.function)


# -- exceptions of tasks ---------------------------------------------------------------------------------

RAISERS = (f.raise_, f.async_raise)

ARRIVE_AS_THEMSELVES: list[tuple[type[Exception], tuple[Any, ...]]] = [
    (ValueError, ("bad", 1)),
    (KeyError, ("key",)),
    (FileNotFoundError, (2, "No such file", "/x")),
    (UnicodeDecodeError, ("utf-8", b"\xff", 0, 1, "invalid")),
    (AssertionError, ()),
    (TimeoutError, ("slow",)),
    (RecursionError, ("deep",)),
    (MemoryError, ()),
    (aioipc.TaskTimeout, ("mine",)),
    (f.BadRepr, ("fine",)),
]


async def test_an_exception_arrives_as_itself(pool: aioipc.Pool) -> None:
    for kind, arguments in ARRIVE_AS_THEMSELVES:
        for raiser in RAISERS:
            error = await outcome(pool, raiser, kind, *arguments)
            assert type(error) is kind, error
            assert error.args == kind(*arguments).args
            assert type(error.__cause__) is aioipc.RemoteTraceback


async def test_an_exception_with_its_own_way_to_be_pickled(pool: aioipc.Pool) -> None:
    with pytest.raises(f.NeedsTwoAndKnowsHow, match="7: again") as caught:
        await pool.run(f.raise_, f.NeedsTwoAndKnowsHow, 7, "first")
    assert caught.value.code == 7


CANNOT_TRAVEL: list[tuple[type[Exception], tuple[Any, ...], str]] = [
    (f.NeedsTwo, (7, "lost"), "7: lost"),
    (f.BadReduce, ("text",), "text"),
    (f.BadState, (), ""),
    (f.BecomesAnother, ("text",), "text"),
    (f.BadElsewhere, ("text",), "text"),
    (f.Carrier, ("with luggage",), "with luggage"),
]


async def test_an_exception_that_cannot_travel(pool: aioipc.Pool) -> None:
    """What it was and what it said arrives all the same."""
    for kind, arguments, message in CANNOT_TRAVEL:
        for raiser in RAISERS:
            error = await outcome(pool, raiser, kind, *arguments)
            assert type(error) is aioipc.RemoteError, error
            assert error.type_name == f"{f.__name__}.{kind.__qualname__}"
            assert str(error) == f"{error.type_name}: {message}"
            assert type(error.__cause__) is aioipc.RemoteTraceback
            assert "raise kind(*args)" in error.__cause__.text


async def test_an_exception_whose_str_fails(pool: aioipc.Pool) -> None:
    for raiser in RAISERS:
        error = await outcome(pool, raiser, f.BadStr, "x")
        assert type(error) is f.BadStr
        assert type(error.__cause__) is aioipc.RemoteTraceback
        assert "str() failed" in error.__cause__.text


async def test_exceptions_that_would_do_harm_here(pool: aioipc.Pool) -> None:
    """They end neither the worker nor the master."""
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, StopAsyncIteration, BaseException):
        for raiser in RAISERS:
            error = await outcome(pool, raiser, kind, 3)
            assert type(error) is aioipc.RemoteError, error
            assert str(error) == f"{kind.__name__}: 3"
            assert error.type_name == kind.__name__
    with pytest.raises(aioipc.RemoteError, match="SystemExit: 3"):
        await pool.run(sys.exit, 3)


async def test_stop_iteration(pool: aioipc.Pool) -> None:
    with pytest.raises(aioipc.RemoteError, match="StopIteration: 3"):
        await pool.run(f.raise_, StopIteration, 3)
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        await pool.run(f.async_raise, StopIteration, 3)


async def test_cancelled_error_of_a_sync_task(pool: aioipc.Pool) -> None:
    with pytest.raises(aioipc.RemoteError, match="CancelledError: mine"):
        await pool.run(f.raise_, asyncio.CancelledError, "mine")


async def test_an_async_task_that_cancels_itself(pool: aioipc.Pool) -> None:
    """As with asyncio's own tasks: who awaits it sees that it was cancelled."""
    assert isinstance(await outcome(pool, f.async_raise, asyncio.CancelledError), asyncio.CancelledError)
    assert pool.statistics().cancelled == 1


async def test_exception_groups(pool: aioipc.Pool) -> None:
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])
    for raiser in (f.raise_this, f.async_raise_this):
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run(raiser, group)
        assert caught.value.message == "two"
        assert caught.group_contains(ValueError, match="a", depth=1)
        assert caught.group_contains(KeyError, match="b", depth=2)
        with pytest.raises(aioipc.RemoteError, match="BaseExceptionGroup: bad"):
            await pool.run(raiser, BaseExceptionGroup("bad", [SystemExit(1)]))


# -- the remote traceback --------------------------------------------------------------------------------


@pytest.mark.parametrize("raiser", [f.outer, f.async_outer])
async def test_the_remote_traceback(pool: aioipc.Pool, raiser: Any) -> None:
    with pytest.raises(ValueError, match="from inner: 1") as caught:
        await pool.run(raiser, 1)
    cause = caught.value.__cause__
    assert isinstance(cause, aioipc.RemoteTraceback)
    lines = cause.text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.fullmatch(rf'  File ".*sample_functions\.py", line \d+, in {raiser.__name__}', lines[1])
    assert any("# this very line" in line for line in lines)
    assert lines[-1] == "ValueError: from inner: 1"
    assert os.path.dirname(aioipc.__file__) not in cause.text
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.index("# this very line") < shown.index("The above exception was the direct cause")


async def test_the_remote_traceback_shows_causes(pool: aioipc.Pool) -> None:
    with pytest.raises(LookupError, match="translated") as caught:
        await pool.run(f.async_outer, 0)
    text = str(caught.value.__cause__)
    assert "ZeroDivisionError" in text
    assert "LookupError: translated" in text


async def test_the_remote_traceback_of_a_lambda_names_its_file(pool: aioipc.Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await pool.run(lambda: 1 // 0)
    assert os.path.basename(__file__) in str(caught.value.__cause__)


async def test_notes_travel_and_say_where(pool: aioipc.Pool) -> None:
    [worker] = pool.statistics().workers
    with pytest.raises(ValueError, match="text") as caught:
        await pool.run(f.raise_noted, "text", "by the task")
    assert caught.value.__notes__[0] == "by the task"
    assert caught.value.__notes__[-1] == f"raised in worker 0 (pid {worker.pid}), in {f.__name__}.raise_noted, task 1"


async def test_each_waiter_sees_the_same_exception(pool: aioipc.Pool) -> None:
    job = pool.submit(f.raise_, KeyError, "once")
    results = await asyncio.gather(job, job, return_exceptions=True)
    assert isinstance(results[0], KeyError)
    assert results[0] is results[1] is job.exception()


# -- our own errors --------------------------------------------------------------------------------------


async def test_our_errors_travel_from_worker_to_master(pool: aioipc.Pool) -> None:
    """As when a task runs a pool of its own."""
    for error in (
        aioipc.WorkerCrashed("it fell", exitcode=-11, oom=True, pid=7, slot=3, task="f, task 1", stderr="ouch"),
        aioipc.TaskQuarantined("it fell", exitcode=-11, pid=7, slot=3, task="f, task 1"),
        aioipc.WorkerBootError("no", stderr="err", exitcode=3),
        aioipc.RemoteError("x: y", type_name="x"),
        aioipc.BusyResourceError("receiving"),
        aioipc.WouldBlock("now"),
        aioipc.PoolClosed("shut"),
    ):
        arrived = await outcome(pool, f.raise_this, error)
        assert type(arrived) is type(error)
        assert str(arrived) == str(error)
        for name, value in vars(error).items():
            assert getattr(arrived, name) == value, (error, name)


def test_what_a_crash_says() -> None:
    error = aioipc.WorkerCrashed("it fell", exitcode=-11, pid=7, slot=3, task="f, task 1", stderr="ouch")
    assert str(error) == "worker 3 (pid 7) died while it ran f, task 1: it fell\n--- end of its stderr ---\nouch"
    assert error.signal == 11
    assert error.signal.name == "SIGSEGV"  # type: ignore[union-attr]
    assert aioipc.WorkerCrashed("x", exitcode=3).signal is None
    assert aioipc.WorkerCrashed("x").signal is None
    assert aioipc.WorkerCrashed("x", exitcode=-40).signal == 40  # a real-time signal has no name


def test_every_error_has_the_base() -> None:
    public = [getattr(aioipc, name) for name in aioipc.__all__]
    errors = [each for each in public if isinstance(each, type) and issubclass(each, BaseException)]
    errors.remove(aioipc.RemoteTraceback)
    assert len(errors) >= 15
    assert all(issubclass(error, aioipc.IPCError) for error in errors)
