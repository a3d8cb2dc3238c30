"""anyio.to_process.run_sync: processes of its own, at most two by the limiter."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.to_process

from .base import WORKERS, Function, Peer


class AnyioProcess(Peer):
    has_lifetime = False

    async def start(self, concurrency: int | None = None) -> None:
        self.limiter = anyio.CapacityLimiter(WORKERS)

    async def stop(self) -> None:
        """They end with the loop."""

    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        return anyio.to_process.run_sync(function, argument, limiter=self.limiter)
