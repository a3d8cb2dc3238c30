"""`Pool.stream`: what a generator yields in a worker comes here, in order, as far as it is wanted."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from . import sample_functions as f
from . import stream_functions as g
from .fault_functions import Gate, Journal, held

BOTH = pytest.mark.parametrize("kind", ["sync", "async"])
THREADS = pytest.mark.parametrize("threads", [False, True], ids=["", "threads"])
BY_KIND: dict[Callable[..., Any], Callable[..., Any]] = {
    g.numbers: g.numbers_async,
    g.noted_numbers: g.noted_numbers_async,
    g.noted_blocks: g.noted_blocks_async,
    g.raising: g.raising_async,
    g.with_a_lock: g.with_a_lock_async,
}


def of(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return function if kind == "sync" else BY_KIND[function]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(1, preload=[g.__name__, "uvloop"]) as pool:
        yield pool
        assert await pool.run(f.square, 3) == 9
        assert pool.statistics().crashes == 0


async def read(results: Any) -> list[Any]:
    return [item async for item in results]


def count_in(journal: Journal) -> int:
    """How many items the generator has yielded, or is about to."""
    return len([line for line in journal.lines() if line != "finally"])


# -- what comes ------------------------------------------------------------------------------------------


@THREADS
async def test_items_come_in_order(threads: bool) -> None:
    """Whatever makes them."""
    async with f.open_pool(1, threads=threads, preload=[g.__name__, "uvloop"]) as pool:
        for function in (g.numbers, g.numbers_async, g.numbers_by_turns, g.a_range, g.a_list, range, g.OwnIterator):
            for end in (0, 1, 64, 300):
                assert await read(pool.stream(function, end)) == list(range(end)), function
        more: list[Callable[..., Any]] = [
            functools.partial(g.numbers, 70),
            functools.partial(g.numbers_async, 70),
            lambda: g.another_ones(70),
            lambda: (i for i in range(70)),
            functools.partial(g.CallableGenerator(), 70),
            functools.partial(g.CallableAsyncGenerator(), 70),
        ]
        for function in more:
            assert await read(pool.stream(function)) == list(range(70)), function
        assert await read(pool.stream(g.another_ones, 70)) == list(range(70))
        assert await read(pool.stream(g.with_items, None, b"", {"a": [1]}, lambda: 1, priority=1)) != []
        statistics = pool.statistics()
        assert statistics.crashes == statistics.failed == statistics.pending == 0
        assert statistics.done == statistics.submitted


@BOTH
async def test_windows(pool: aioipc.Pool, kind: str) -> None:
    for window in (1, 2, 3, 1000):
        assert await read(pool.stream(of(kind, g.numbers), 100, window=window)) == list(range(100))


async def test_a_hundred_thousand_items(pool: aioipc.Pool) -> None:
    expected = 0
    async for item in pool.stream(g.numbers, 100_000):
        assert item == expected
        expected += 1
    assert expected == 100_000


async def test_large_items(pool: aioipc.Pool) -> None:
    """Each larger than what a reader may be behind."""
    blocks = [bytes([i]) * 1_500_000 for i in range(4)]
    assert await read(pool.stream(g.with_items, *blocks)) == blocks


# -- back-pressure ---------------------------------------------------------------------------------------


@BOTH
@THREADS
async def test_the_generator_is_never_more_than_the_window_ahead(journal: Journal, kind: str, threads: bool) -> None:
    async with f.open_pool(1, threads=threads, preload=[g.__name__, "uvloop"]) as pool:
        async with pool.stream(of(kind, g.noted_numbers), journal.path, window=5) as results:
            await eventually_async(lambda: count_in(journal) >= 5, 20)
            for i in range(40):
                assert await anext(results) == i
                assert count_in(journal) <= i + 1 + 5 + 1
            await eventually_async(lambda: count_in(journal) >= 43, 20)  # it does go on
        assert journal.lines()[-1] == "finally"
        assert pool.statistics().in_flight == 0


@BOTH
async def test_the_generator_waits_where_items_are_large(pool: aioipc.Pool, journal: Journal, kind: str) -> None:
    async with pool.stream(of(kind, g.noted_blocks), journal.path, 300_000) as results:
        for i in range(20):
            assert len(await anext(results)) == 300_000
            assert count_in(journal) <= i + 1 + 4 + 1  # 4 are more than 1 MiB
        await eventually_async(lambda: count_in(journal) >= 22, 20)


async def test_one_item_is_sent_whatever_its_size(pool: aioipc.Pool, journal: Journal) -> None:
    async with pool.stream(g.noted_blocks, journal.path, 2_000_000) as results:
        for i in range(4):
            assert count_in(journal) <= i + 2
            assert len(await anext(results)) == 2_000_000


# -- exceptions ------------------------------------------------------------------------------------------


@BOTH
@THREADS
async def test_an_exception_comes_after_the_items_before_it(kind: str, threads: bool) -> None:
    async with f.open_pool(1, threads=threads, preload=[g.__name__, "uvloop"]) as pool:
        for before in (0, 1, 100):
            results = pool.stream(of(kind, g.raising), before, KeyError("mine"))
            assert [await anext(results) for _ in range(before)] == list(range(before))
            with pytest.raises(KeyError, match="mine") as caught:
                await anext(results)
            assert "raise error" in str(caught.value.__cause__)
            for _ in range(3):
                with pytest.raises(StopAsyncIteration):
                    await anext(results)
            await results.aclose()
        for odd in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
            results = pool.stream(of(kind, g.raising), 1, odd)
            assert await anext(results) == 0
            with pytest.raises(aioipc.RemoteError, match=type(odd).__name__):
                await anext(results)
        assert await pool.run(f.square, 3) == 9
        assert pool.statistics().crashes == 0


@BOTH
async def test_an_item_that_cannot_be_sent(pool: aioipc.Pool, kind: str) -> None:
    function = of(kind, g.with_a_lock)
    results = pool.stream(function, 2)
    assert [await anext(results), await anext(results)] == [0, 1]
    with pytest.raises(aioipc.SerializationError, match=rf"{function.__name__}\(\), of type lock, cannot be sent"):
        await anext(results)
    assert await read(results) == []


async def test_an_item_that_cannot_be_loaded_here(pool: aioipc.Pool) -> None:
    results = pool.stream(g.with_one_not_loadable, os.getpid())
    assert await anext(results) == 1
    with pytest.raises(aioipc.RemoteError, match=r"an item of .*with_one_not_loadable.* cannot be loaded here"):
        await anext(results)
    assert await read(results) == []
    await results.aclose()


@THREADS
async def test_what_is_no_generator(threads: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """It says so, and no coroutine is left that was never awaited."""
    async with f.open_pool(1, threads=threads, preload=[g.__name__, "uvloop"]) as pool:
        with pytest.raises(TypeError, match=r"a stream needs .*generator function.* 5"):
            await read(pool.stream(g.a_number, 5))  # type: ignore[arg-type]
        wrong: Any
        for wrong in (g.a_coroutine, functools.partial(g.a_coroutine, value=1)):
            arguments = (5,) if wrong is g.a_coroutine else ()
            with pytest.raises(TypeError, match=r"a stream needs .*generator function"):
                await read(pool.stream(wrong, *arguments))
        with pytest.raises(TypeError, match=r"a stream needs .*generator function"):
            await read(pool.stream(lambda: g.a_coroutine(5)))  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="a task needs a function to call, not 5"):
            pool.stream(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            await read(pool.stream(g.numbers))  # type: ignore[call-arg]
        for name, bad, kind in (("window", 0, ValueError), ("window", 1.5, TypeError), ("priority", "1", TypeError)):
            with pytest.raises(kind, match=name):
                pool.stream(g.numbers, 3, **{name: bad})  # type: ignore[arg-type]
        with pytest.raises(aioipc.SerializationError, match="argument 0, of type generator"):
            pool.stream(g.numbers, (i for i in range(3)))  # type: ignore[arg-type]
        for generator in (g.numbers, g.numbers_async, g.CallableGenerator(), g.CallableAsyncGenerator()):
            with pytest.raises(TypeError, match=r"is a generator function: run it with pool\.stream"):
                pool.submit(generator, 3)
            with pytest.raises(TypeError, match=r"is a generator function: run it with pool\.stream"):
                pool.map(generator, [3])
        assert await pool.run(f.square, 3) == 9
        assert pool.statistics().pending == 0
    assert "never awaited" not in capfd.readouterr().err


# -- readers ---------------------------------------------------------------------------------------------


async def test_two_readers(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    async with pool.stream(g.held_after, 0, journal.path, gate.path) as results:
        reader = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: journal.lines() == ["waiting"], 20)
        with pytest.raises(aioipc.BusyResourceError, match="reading this stream"):
            await anext(results)
        gate.open()
        assert await reader == 0


@BOTH
async def test_cancelled_readers_lose_no_item(pool: aioipc.Pool, kind: str) -> None:
    results = pool.stream(of(kind, g.numbers), 400, window=8)
    got: list[int] = []
    cancelled = 0
    for turn in range(100_000):
        reader = asyncio.create_task(anext(results, None))  # type: ignore[arg-type]
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        reader.cancel()
        try:
            item = await reader
        except asyncio.CancelledError:
            cancelled += 1
            await asyncio.sleep(0.001 if turn % 50 == 0 else 0)
            continue
        if item is None:
            break
        got.append(item)
    assert got == list(range(400))
    assert cancelled > 50


async def test_a_reader_that_gives_up_again_and_again(pool: aioipc.Pool, journal: Journal, gate: Gate) -> None:
    async with pool.stream(g.held_after, 1, journal.path, gate.path) as results:
        assert await anext(results) == 0
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(results)
        gate.open()
        assert [await anext(results)] == [1]
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_a_slow_reader_holds_up_nobody_else(journal: Journal, gate: Gate) -> None:
    """A worker whose stream waits for its reader is taken; the others are free, and async tasks run beside one."""
    preload = [g.__name__, "uvloop"]
    async with (
        f.open_pool(2, preload=preload) as pool,
        pool.stream(g.noted_numbers, journal.path, window=2) as results,
    ):
        assert await anext(results) == 0
        assert [x async for x in pool.map(f.square, range(50))] == [i * i for i in range(50)]
        assert await pool.run(held, journal.path, os.devnull, -1) == -1
        assert await anext(results) == 1
    async with (
        f.open_pool(1, preload=preload) as pool,
        pool.stream(g.noted_numbers_async, journal.path, window=2) as results,
    ):
        assert await anext(results) == 0
        assert [x async for x in pool.map(f.async_square, range(50))] == [i * i for i in range(50)]
        assert await anext(results) == 1


async def test_quick_tasks_do_not_wait_behind_a_stream_of_the_same_function(journal: Journal, gate: Gate) -> None:
    """How quick a function was that returned a range says nothing about how long its items are wanted."""
    async with f.open_pool(2, preload=[g.__name__, "uvloop"]) as pool:
        for _ in range(20):
            assert await pool.run(g.a_range, 100) == range(100)
        async with pool.stream(g.a_range, 10**9, window=1) as results:
            assert await anext(results) == 0
            other = pool.submit(held, journal.path, gate.path, 1)
            await eventually_async(lambda: journal.lines() == ["1"], 20)
            job = pool.submit(g.a_range, 3)
            for _ in range(20):
                await anext(results)
            gate.open()
            async with asyncio.timeout(20):
                while not job.done():  # the stream goes on: its worker is never silent
                    await anext(results)
            assert (await job, await other) == (range(3), 1)


async def test_many_streams_at_once() -> None:
    async with f.open_pool(2, preload=[g.__name__, "uvloop"]) as pool:
        streams = [pool.stream(function, 200) for function in [g.numbers, g.numbers_async] * 20]
        quick = [pool.submit(f.square, i) for i in range(100)]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*map(read, streams)) == [list(range(200))] * 40
            assert await asyncio.gather(*quick) == [i * i for i in range(100)]
    assert pool.statistics().done == 140


async def test_repr(pool: aioipc.Pool) -> None:
    results = pool.stream(g.numbers, 2)
    assert repr(results) == "<StreamResults open, 0 items handed over, 0 waiting>"
    await anext(results)
    await eventually_async(lambda: "ended, 1 items handed over, 1 waiting" in repr(results), 10)
    await results.aclose()
    assert repr(results) == "<StreamResults closed, 1 items handed over, 0 waiting>"


def test_a_generator_of_a_script() -> None:
    from ..harness.scripts import run_script

    source = """
        import asyncio, aioipc
        def count(n):
            yield from range(n)
        async def count_async(n):
            for i in range(n):
                yield i
        async def main():
            async with aioipc.Pool(1) as pool:
                print([x async for x in pool.stream(count, 3)], [x async for x in pool.stream(count_async, 3)])
                async for x in pool.stream(count, 10):
                    break
        asyncio.run(main())
    """
    assert run_script(source).check().stdout == "[0, 1, 2] [0, 1, 2]\n"
