"""What the results of `Pool.map` and `Pool.stream` have in common: how they are read, and how they are left."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

T = TypeVar("T")


class ResultsState(Protocol):
    """What the results are about, apart from the object their reader holds, so that dropping that one can end it."""

    closed: bool

    async def next(self) -> Any:
        """Return the next result; raises what the work has raised, or StopAsyncIteration."""

    def close(self) -> None:
        """Cancel the work, forget what has come."""

    def close_later(self) -> None:
        """Close from wherever the garbage collector happens to run."""

    async def wait_settled(self) -> None:
        """Wait until nothing of the work runs."""


class Results(Generic[T]):
    """An async iterator, and an async context manager that cancels the work that remains."""

    def __init__(self, state: ResultsState) -> None:
        self._state = state

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        result: T = await self._state.next()
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the work that remains and wait until nothing of it runs; may be called twice.

        Cancelling it leaves the work ending by itself.
        """
        self._state.close()
        await self._state.wait_settled()

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not state.closed:
            state.close_later()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state!r}>"
