"""aioipc itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import aioipc

from .base import WORKERS, Function, Peer


class AioipcPool(Peer):
    options: Mapping[str, Any] = {}

    async def start(self, concurrency: int | None = None) -> None:
        options: dict[str, Any] = {**self.options}
        if concurrency is not None:
            options["concurrency"] = concurrency
        self.pool = aioipc.Pool(workers=WORKERS, **options)
        await self.pool.__aenter__()

    async def stop(self) -> None:
        await self.pool.__aexit__(None, None, None)

    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        return self.pool.submit(function, argument)

    async def call_alone(self, function: Function, argument: Any) -> Any:
        return await self.pool.run(function, argument)

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return [result async for result in self.pool.map(function, range(count))]

    async def sleep_all(self, seconds: float, count: int) -> None:
        async for _ in self.pool.map(asyncio.sleep, [seconds] * count):
            pass


class SpinningAioipcPool(AioipcPool):
    """Workers that keep asking for a moment before they sleep."""

    options = {"spin": 200e-6}  # noqa: RUF012
