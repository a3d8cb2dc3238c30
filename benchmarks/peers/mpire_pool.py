"""mpire.WorkerPool: apply_async for single tasks, map, which chooses its chunks by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpire  # type: ignore[import-not-found, unused-ignore]

from .base import WORKERS, CallbackPeer, Function


class MpirePool(CallbackPeer):
    async def start(self, concurrency: int | None = None) -> None:
        self.pool = mpire.WorkerPool(WORKERS)

    async def stop(self) -> None:
        self.pool.stop_and_join()
        self.pool.terminate()

    def apply_async(
        self, function: Function, argument: Any, done: Callable[[Any], None], failed: Callable[[Any], None]
    ) -> None:
        self.pool.apply_async(function, (argument,), callback=done, error_callback=failed)

    async def call_alone(self, function: Function, argument: Any) -> Any:
        return self.pool.apply(function, (argument,))

    async def submit_all(self, function: Function, count: int) -> list[Any]:
        results = [self.pool.apply_async(function, (number,)) for number in range(count)]
        return [result.get() for result in results]

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return list(self.pool.map(function, range(count)))
