"""``Pool(contextvars=…)``: a task finds set what was set where it was submitted, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.scripts import run_script
from . import sample_functions as f
from . import state_functions as s

THREADS = pytest.mark.parametrize("threads", [False, True], ids=["", "threads"])
VARIABLES = (s.request, s.language)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(1, contextvars=VARIABLES, preload=[s.__name__, "uvloop"]) as pool:
        yield pool
        assert pool.statistics().crashes == 0


async def items(results: Any) -> list[Any]:
    return [item async for item in results]


@THREADS
async def test_tasks_of_every_kind_find_the_values(threads: bool) -> None:
    options: dict[str, Any] = {"contextvars": VARIABLES, "threads": threads, "preload": [s.__name__, "uvloop"]}
    async with f.open_pool(1, **options) as pool:
        assert await pool.run(s.see_request) == await pool.run(s.see_request_async) == ("unset", "en")
        s.request.set({"id": 1})
        assert await pool.run(s.see_request) == await pool.run(s.see_request_async) == ({"id": 1}, "en")
        s.language.set("de")
        expected = ({"id": 1}, "de")
        assert await pool.run(s.see_request) == await pool.run(s.see_request_async) == expected
        assert await pool.submit(s.see_request) == expected
        assert await items(pool.map(s.see_request_at, range(5))) == [expected] * 5
        for function in (s.stream_requests, s.stream_requests_async):
            got = await items(pool.stream(function, 2))
            assert [value for value, _ in got] == [{"id": 1}] * 2
            assert got[0] == expected
        assert await pool.run(lambda: s.see_request()) == expected


async def test_the_values_at_the_call_count(pool: aioipc.Pool) -> None:
    """Not those at the moment of sending, nor those that a map's reader has."""
    s.request.set(1)
    first = pool.submit(s.see_request)
    results = pool.map(s.see_request_at, range(20), window=2)
    stream = pool.stream(s.stream_requests, 1)
    s.request.set(2)
    second = pool.submit(s.see_request)
    assert [(await first)[0], (await second)[0]] == [1, 2]
    assert {value for value, _ in await items(results)} == {1}
    assert (await anext(stream))[0] == 1
    await stream.aclose()


async def test_concurrent_tasks_have_their_own(pool: aioipc.Pool) -> None:
    async def ask(value: int, function: Any) -> Any:
        s.request.set(value)
        return (await pool.run(function))[0]

    for function in (s.see_request, s.see_request_async):
        assert await asyncio.gather(*(ask(i, function) for i in range(40))) == list(range(40))


@pytest.mark.parametrize("set_here", [False, True], ids=["unset", "set"])
@THREADS
async def test_what_a_task_sets_ends_with_it(set_here: bool, threads: bool) -> None:
    """The next task of the same worker does not find it, whether or not values came with the first."""
    options: dict[str, Any] = {"contextvars": VARIABLES, "threads": threads, "preload": [s.__name__, "uvloop"]}
    async with f.open_pool(1, **options) as pool:
        before = "unset"
        if set_here:
            s.request.set(before := "mine")
        for change in (s.change_request, s.change_request_async):
            assert await pool.run(change, "theirs") == before
            assert await pool.run(s.see_request) == await pool.run(s.see_request_async) == (before, "en")
        if not threads:
            assert (await items(pool.stream(s.stream_requests, 3)))[-1] == (before, "1")
            assert await pool.run(s.see_request) == (before, "en")
        contextvars.Context().run(lambda: None)
        job = contextvars.Context().run(pool.submit, s.see_request)
        assert await job == ("unset", "en")


async def test_a_value_that_cannot_be_sent(pool: aioipc.Pool) -> None:
    s.language.set("de")
    s.request.set(threading.Lock())
    anything: Any = pool
    for use in (anything.submit, anything.stream, lambda function: anything.map(function, [1])):
        function = s.stream_requests if use == anything.stream else s.see_request
        with pytest.raises(aioipc.SerializationError, match="the value of the context variable request cannot be sent"):
            use(function)
    with pytest.raises(aioipc.SerializationError, match="request") as caught:
        await pool.run(s.see_request)
    assert "language" not in str(caught.value)  # it names the one
    assert pool.statistics().submitted == 0
    s.request.set(1)
    assert await pool.run(s.see_request) == (1, "de")


async def test_a_value_by_value(pool: aioipc.Pool) -> None:
    """Lambdas and local classes travel."""

    class Local:
        number = 5

    s.request.set((lambda: 7, Local))
    function, cls = (await pool.run(s.see_request))[0]
    assert (function(), cls.number) == (7, 5)


async def test_variables_that_no_module_has() -> None:
    """They are the same in the function that closes over them."""
    here = contextvars.ContextVar("here", default=(1,))
    bare: contextvars.ContextVar[int] = contextvars.ContextVar("bare")
    async with f.open_pool(1, contextvars=[here, bare]) as pool:

        def look() -> tuple[tuple[int], int | None]:
            return here.get(), bare.get(None)

        def look_without_default() -> int:
            return bare.get()

        assert await pool.run(look) == ((1,), None)
        with pytest.raises(LookupError):
            await pool.run(look_without_default)
        here.set((2,))
        bare.set(3)
        assert await pool.run(look) == ((2,), 3)
        assert await pool.run(look_without_default) == 3


def test_variables_of_a_script() -> None:
    source = """
        import asyncio, contextvars, aioipc
        name = contextvars.ContextVar("name")
        size = contextvars.ContextVar("size", default=1)
        def look():
            return name.get("unset"), size.get()
        async def look_async():
            return look()
        def count():
            yield look()
        async def main():
            async with aioipc.Pool(1, contextvars=[name, size]) as pool:
                print(await pool.run(look), await pool.run(look_async))
                name.set("a"); size.set(2)
                print(await pool.run(look), await pool.run(look_async))
                print([x async for x in pool.stream(count)])
        asyncio.run(main())
    """
    lines = run_script(source).check().stdout.splitlines()
    assert lines == ["('unset', 1) ('unset', 1)", "('a', 2) ('a', 2)", "[('a', 2)]"]
