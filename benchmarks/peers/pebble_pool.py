"""pebble.ProcessPool."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pebble  # type: ignore[import-not-found, unused-ignore]

from .base import WORKERS, Function, FuturesPeer


class PebblePool(FuturesPeer):
    async def start(self, concurrency: int | None = None) -> None:
        self.pool = pebble.ProcessPool(WORKERS)

    async def stop(self) -> None:
        self.pool.stop()
        self.pool.join()

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        future: Future[Any] = self.pool.schedule(function, args=(argument,))
        return future

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return list(self.pool.map(function, range(count)).result())
