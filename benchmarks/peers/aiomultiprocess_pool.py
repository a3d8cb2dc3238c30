"""aiomultiprocess.Pool: coroutine functions only, 16 at a time in a worker unless the case says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import aiomultiprocess  # type: ignore[import-not-found, unused-ignore]
import uvloop

from benchmarks.functions import ASYNC

from .base import WORKERS, Function, Peer


class AiomultiprocessPool(Peer):
    async def start(self, concurrency: int | None = None) -> None:
        options = {} if concurrency is None else {"childconcurrency": concurrency}
        self.pool = aiomultiprocess.Pool(WORKERS, loop_initializer=uvloop.new_event_loop, **options)

    async def stop(self) -> None:
        self.pool.terminate()
        await self.pool.join()

    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        result: Awaitable[Any] = self.pool.apply(ASYNC[function], (argument,))
        return result

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return list(await self.pool.map(ASYNC[function], range(count)))  # `async for` is far slower

    async def sleep_all(self, seconds: float, count: int) -> None:
        await self.pool.map(asyncio.sleep, [seconds] * count)
