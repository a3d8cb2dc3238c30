"""The ``async with`` that takes something on entering and gives it back on leaving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType


class Held(AbstractAsyncContextManager[None]):
    """Waits for ``acquire()`` before the body and calls ``release()`` after it, however that ends.

    Raises what they raise. Cancelled while it waits: nothing was taken.
    """

    def __init__(self, acquire: Callable[[], Awaitable[None]], release: Callable[[], None]) -> None:
        self._acquire = acquire
        self._release = release

    async def __aenter__(self) -> None:
        await self._acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()
