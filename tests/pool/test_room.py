"""``max_pending`` and ``max_pending_bytes``: submit refuses, run and map wait, nobody waits for ever."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import aioipc

from ..harness.processes import eventually_async
from . import fault_functions as tasks
from . import sample_functions as f
from . import staff_functions as w
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, w.__name__, tasks.__name__, "uvloop"]
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
open_pool = functools.partial(f.open_pool, preload=PRELOAD)


class Source:
    """Numbers, and how many of them were taken."""

    def __init__(self, end: int | None = None) -> None:
        self.taken = 0
        self._end = end

    def __iter__(self) -> Iterator[int]:
        for i in itertools.count() if self._end is None else range(self._end):
            self.taken += 1
            yield i

    async def by_turns(self) -> AsyncIterator[int]:
        for i in self:
            await asyncio.sleep(0)
            yield i

    def of(self, kind: str) -> Any:
        return self if kind == "sync" else self.by_turns()


async def read(results: Any) -> list[Any]:
    return [item async for item in results]


# -- submit and run --------------------------------------------------------------------------------------


async def test_by_number(journal: Journal, gate: Gate) -> None:
    async with open_pool(1, max_pending=3) as pool:
        jobs = [pool.submit(tasks.held, journal.path, gate.path, i) for i in range(3)]
        with pytest.raises(aioipc.PoolFull, match=r"3 tasks of \d+ bytes have not settled, max_pending is 3 tasks"):
            pool.submit(f.square, 3)
        with pytest.raises(aioipc.PoolFull):
            pool.stream(range, 3)
        with pytest.raises(anyio.WouldBlock):  # the same, by its kind
            pool.submit(f.square, 3)
        statistics = pool.statistics()
        assert (statistics.pending, statistics.submitted) == (3, 3)
        assert statistics.pending_bytes > 0
        running = [asyncio.ensure_future(pool.run(f.square, i)) for i in range(8)]
        waiting = asyncio.ensure_future(pool.wait_room())
        given_up = asyncio.ensure_future(pool.run(f.square, 100))
        await asyncio.sleep(0.05)
        given_up.cancel()
        assert pool.statistics().pending == 3
        jobs[2].cancel()  # a cancelled one makes room as well
        await eventually_async(lambda: pool.statistics().submitted == 4, 20)
        assert pool.statistics().pending == 3
        gate.open()
        await waiting
        assert await asyncio.gather(*running) == [i * i for i in range(8)]
        assert await asyncio.gather(*jobs[:2]) == [0, 1]
        assert pool.statistics().submitted == 11
        assert (pool.statistics().pending, pool.statistics().pending_bytes) == (0, 0)
        await pool.wait_room()


async def test_by_bytes(journal: Journal, gate: Gate) -> None:
    async with open_pool(1, max_pending_bytes=1000) as pool:
        assert await pool.run(w.size_of, bytes(5000)) == 5000  # one, whatever its size
        held = pool.submit(tasks.held, journal.path, gate.path, 1)
        large = pool.submit(w.size_of, bytes(5000))
        with pytest.raises(aioipc.PoolFull, match=r"2 tasks of 5\d+ bytes have not settled, max_pending_bytes is 1000"):
            pool.submit(f.square, 3)
        running = asyncio.ensure_future(pool.run(f.square, 3))
        gate.open()
        assert [await held, await large, await running] == [1, 5000, 9]
        results = pool.map(w.size_of, [bytes(800)] * 30)
        most = 0
        async for size in results:
            assert size == 800
            most = max(most, pool.statistics().pending_bytes)
        assert most < 2000


async def test_every_end_of_a_task_makes_room(journal: Journal, gate: Gate) -> None:
    async with open_pool(1, max_pending=1, grace=0.1) as pool:
        with pytest.raises(LookupError):
            await pool.run(tasks.failing, 1)
        with pytest.raises(aioipc.WorkerCrashed):
            await pool.run(tasks.die, "SIGKILL")
        with pytest.raises(aioipc.TaskTimeout):
            await pool.submit(tasks.held, journal.path, gate.path, 1, timeout=0.1)
        with pytest.raises(aioipc.SerializationError):
            await pool.run(f.echo, (i for i in range(3)))
        async with pool.stream(range, 1000):
            with pytest.raises(aioipc.PoolFull):
                pool.submit(f.square, 3)
        assert await pool.submit(tasks.die_at_first, "SIGKILL", journal.path, 5, retries=1) == 5
        assert await pool.submit(f.square, 3) == 9


async def test_the_pool_is_closed_meanwhile(journal: Journal, gate: Gate) -> None:
    async with open_pool(1, max_pending=1) as pool:
        held = pool.submit(tasks.held, journal.path, gate.path, 1)
        waiting = [asyncio.ensure_future(pool.wait_room()), asyncio.ensure_future(pool.run(f.square, 3))]
        reader = asyncio.ensure_future(anext(pool.map(f.square, [1, 2])))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(pool.aclose())
        async with asyncio.timeout(20):
            for task in (*waiting, reader):
                with pytest.raises(aioipc.PoolClosed):
                    await task
        gate.open()
        await closing
        assert await held == 1
    with pytest.raises(aioipc.PoolClosed):
        await pool.wait_room()


# -- map -------------------------------------------------------------------------------------------------


@KINDS
async def test_a_map_takes_no_more_than_the_pool_has_room_for(kind: str, journal: Journal, gate: Gate) -> None:
    async with open_pool(1, max_pending=3) as pool:
        source = Source(30)
        items = source.of(kind)
        results = pool.map(tasks.held, itertools.repeat(journal.path), itertools.repeat(gate.path), items, window=20)
        first = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: pool.statistics().pending == 3, 20)
        await asyncio.sleep(0.02)
        assert source.taken <= 4  # an async source may have one in its hand
        gate.open()
        assert [await first, *(await read(results))] == list(range(30))


@KINDS
async def test_two_maps_share_a_full_pool(kind: str) -> None:
    for most in (1, 2, 5):
        async with open_pool(2, max_pending=most) as pool, asyncio.timeout(40):
            maps = [pool.map(f.square, Source(100).of(kind), ordered=i % 2 == 0, window=10) for i in range(3)]
            for got in await asyncio.gather(*map(read, maps)):
                assert sorted(got) == [i * i for i in range(100)]


@KINDS
async def test_a_map_that_nobody_reads_holds_up_no_other(kind: str) -> None:
    """Its results have settled: they take no room."""
    async with open_pool(1, max_pending=2) as pool, asyncio.timeout(30):
        idle = pool.map(f.square, Source().of(kind), window=5)
        assert await anext(idle) == 0
        assert await read(pool.map(f.square, Source(50).of(kind))) == [i * i for i in range(50)]
        assert await pool.run(f.square, 3) == 9
        await idle.aclose()


@KINDS
@pytest.mark.parametrize("how", ["aclose", "cancel", "drop"])
async def test_leaving_a_map_that_waits_for_room(kind: str, how: str, journal: Journal, gate: Gate) -> None:
    """The pool is full of others' tasks, and stays so."""
    async with open_pool(1, max_pending=1) as pool:
        held = pool.submit(tasks.held, journal.path, gate.path, 1)
        await eventually_async(lambda: journal.lines() == ["1"], 20)
        results = pool.map(f.square, Source().of(kind))
        reader = asyncio.create_task(anext(results, "over"))  # type: ignore[arg-type]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reader.done()
        async with asyncio.timeout(20):
            if how == "aclose":
                await results.aclose()
                assert await reader == "over"
            else:
                reader.cancel()
                await asyncio.wait([reader])
            if how == "drop":
                del results, reader
        assert not held.done()
        gate.open()
        assert await held == 1
        assert await pool.run(f.square, 3) == 9


