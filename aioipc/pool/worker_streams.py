"""The worker's side of `Pool.stream`: items go out as they come, never more than the reader has room for.

The master gives credit for what its reader has taken. It arrives at the control thread, which only appends it to a
deque; whoever runs the generator takes it from there.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..wire.pool_protocol import ITEM, ResultItem, TaskItem, encode_end

if TYPE_CHECKING:  # workers load asyncio only when they need it
    import asyncio

    from .worker import Worker


class Outflow:
    """One stream that runs here. Every method but `credit` belongs to whoever runs the generator."""

    def __init__(self, worker: Worker, task: TaskItem) -> None:
        self._worker = worker
        self._number, self._slot = task[0], task[1]
        self.payload: bytes
        """What is in the envelope of the stream."""
        self._window, self._window_bytes, self.payload = pickle.loads(task[4])
        self.function: Any = None
        """What makes the items, for errors to name."""
        self._waiter: asyncio.Future[None] | None = None
        self._count = 0
        self._sizes: deque[int] = deque()  # of the items that the reader has not taken
        self._bytes = 0
        self._credits: deque[int] = deque()
        worker.outflows[self._number] = self

    def credit(self, items: int) -> None:
        """Say that the reader has taken some; callable from any thread, who runs the generator must be woken then."""
        self._credits.append(items)

    def has_room(self) -> bool:
        """Tell whether another item may be sent; one may always, whatever its size, to a reader that has taken all."""
        while self._credits:
            for _ in range(self._credits.popleft()):
                self._bytes -= self._sizes.popleft()
        return not self._sizes or (len(self._sizes) < self._window and self._bytes < self._window_bytes)

    def put(self, value: object) -> None:
        """Add an item to the results that are to be sent."""
        payload = self._worker.dump(value, self.function)
        self._worker.outbox.append((self._slot, ITEM, self._count, payload))
        self._count += 1
        self._sizes.append(len(payload))
        self._bytes += len(payload)

    def end(self, result: ResultItem) -> ResultItem:
        """Return what ends the stream, made of the result of its task."""
        self._worker.outflows.pop(self._number, None)
        return encode_end(self._slot, self._count, result[1], result[3])

    async def pump_async(self, items: Any, flush: Callable[[], None]) -> None:
        """Send what an async iterable yields; ``flush`` is called after each."""
        if not isinstance(items, AsyncIterable):
            drop(items)
            raise TypeError(f"a stream needs an async generator function, and this returned {items!r}")
        iterator = aiter(items)
        try:
            async for value in iterator:
                self.put(value)
                flush()
                while not self.has_room():
                    await self._room()
        finally:
            if (aclose := getattr(iterator, "aclose", None)) is not None:
                await aclose()

    async def _room(self) -> None:
        from asyncio import get_running_loop

        self._waiter = get_running_loop().create_future()
        try:
            if not self.has_room():
                await self._waiter
        finally:
            self._waiter = None

    def roomy(self) -> None:
        """Say in the loop that the reader may have taken something."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abort(self) -> None:
        """Raise CancelledError in whoever waits for the reader."""
        if self._waiter is not None:
            self._waiter.cancel()

    def pump(self, items: Iterable[Any], context: Context | None) -> None:
        """Send what an iterable yields, in the main thread; called and left with the task not interruptible."""
        worker = self._worker
        iterator = iter(iterable(items))
        builtin: Any = next
        step: Callable[..., Any] = builtin if context is None else partial(context.run, builtin)
        try:
            while True:
                worker.allow_interrupts()
                value = step(iterator, self)  # itself stands for the end
                worker.interruptible = False
                if value is self:
                    return
                self.put(value)
                worker.flush()
                while not self.has_room():
                    worker.sleep()
        finally:
            close: Callable[[], Any] | None = getattr(iterator, "close", None)
            if close is not None:
                close() if context is None else context.run(close)


def iterable(items: Any) -> Iterable[Any]:
    """Return what a function has returned; raises TypeError where that has no items."""
    if not isinstance(items, Iterable):
        drop(items)
        raise TypeError(f"a stream needs a generator function or another iterable, and this returned {items!r}")
    return items


def drop(value: object) -> None:
    """Let go of what a function has returned and nobody awaits, without a warning about that."""
    if type(value) is CoroutineType:
        value.close()
