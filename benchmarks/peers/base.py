"""What a case asks of a peer. A peer does each in the way that its own documentation shows."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from benchmarks.case import Unable

Function = Callable[..., Any]
WORKERS = 2


class Peer(ABC):
    """A pool of two workers."""

    name = ""
    has_lifetime = True

    @abstractmethod
    async def start(self, concurrency: int | None = None) -> None:
        """Make the pool; ``concurrency``: async tasks at a time in a worker, where the case is about that."""

    @abstractmethod
    async def stop(self) -> None:
        """End it."""

    @abstractmethod
    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        """Run one task."""

    async def call_alone(self, function: Function, argument: Any) -> Any:
        """Run one task while nothing else happens; synchronous pools block here, which suits them best."""
        return await self.call(function, argument)

    async def submit_all(self, function: Function, count: int) -> list[Any]:
        """Submit tasks one by one, then await them all."""
        return await asyncio.gather(*[self.call(function, number) for number in range(count)])

    async def map_all(self, function: Function, count: int) -> list[Any]:
        """The peer's own map."""
        raise Unable("has no map")

    async def sleep_all(self, seconds: float, count: int) -> None:
        """``asyncio.sleep`` in the workers."""
        raise Unable("runs no coroutines")


class FuturesPeer(Peer):
    """A peer whose tasks are `concurrent.futures.Future`."""

    @abstractmethod
    def submit(self, function: Function, argument: Any) -> Future[Any]: ...

    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        return asyncio.wrap_future(self.submit(function, argument))


class CallbackPeer(Peer):
    """A synchronous peer that reports ends by callbacks in a thread of its own."""

    @abstractmethod
    def apply_async(
        self, function: Function, argument: Any, done: Callable[[Any], None], failed: Callable[[Any], None]
    ) -> None: ...

    def call(self, function: Function, argument: Any) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(how: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                how(value)

        self.apply_async(
            function,
            argument,
            lambda value: _soon(loop, settle, future.set_result, value),
            lambda error: _soon(loop, settle, future.set_exception, error),
        )
        return future


def _soon(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    loop.call_soon_threadsafe(*call)
