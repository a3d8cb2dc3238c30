"""Who uses the pool in a soak, all at once: submitters, runners, readers of maps, threads with the executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import aioipc

from .soak_functions import NUMBER, expected, rows, rows_async, work_item, work_item_async
from .soak_ledger import DEADLY, ENDLESS, Entry, Ledger

OUTSTANDING = 60
"""Tasks that one user has in the pool at most."""


class Taken(list[Entry]):
    """What a map has taken from its source."""

    abandoned = False


class Users:
    """Each of them goes on until `over` is set or the pool is closed, and leaves nothing unbooked."""

    def __init__(self, pool: aioipc.Pool, ledger: Ledger, chance: random.Random, *, limited: bool) -> None:
        self.over = False
        self._in_thread_outstanding = 1 if limited else OUTSTANDING // 2  # the executor knows no limit: leave room
        self._pool = pool
        self._ledger = ledger
        self._chance = chance

    def start(self) -> list[asyncio.Task[None]]:
        """Set them to work."""
        crowd: list[Callable[[], Awaitable[None]]] = [self._submit] * 2 + [self._run] * 4 + [self._map] * 3
        crowd += [self._stream] * 2 + [self._drain]
        crowd += [functools.partial(self._in_thread, self._use_executor, seed) for seed in range(2)]
        return [asyncio.ensure_future(self._go_on(each)) for each in crowd]

    async def _go_on(self, use: Callable[[], Awaitable[None]]) -> None:
        with suppress(aioipc.PoolClosed):
            while not self.over:
                await use()

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.choice([0, 0, self._chance.expovariate(1 / 0.02)]))

    # -- submit --------------------------------------------------------------------------------------

    async def _submit(self) -> None:
        waiting: set[aioipc.Job[Any]] = set()
        while not self.over:
            with suppress(aioipc.PoolFull):
                for _ in range(self._chance.choice([1, 1, 5, 40])):
                    waiting.add(self._submit_one())
            while len(waiting) > OUTSTANDING:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._pause()
            if self._chance.random() < 0.5:
                await self._pool.wait_room()

    def _submit_one(self) -> aioipc.Job[Any]:
        entry = self._ledger.new("submit")
        NUMBER.set(entry.number)
        try:
            job = self._pool.submit(entry.function, *self._ledger.arguments(entry), **entry.options)
        except (aioipc.PoolClosed, aioipc.PoolFull):
            self._ledger.refused(entry)
            raise
        entry.job = job
        job.add_done_callback(functools.partial(self._ledger.ended, entry))
        if entry.cancel_after is not None:
            asyncio.get_running_loop().call_later(entry.cancel_after, self._cancel, entry)
        return job

    @staticmethod
    def _cancel(entry: Entry) -> None:
        if entry.job is not None and not entry.job.done():
            entry.cancelled = True
            entry.job.cancel()

    # -- run -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        entry = self._ledger.new("run")
        NUMBER.set(entry.number)
        patience = entry.cancel_after
        if entry.act in ENDLESS and patience is None:
            patience = 0.05
        entry.retries, entry.retry_on, entry.timeout, entry.priority = 0, (), None, 0
        outcome: Any
        try:
            async with asyncio.timeout(patience) as limit:
                outcome = await self._pool.run(entry.function, *self._ledger.arguments(entry))
        except TimeoutError:
            entry.cancelled = limit.expired()
            outcome = asyncio.CancelledError()
        except (Exception, asyncio.CancelledError) as error:
            outcome = error
            if isinstance(error, aioipc.PoolClosed | aioipc.PoolFull):
                self._ledger.refused(entry)
                if isinstance(error, aioipc.PoolClosed):
                    raise
                return  # others were quicker to take the room
        self._ledger.book(entry, outcome)

    # -- map -----------------------------------------------------------------------------------------

    async def _map(self) -> None:
        """Read a map to its end, or let go of it half-way."""
        chance, taken = self._chance, Taken()
        retries, ordered, count = chance.choice([0, 3]), chance.random() < 0.6, chance.randrange(1, 80)
        source = self._items(taken, retries, count)
        results = self._pool.map(
            chance.choice([work_item, work_item_async]),
            _slowly(source) if chance.random() < 0.4 else source,
            ordered=ordered,
            window=chance.choice([None, None, 1, 7]),
            retries=retries,
            return_exceptions=True,
        )
        read = self._read_ordered if ordered else self._read_unordered
        way = chance.choice(["end", "end", "break", "drop"])
        limit = count if way == "end" else chance.randrange(count)
        try:
            if way == "drop":
                await read(results, taken, limit)
                del results
            else:
                async with results:
                    await read(results, taken, limit)
        finally:
            taken.abandoned = True
            self._ledger.abandon(taken, ended=way != "drop")
        await self._pause()

    def _items(self, taken: Taken, retries: int, count: int) -> Iterator[tuple[str, int, str, float]]:
        for _ in range(count):
            entry = self._ledger.new("map", plain=True)
            entry.retries = retries
            taken.append(entry)
            if taken.abandoned:  # a map that was dropped ends a little later
                self._ledger.abandon([entry], ended=False)
            yield self._ledger.arguments(entry)

    async def _read_ordered(self, results: aioipc.MapResults[Any], taken: list[Entry], limit: int) -> None:
        for place in range(limit):
            try:
                outcome = await self._next(results)
            except StopAsyncIteration:
                self._ledger.wrong.append(f"a map of {limit} gave {place}")
                return
            self._ledger.book(taken[place], outcome)

    async def _read_unordered(self, results: aioipc.MapResults[Any], taken: list[Entry], limit: int) -> None:
        """Book what says whose it is; the others are known to have ended when all have."""
        for _ in range(limit):
            outcome = await self._next(results)
            if isinstance(outcome, LookupError):
                outcome_of = outcome.args[0]
            elif isinstance(outcome, Exception):
                continue
            else:
                outcome_of = int.from_bytes(outcome[:4], "little") if isinstance(outcome, bytes) else outcome
            self._ledger.book(self._ledger.entries[outcome_of], outcome)

    async def _next(self, results: aioipc.MapResults[Any] | aioipc.StreamResults[Any]) -> Any:
        """Wait for the next result, now and then giving up first; that loses none."""
        while self._chance.random() < 0.1:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.choice([0, 0.001])):
                    return await anext(results)
        return await anext(results)

    # -- stream --------------------------------------------------------------------------------------

    async def _stream(self) -> None:
        """Read a stream to its end, or let go of it half-way."""
        chance, entry = self._chance, self._ledger.new("stream")
        entry.retries, entry.retry_on, entry.timeout, entry.priority = 0, (), None, 0
        if entry.act in ENDLESS:
            entry.act = DEADLY[0]
        count = chance.choice([0, 1, 10, 300])
        NUMBER.set(entry.number)
        try:
            results = self._pool.stream(
                chance.choice([rows, rows_async]),
                *self._ledger.arguments(entry),
                count,
                window=chance.choice([1, 5, 64]),
            )
        except (aioipc.PoolClosed, aioipc.PoolFull) as error:
            self._ledger.refused(entry)
            if isinstance(error, aioipc.PoolClosed):
                raise
            await self._pool.wait_room()
            return
        way = chance.choice(["end", "end", "break", "drop"])
        limit = None if way == "end" else chance.randrange(count + 1)
        try:
            if way == "drop":
                await self._read_stream(results, entry, count, limit)
                del results
            else:
                async with results:
                    await self._read_stream(results, entry, count, limit)
        finally:
            self._ledger.abandon([entry], ended=way != "drop")
        await self._pause()

    async def _read_stream(
        self, results: aioipc.StreamResults[tuple[int, int]], entry: Entry, count: int, limit: int | None
    ) -> None:
        place = 0
        while place != limit:
            try:
                item = await self._next(results)
            except StopAsyncIteration:
                if place != count:
                    self._ledger.wrong.append(f"a stream of {count} gave {place}: task {entry}")
                self._ledger.book(entry, expected(entry.number, entry.act))
                return
            except aioipc.PoolClosed:
                if not self._ledger.closing:
                    raise
                return
            except Exception as error:
                self._ledger.book(entry, error)
                return
            if item != (entry.number, place):
                self._ledger.wrong.append(f"item {place} of a stream is {item}: task {entry}")
            place += 1

    async def _drain(self) -> None:
        await asyncio.sleep(self._chance.random())
        with suppress(TimeoutError, RuntimeError):  # it never ends while others submit; it is paused
            async with asyncio.timeout(0.1):
                await self._pool.drain()

    # -- executor ------------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[..., None], *args: Any) -> None:
        await asyncio.to_thread(function, *args)

    def _use_executor(self, seed: int) -> None:
        chance, waiting = random.Random(seed), set[concurrent.futures.Future[Any]]()
        with suppress(RuntimeError):  # closed
            while not self.over:
                waiting.add(self._submit_from_thread(chance))
                while len(waiting) > self._in_thread_outstanding and not self.over:
                    _, waiting = concurrent.futures.wait(waiting, 1, concurrent.futures.FIRST_COMPLETED)
        while waiting and not self.over:
            _, waiting = concurrent.futures.wait(waiting, 1)

    def _submit_from_thread(self, chance: random.Random) -> concurrent.futures.Future[Any]:
        entry = self._ledger.new("executor", plain=chance.random() < 0.95)
        entry.retries, entry.retry_on, entry.timeout, entry.priority = 0, (), None, 0
        if entry.act in ENDLESS:
            entry.act = DEADLY[0]
        try:
            future = self._pool.executor.submit(entry.function, *self._ledger.arguments(entry))
        except RuntimeError:
            self._ledger.refused(entry)
            raise
        entry.job = future
        future.add_done_callback(functools.partial(self._ledger.ended, entry))
        if chance.random() < 0.05:
            entry.cancelled = True
            entry.cancelled = future.cancel()
        return future


async def _slowly(source: Iterator[Any]) -> AsyncIterator[Any]:
    for item in source:
        await asyncio.sleep(0)
        yield item
