"""loky's reusable executor, which is made anew after a crash."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import loky  # type: ignore[import-not-found, unused-ignore]

from .base import WORKERS, Function, FuturesPeer


class LokyExecutor(FuturesPeer):
    async def start(self, concurrency: int | None = None) -> None:
        self.executor()

    async def stop(self) -> None:
        self.executor().shutdown()

    def executor(self) -> Any:
        return loky.get_reusable_executor(WORKERS)

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        future: Future[Any] = self.executor().submit(function, argument)
        return future

    async def map_all(self, function: Function, count: int) -> list[Any]:
        return list(self.executor().map(function, range(count)))
