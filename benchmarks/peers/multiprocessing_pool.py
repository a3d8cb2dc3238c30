"""multiprocessing.Pool: imap for single tasks, map with a hand-set chunk size of 64."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from .base import WORKERS, CallbackPeer, Function

CHUNK = 64


class MultiprocessingPool(CallbackPeer):
    async def start(self, concurrency: int | None = None) -> None:
        self.pool = multiprocessing.Pool(WORKERS)

    async def stop(self) -> None:
        self.pool.terminate()
        self.pool.join()

    def apply_async(
        self, function: Function, argument: Any, done: Callable[[Any], None], failed: Callable[[Any], None]
    ) -> None:
        self.pool.apply_async(function, (argument,), callback=done, error_callback=failed)

    async def call_alone(self, function: Function, argument: Any) -> Any:
        return self.pool.apply(function, (argument,))

    async def submit_all(self, function: Function, count: int) -> list[Any]:
        return list(self.pool.imap(function, range(count)))

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return self.pool.map(function, range(count), chunksize=CHUNK)