async def test_an_async_source_that_ends_in_a_full_pool(journal: Journal, gate: Gate) -> None:
    """The reader is told at once; it does not have to wait for the others' tasks."""

    async def failing() -> AsyncIterator[int]:
        await more.wait()
        raise KeyError("source")
        yield 0

    more = asyncio.Event()
    async with open_pool(1, max_pending=1) as pool:
        held = pool.submit(tasks.held, journal.path, gate.path, 1)
        reader = asyncio.ensure_future(anext(pool.map(f.square, failing())))
        for _ in range(5):
            await asyncio.sleep(0)
        more.set()
        async with asyncio.timeout(20):
            with pytest.raises(KeyError, match="source"):
                await reader
        assert not held.done()
        gate.open()
        assert await held == 1


@KINDS
@pytest.mark.parametrize("ordered", [True, False])
async def test_window_bytes(kind: str, ordered: bool) -> None:
    """Results that wait for the reader count as what was sent for them did; one is always on its way."""
    async with open_pool(1) as pool:
        source = Source(40)
        items = source.of(kind)
        sizes = (100_000 + 0 * i for i in source) if kind == "sync" else _sizes(items)
        got = 0
        async with pool.map(w.block_of, sizes, ordered=ordered, window=30, window_bytes=250_000) as results:
            async for block in results:
                assert len(block) == 100_000
                got += 1
                assert source.taken <= got + 30
                if got == 3:
                    await pool.drain()
                    for _ in range(20):
                        await asyncio.sleep(0)
                    await pool.drain()
                    taken = source.taken
                    for _ in range(20):
                        await asyncio.sleep(0)
                    assert source.taken == taken <= 40
        assert got == 40
        assert await read(pool.map(w.size_of, [bytes(9000)] * 5, window_bytes=1)) == [9000] * 5
        for bad, error in ((0, ValueError), (1.5, TypeError), (None, TypeError)):
            with pytest.raises(error, match="window_bytes"):
                pool.map(f.square, [1], window_bytes=bad)  # type: ignore[arg-type]


async def _sizes(items: AsyncIterator[int]) -> AsyncIterator[int]:
    async for _ in items:
        yield 100_000
