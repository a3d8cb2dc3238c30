"""``Pool.stream``: what a generator yields in a worker, as an async iterator here, with back-pressure.

The worker sends items as long as it has credit; the master gives credit for what the reader has taken. Items and the
end bear their index, since a worker has two sockets and one may overtake the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._loop.change import Change
from .._loop.fairness import current_turn
from ..exceptions import BusyResourceError, PoolClosed, RemoteError
from ..wire.framing import Buffer, ProtocolError
from ..wire.pool_protocol import decode_end
from .job import Task
from .results import Results

if TYPE_CHECKING:
    from .master import Master

T = TypeVar("T")

STREAM_BYTES = 1 << 20
"""A generator waits while its reader is so many bytes of items behind."""


class StreamTask(Task):
    """The task that runs a stream's generator: puts in order what arrives about it."""

    __slots__ = ("_early", "_end", "_received", "take")

    def __init__(self, *args: Any, take: Callable[[Buffer], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self.take: Callable[[Buffer], None] = take
        """Called with each item, in order."""
        self._early: dict[int, Buffer] = {}
        self._received: int = 0
        self._end: tuple[int, int, bytes] | None = None

    def accept(self, index: int, payload: Buffer) -> None:
        """Take an item; raises ProtocolError where it has come before."""
        early = self._early
        if index < self._received or index in early:
            raise ProtocolError(f"item {index} of a stream came twice")
        early[index] = payload
        while self._received in early:
            item = early.pop(self._received)
            self._received += 1
            self.take(item)

    def finish(self, count: int, payload: Buffer) -> None:
        """Take note of the end, after ``count`` items."""
        self._end = (count, *decode_end(payload))

    def ended(self) -> tuple[int, bytes] | None:
        """Return status and payload of the end, once it and all items before it are here."""
        if self._end is None or self._received < self._end[0]:
            return None
        return self._end[1:]


class StreamResults(Results[T]):
    """The items of `Pool.stream`: an async iterator, and an async context manager that ends the generator.

    The generator's exception is raised after the items before it. Leaving the ``async with``, `aclose`, or dropping
    the object cancels the generator in its worker, so that its ``finally`` runs. One task at a time may wait for an
    item (BusyResourceError); cancelling it loses none: it comes with the next request.
    """


class StreamState:
    """What a stream is about, apart from the object its reader holds, so that dropping that one can end it."""

    def __init__(self, master: Master, window: int) -> None:
        self.closed: bool = False
        self.task: StreamTask
        self._loop = asyncio.get_running_loop()
        self._master = master
        self._window = window
        self._items: deque[Buffer] = deque()
        self._owed = 0  # items taken that the worker was not told of
        self._handed = 0
        self._reading = False
        self._outcome: BaseException | None = None  # StopAsyncIteration at the good end
        self._change = Change(self._loop)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._outcome is None else "ended"
        return f"{state}, {self._handed} items handed over, {len(self._items)} waiting"

    # -- the reader ----------------------------------------------------------------------------------

    async def next(self) -> Any:
        """Return the next item; raises what the generator raised, or StopAsyncIteration."""
        if self._reading:
            raise BusyResourceError("reading this stream")
        self._reading = True
        try:
            turn = current_turn()
            if turn.spend():
                await asyncio.sleep(0)
                turn.renew()
            while not self._items and self._outcome is None and not self.closed:
                await self._change.wait_change()
                turn.renew()
        finally:
            self._reading = False
        return self._next_here()

    def _next_here(self) -> Any:
        if self.closed:
            raise StopAsyncIteration
        if self._items:
            return self._hand_over(self._items.popleft())
        outcome = self._outcome
        self.close()
        assert outcome is not None
        raise outcome

    def _hand_over(self, payload: Buffer) -> Any:
        self._handed += 1
        self._owed += 1
        if self._owed * 2 >= self._window or not self._items:
            self._master.credit(self.task, self._owed)
            self._owed = 0
        try:
            return pickle.loads(payload)
        except Exception as error:
            self.close()
            text = f"an item of {self.task!r} cannot be loaded here: {type(error).__qualname__}: {error}"
            raise RemoteError(text, type_name=type(error).__qualname__) from error

    # -- what arrives --------------------------------------------------------------------------------

    def take(self, payload: Buffer) -> None:
        """Keep an item for the reader."""
        if not self.closed:
            self._items.append(payload)
            self._change.notify()

    def succeed(self, task: Task, value: Any) -> None:
        """See `Sink`."""
        self._ended(StopAsyncIteration())

    def fail(self, task: Task, error: BaseException) -> None:
        """See `Sink`."""
        self._ended(error)

    def stopped(self, task: Task) -> None:
        """See `Sink`."""
        if self._master.accepting:
            self._ended(RemoteError(f"{task!r} cancelled itself", type_name="asyncio.CancelledError"))
        else:
            self._ended(PoolClosed(f"the pool was closed before {task!r} had ended"))

    def _ended(self, outcome: BaseException) -> None:
        self._outcome = outcome
        self._master.streams.discard(self)
        self._change.notify()

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel the generator, forget what has come."""
        if not self.closed:
            self.closed = True
            self._items.clear()
            self._master.cancel(self.task)
            self._change.notify()

    def close_later(self) -> None:
        """Close from wherever the garbage collector happens to run."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the pool with it
            self._loop.call_soon_threadsafe(self.close)

    async def wait_settled(self) -> None:
        """Wait until nothing of the generator runs."""
        while self._outcome is None:
            await self._change.wait_change()
