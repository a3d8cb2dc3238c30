"""`Pool.map`: order, laziness, every way to end it."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from . import sample_functions as f


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(2, grace=1.0) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[f.Gate]:
    gate = f.Gate(tmp_path)
    yield gate
    gate.close()


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


class Source:
    """An endless source that knows how many items were taken, and whether it was closed."""

    def __init__(self, stop: int | None = None) -> None:
        self.taken = 0
        self.closed = False
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        try:
            for i in itertools.count() if self.stop is None else range(self.stop):
                self.taken += 1
                yield i
        finally:
            self.closed = True

    async def as_async(self) -> AsyncIterator[int]:
        try:
            for i in itertools.count() if self.stop is None else range(self.stop):
                self.taken += 1
                yield i
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def alist(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def no_task_left(pool: aioipc.Pool) -> None:
    def settled() -> bool:
        now = pool.statistics()
        return now.queued == now.in_flight == 0

    await eventually_async(settled)


def raise_for(bad: int, kind: type[BaseException], x: int) -> int:
    if x == bad:
        raise kind(f"at {x}")
    return x


async def async_raise_for(bad: int, kind: type[BaseException], x: int) -> int:
    return raise_for(bad, kind, x)


# -- results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [f.square, f.async_square, lambda x: x * x])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("length", [0, 1, 500])
async def test_map(pool: aioipc.Pool, function: Any, ordered: bool, length: int) -> None:
    results = [x async for x in pool.map(function, range(length), ordered=ordered)]
    assert (results if ordered else sorted(results)) == [i * i for i in range(length)]


async def test_ordered_whatever_ends_first(pool: aioipc.Pool, gate: f.Gate) -> None:
    async with pool.map(f.async_pass_gate_or_not, [gate.path, ""], ["slow", "quick"]) as results:
        reading = asyncio.ensure_future(anext(results))
        await gate.wait_arrived()
        await eventually_async(lambda: pool.statistics().done == 1)
        assert not reading.done()
        gate.let()
        assert [await reading, *[x async for x in results]] == ["slow", "quick"]


async def test_unordered_as_they_come(pool: aioipc.Pool, gate: f.Gate) -> None:
    async with pool.map(f.async_pass_gate_or_not, [gate.path, ""], ["slow", "quick"], ordered=False) as results:
        assert await anext(results) == "quick"
        await gate.wait_arrived()
        gate.let()
        assert [x async for x in results] == ["slow"]


async def test_several_iterables_until_the_shortest_ends(pool: aioipc.Pool) -> None:
    assert [x async for x in pool.map(f.join, "abc", "12")] == ["a-1", "b-2"]
    assert [x async for x in pool.map(f.join, alist("a", "b"), ["1", "2", "3"], alist("x", "y", "z"))] == [
        "a-1-x",
        "b-2-y",
    ]


async def test_async_iterable(pool: aioipc.Pool) -> None:
    source = Source(300)
    assert [x async for x in pool.map(f.square, source.as_async())] == [i * i for i in range(300)]
    assert source.closed


async def test_a_slow_async_source_is_handed_on_item_by_item(pool: aioipc.Pool) -> None:
    """The next item comes only after the result of the one before was seen."""
    seen = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        for i in range(5):
            yield i
            await seen.wait()
            seen.clear()

    results = []
    async for x in pool.map(f.square, source()):
        results.append(x)
        seen.set()
    assert results == [0, 1, 4, 9, 16]


async def test_two_maps_at_once(pool: aioipc.Pool) -> None:
    async def collect(function: Any) -> list[int]:
        return [x async for x in pool.map(function, range(300))]

    squares = [i * i for i in range(300)]
    assert await asyncio.gather(*map(collect, (f.square, f.async_square, f.square))) == [squares] * 3


async def test_options_reach_each_task(pool: aioipc.Pool, log: str) -> None:
    paths = [f"{log}{i}" for i in range(3)]
    results = pool.map(f.fail_until, paths, [1, 2, 3], [OSError] * 3, retries=2, retry_on=OSError)
    assert [x async for x in results] == [1, 2, 3]
    with pytest.raises(aioipc.TaskTimeout):
        [x async for x in pool.map(f.wait_until_interrupted, [log], timeout=0.1)]


async def test_priority(gate: f.Gate) -> None:
    async with aioipc.Pool(1) as pool:
        first = pool.submit(f.pass_gate, gate.path)
        await gate.wait_arrived()
        low = pool.map(f.moment, ["low"], priority=-1)
        reading = asyncio.ensure_future(anext(low))
        await asyncio.sleep(0)
        middle = pool.submit(f.moment, "middle")
        gate.let()
        await first
        assert (await middle)[0] < (await reading)[0]


# -- laziness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("window", [1, 2, 10])
async def test_window(pool: aioipc.Pool, kind: str, window: int) -> None:
    """No more than ``window`` items are taken and not handed over, whatever the reader does meanwhile."""
    source = Source()
    items = source if kind == "sync" else source.as_async()
    async with pool.map(f.square, items, window=window) as results:
        assert source.taken == 0
        for handed in range(1, 40):
            assert await anext(results) == (handed - 1) ** 2
            for _ in range(handed % 4):
                await asyncio.sleep(0.001)
            assert source.taken <= handed + window
    if kind == "async":
        assert source.closed
    await no_task_left(pool)


async def test_window_one_runs_one_at_a_time(pool: aioipc.Pool, gate: f.Gate) -> None:
    async with pool.map(f.pass_gate, itertools.repeat(gate.path), range(3), window=1) as results:
        for i in range(3):
            reading = asyncio.ensure_future(anext(results))
            await gate.wait_arrived(i + 1)
            assert pool.statistics().in_flight + pool.statistics().queued == 1
            gate.let()
            assert await reading == i
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_default_window_is_bounded(pool: aioipc.Pool, gate: f.Gate) -> None:
    """Twice what can run at once, for a function about which nothing is known."""
    source = Source()
    async with pool.map(f.pass_gate, itertools.repeat(gate.path), source, ordered=False) as results:
        reading = asyncio.ensure_future(anext(results))
        await gate.wait_arrived(2)
        assert source.taken == 4
        gate.let(1)
        await reading
        reading = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: source.taken == 5)
        reading.cancel()
        gate.let(100)


async def test_a_blocked_reader_stops_the_source(pool: aioipc.Pool) -> None:
    source = Source()
    async with pool.map(f.square, source.as_async(), window=5) as results:
        await anext(results)
        await eventually_async(lambda: source.taken >= 6)
        for _ in range(200):
            await asyncio.sleep(0)
        assert source.taken <= 7


# -- ending early ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_breaking_out_cancels_the_rest(pool: aioipc.Pool, log: str, kind: str) -> None:
    source = Source()
    items = source if kind == "sync" else source.as_async()
    async for x in pool.map(f.stop_at_first, itertools.repeat(log), items, ordered=False, window=4):
        assert x == 0
        await eventually_async(lambda: f.marks(log).count("started") == 2)
        break
    gc.collect()
    await no_task_left(pool)
    await eventually_async(lambda: source.closed)
    assert f.marks(log).count("started") <= f.marks(log).count("finally")
    assert pool.statistics().cancelled == source.taken - 1


async def test_leaving_the_block_waits_until_nothing_runs(pool: aioipc.Pool, log: str) -> None:
    async with pool.map(f.wait_until_interrupted, itertools.repeat(log)) as results:
        reading = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: f.marks(log).count("started") == 2)
        reading.cancel()
    assert f.marks(log).count("finally") == 2
    statistics = pool.statistics()
    assert statistics.queued == statistics.in_flight == 0


async def test_leaving_the_block_by_an_exception(pool: aioipc.Pool, log: str) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with pool.map(f.stop_at_first, itertools.repeat(log), itertools.count(), ordered=False) as results:
            await anext(results)
            await eventually_async(lambda: f.marks(log).count("started") == 2)
            raise KeyError("mine")
    assert f.marks(log).count("finally") == 2


async def test_tasks_that_do_not_care_are_killed(pool: aioipc.Pool, log: str) -> None:
    async with pool.map(f.ignore_interrupts, itertools.repeat(log)) as results:
        reading = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: f.marks(log).count("started") == 2)
        reading.cancel()
    assert f.marks(log).count("ignored") == 2
    assert await pool.run(f.square, 3) == 9


async def test_dropping_the_object(pool: aioipc.Pool, log: str) -> None:
    results = pool.map(f.stop_at_first, itertools.repeat(log), itertools.count(), ordered=False)
    assert await anext(results) == 0
    await eventually_async(lambda: f.marks(log).count("started") == 2)
    del results
    gc.collect()
    await no_task_left(pool)
    assert f.marks(log).count("finally") == 2


async def test_dropping_what_was_never_read(pool: aioipc.Pool) -> None:
    source, other = Source(), Source()
    pool.map(f.square, source)
    pool.map(f.square, other.as_async())
    gc.collect()
    await asyncio.sleep(0)
    assert source.taken == other.taken == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_after_aclose_the_map_is_over(pool: aioipc.Pool, kind: str) -> None:
    source = Source()
    results = pool.map(f.square, source if kind == "sync" else source.as_async(), window=5)
    await anext(results)
    await eventually_async(lambda: pool.statistics().done >= 3)
    await results.aclose()
    await results.aclose()
    for _ in range(6):
        with pytest.raises(StopAsyncIteration):
            await anext(results)
    if kind == "async":
        assert source.closed


async def test_aclose_wakes_a_waiting_reader(pool: aioipc.Pool, log: str) -> None:
    results = pool.map(f.wait_until_interrupted, itertools.repeat(log))
    reader = asyncio.create_task(anext(results, "over"))  # type: ignore[arg-type]
    await eventually_async(lambda: f.marks(log).count("started") == 2)
    await results.aclose()
    async with asyncio.timeout(5):
        assert await reader == "over"


async def test_aclose_is_cancelled(pool: aioipc.Pool, log: str) -> None:
    """What was asked to end ends all the same."""
    results = pool.map(f.wait_until_interrupted, itertools.repeat(log))
    reader = asyncio.create_task(anext(results, "over"))  # type: ignore[arg-type]
    await eventually_async(lambda: f.marks(log).count("started") == 2)
    closing = asyncio.create_task(results.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await no_task_left(pool)
    assert f.marks(log).count("finally") == 2
    assert await reader == "over"


async def test_two_readers(pool: aioipc.Pool) -> None:
    results = pool.map(f.square, range(200), window=4)

    async def read() -> list[int]:
        return [x async for x in results]

    async with asyncio.timeout(10):
        one, other = await asyncio.gather(read(), read())
    assert sorted(one + other) == [i * i for i in range(200)]


# -- cancelled means nothing happened --------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_cancelled_readers_lose_no_result(pool: aioipc.Pool, ordered: bool, kind: str) -> None:
    source = Source(400)
    results = pool.map(f.square, source if kind == "sync" else source.as_async(), ordered=ordered, window=8)
    got: list[int] = []
    cancellations = 0
    for turn in itertools.count():
        reader = asyncio.create_task(anext(results, None))  # type: ignore[arg-type]
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        reader.cancel()
        try:
            x = await reader
        except asyncio.CancelledError:
            cancellations += 1
            if turn % 50 == 0:
                await asyncio.sleep(0.001)
            continue
        if x is None:
            break
        got.append(x)
    assert (got if ordered else sorted(got)) == [i * i for i in range(400)]
    assert cancellations > 50


async def test_a_timeout_around_next(pool: aioipc.Pool, gate: f.Gate) -> None:
    async with pool.map(f.pass_gate, [gate.path] * 2, range(2)) as results:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(results)
        gate.let(2)
        assert [x async for x in results] == [0, 1]


# -- exceptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [raise_for, async_raise_for])
async def test_an_exception_comes_in_its_place(pool: aioipc.Pool, function: Any) -> None:
    got = []
    with pytest.raises(KeyError, match="at 5"):  # noqa: PT012 - somewhere in the loop
        async for x in pool.map(function, itertools.repeat(5), itertools.repeat(KeyError), itertools.count(), window=9):
            got.append(x)
    assert got == [0, 1, 2, 3, 4]
    await no_task_left(pool)


async def test_after_an_exception_the_map_is_over(pool: aioipc.Pool) -> None:
    results = pool.map(raise_for, itertools.repeat(0), itertools.repeat(KeyError), range(50), window=9)
    with pytest.raises(KeyError):
        await anext(results)
    await no_task_left(pool)
    for _ in range(10):
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_an_exception_cancels_the_rest(pool: aioipc.Pool, log: str) -> None:
    source = Source()
    results = pool.map(f.fail_at_first, itertools.repeat(log), source, ordered=False, window=4)
    with pytest.raises(KeyError, match="first"):
        await anext(results)
    await no_task_left(pool)
    assert f.marks(log).count("started") <= f.marks(log).count("finally") >= 1
    assert source.taken == 4


@pytest.mark.parametrize("ordered", [True, False])
async def test_return_exceptions(pool: aioipc.Pool, ordered: bool) -> None:
    results = pool.map(
        raise_for,
        itertools.cycle([1, 4, 7]),
        itertools.repeat(KeyError),
        [1, 2, 7, 7],
        ordered=ordered,
        return_exceptions=True,
    )
    shown = [repr(x) async for x in results]
    assert (shown if ordered else sorted(shown, reverse=True)) == (
        ["KeyError('at 1')", "2", "KeyError('at 7')", "7"]
        if ordered
        else ["KeyError('at 7')", "KeyError('at 1')", "7", "2"]
    )


async def test_return_exceptions_of_dead_workers_and_bad_items(pool: aioipc.Pool, log: str) -> None:
    items = [f"{log}1", None, lambda: None, f"{log}2"]
    results = [x async for x in pool.map(f.die_until, items, [9, 9, 9, 1], return_exceptions=True)]
    assert isinstance(results[0], aioipc.WorkerCrashed)
    assert isinstance(results[1], TypeError)
    assert isinstance(results[2], TypeError)
    assert results[3] == 1


async def test_an_item_that_cannot_be_sent_fails_alone_and_in_its_place(pool: aioipc.Pool) -> None:
    unsendable = (i for i in range(3))
    shown = []
    async for x in pool.map(f.echo, [1, unsendable, 3], return_exceptions=True):
        shown.append(type(x).__name__ if isinstance(x, Exception) else x)
    assert shown == [1, "SerializationError", 3]
    with pytest.raises(aioipc.SerializationError, match=r"echo: argument 0, of type generator"):
        [x async for x in pool.map(f.echo, [unsendable])]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_source_that_raises(pool: aioipc.Pool, kind: str) -> None:
    """Its exception comes after the results of the items before it."""

    def source() -> Iterator[int]:
        yield from range(3)
        raise KeyError("source")

    async def async_source() -> AsyncIterator[int]:
        for i in range(3):
            yield i
        raise KeyError("source")

    got = []
    with pytest.raises(KeyError, match="source"):  # noqa: PT012 - somewhere in the loop
        async for x in pool.map(f.square, source() if kind == "sync" else async_source()):
            got.append(x)
    assert got == [0, 1, 4]


async def test_stop_async_iteration_in_a_task_is_an_error(pool: aioipc.Pool) -> None:
    got = []
    with pytest.raises(aioipc.RemoteError, match="StopAsyncIteration"):  # noqa: PT012 - somewhere in the loop
        async for x in pool.map(raise_for, [2] * 5, [StopAsyncIteration] * 5, range(5)):
            got.append(x)
    assert got == [0, 1]


async def test_a_task_that_cancels_itself_does_not_cancel_the_reader(pool: aioipc.Pool) -> None:
    with pytest.raises(aioipc.RemoteError, match="cancelled itself"):
        [x async for x in pool.map(async_raise_for, [1] * 3, [asyncio.CancelledError] * 3, range(3))]


async def test_the_source_is_closed_when_the_map_ends_early(pool: aioipc.Pool) -> None:
    source = Source()
    with pytest.raises(KeyError):
        [x async for x in pool.map(raise_for, alist(3, 3, 3, 3), alist(*[KeyError] * 4), source.as_async())]
    await eventually_async(lambda: source.closed)


# -- the pool ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_closing_the_pool_ends_an_open_map(kind: str) -> None:
    """The reader is told; results that it had a right to come first."""

    async def slow() -> AsyncIterator[int]:
        yield 0
        yield 1
        await asyncio.Event().wait()

    pool = await aioipc.Pool(1).__aenter__()
    results = pool.map(f.square, itertools.count() if kind == "sync" else slow(), window=2)
    assert await anext(results) == 0
    await eventually_async(lambda: pool.statistics().done >= 2)
    await pool.aclose()
    assert await anext(results) == 1
    async with asyncio.timeout(5):
        with pytest.raises(aioipc.PoolClosed):
            await anext(results)
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_closing_the_pool_wakes_a_waiting_reader() -> None:
    async def silent() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 0

    pool = await aioipc.Pool(1).__aenter__()
    results = pool.map(f.square, silent())
    reader = asyncio.ensure_future(anext(results))
    await asyncio.sleep(0)
    await pool.aclose()
    async with asyncio.timeout(5):
        with pytest.raises(aioipc.PoolClosed):
            await reader


async def test_leaving_the_pool_by_an_exception_ends_an_open_map(log: str) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.Pool(1, shutdown=0.1) as pool:
            results = pool.map(f.wait_until_interrupted, itertools.repeat(log))
            reader = asyncio.ensure_future(anext(results))
            await eventually_async(lambda: f.marks(log) != "")
            raise KeyError("mine")
    async with asyncio.timeout(5):
        with pytest.raises(aioipc.PoolClosed):
            await reader


async def test_map_after_the_pool_was_closed() -> None:
    async with aioipc.Pool(1) as pool:
        pass
    with pytest.raises(aioipc.PoolClosed):
        pool.map(f.square, [1])


async def test_a_program_that_breaks_out_and_ends_leaves_nothing() -> None:
    async with aioipc.Pool(2) as pool:
        async for x in pool.map(f.square, itertools.count()):
            if x > 100:
                break


async def test_repr(pool: aioipc.Pool) -> None:
    async with pool.map(f.square, range(3), window=1) as results:
        assert repr(results) == "<MapResults open, 0 taken, 0 done, 0 handed over>"
        await anext(results)
        assert repr(results) == "<MapResults open, 1 taken, 1 done, 1 handed over>"
    assert repr(results) == "<MapResults closed, 1 taken, 1 done, 1 handed over>"
