"""A storm: operations that are cancelled at random moments and tried again, thousands of times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Storm:
    """Runs operations as tasks, and cancels some of those that run, each turn of the loop.

    The same ``seed`` makes the same choices.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._operations: set[asyncio.Task[Any]] = set()
        self.cancelled: int = 0

    async def until_done(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Start the operation again and again until it is not cancelled before it succeeds; return its result."""
        while True:
            task = asyncio.ensure_future(operation())
            self._operations.add(task)
            await asyncio.wait([task])
            self._operations.discard(task)
            if not task.cancelled():
                return task.result()
            self.cancelled += 1

    async def blow(self, over: asyncio.Event) -> None:
        """Cancel until ``over`` is set."""
        while not over.is_set():
            running = list(self._operations)
            for task in self._random.sample(running, self._random.randint(0, min(2, len(running)))):
                task.cancel()
            await asyncio.sleep(0)
