"""Context variables in workers: what a task sets stays in that task, whether or not any travel with tasks."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

import aioipc

from ..harness.scripts import run_script

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="nobody's")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "travelling": {"contextvars": [VARIABLE]},
    "threads": {"threads": True},
}


def begin() -> None:
    VARIABLE.set("the initializer's")


def read() -> str:
    return VARIABLE.get()


async def read_async() -> str:
    return VARIABLE.get()


def change(text: str) -> str:
    VARIABLE.set(text)
    return VARIABLE.get()


async def change_async(text: str) -> str:
    VARIABLE.set(text)
    await asyncio.sleep(0.001)
    return VARIABLE.get()


def rows_that_change(text: str) -> Any:
    VARIABLE.set(text)
    yield VARIABLE.get()
    yield VARIABLE.get()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_what_a_task_sets_stays_in_it(options: dict[str, Any]) -> None:
    async with aioipc.Pool(1, shutdown=1, concurrency=4, **options) as pool:
        jobs = []
        for number in range(40):  # many more than run at once: a task is started by the end of another
            jobs += [pool.submit(change_async, f"{number}"), pool.submit(read_async)]
            jobs += [pool.submit(change, f"{number}"), pool.submit(read)]
        results = await asyncio.gather(*jobs)
        assert [row async for row in pool.stream(rows_that_change, "row")] == ["row", "row"]
        results += [await pool.run(read), await pool.run(read_async)]
    assert results == [text for number in range(40) for text in [f"{number}", "nobody's"] * 2] + ["nobody's"] * 2


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_what_the_initializer_sets_is_for_all(options: dict[str, Any]) -> None:
    async with aioipc.Pool(1, shutdown=1, initializer=begin, **options) as pool:
        assert await pool.run(change, "mine") == "mine"
        assert await pool.run(read) == "the initializer's"
        assert await pool.run(read_async) == "the initializer's"


async def test_the_executor_sends_none() -> None:
    async with aioipc.Pool(1, shutdown=1, contextvars=[VARIABLE]) as pool:
        VARIABLE.set("the caller's")
        assert await pool.run(read) == "the caller's"
        assert await pool.run(read_async) == "the caller's"
        for function in (read, read_async):
            assert await asyncio.wrap_future(pool.executor.submit(function)) == "nobody's"


def test_a_variable_of_the_script_keeps_its_default() -> None:
    script = """
        import asyncio, contextvars, threading, aioipc
        plain = contextvars.ContextVar("plain", default=[1])
        without = contextvars.ContextVar("without")
        cannot = contextvars.ContextVar("cannot", default=threading.Lock())
        def read():
            return plain.get(), without.get("none"), cannot.get("none")
        async def main():
            async with aioipc.Pool(1) as pool:
                print(await pool.run(read))
            async with aioipc.Pool(1, contextvars=[plain, without]) as pool:
                without.set("set")
                print(await pool.run(read))
        asyncio.run(main())
    """
    assert run_script(script).check().stdout == "([1], 'none', 'none')\n([1], 'set', 'none')\n"
