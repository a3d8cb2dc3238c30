"""concurrent.futures.ProcessPoolExecutor, on fork and on forkserver."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from .base import WORKERS, Function, FuturesPeer


class ForkExecutor(FuturesPeer):
    method = "fork"

    async def start(self, concurrency: int | None = None) -> None:
        self.executor = ProcessPoolExecutor(WORKERS, multiprocessing.get_context(self.method))

    async def stop(self) -> None:
        self.executor.shutdown()

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        return self.executor.submit(function, argument)

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return list(self.executor.map(function, range(count)))


class ForkserverExecutor(ForkExecutor):
    method = "forkserver"
