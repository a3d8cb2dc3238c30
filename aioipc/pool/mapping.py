"""``Pool.map``: a lazy, bounded, cancellable stream of results.

Items are taken from the source only while the window has room: those taken and not yet handed to the reader.
A sync source is read in the reader's own call; an async source by one task, which lives no longer than the map.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .._loop.change import Change
from .._loop.fairness import current_turn
from ..exceptions import PoolClosed, RemoteError
from .functions import FunctionTable
from .job import Task
from .results import Results

if TYPE_CHECKING:
    from .master import Master

T = TypeVar("T")
Outcome = tuple[bool, Any, int]
"""Whether it is a value or an exception, which, and how many bytes it was sent as."""
MAP_BYTES = 64 << 20
"""A map takes nothing more while arguments and results that wait are so many bytes."""


class MapTask(Task):
    """A task that knows which item of its map it is."""

    __slots__ = ("index", "size")
    index: int
    size: int
    """Bytes of its arguments as they were sent."""


class MapResults(Results[T]):
    """The results of `Pool.map`: an async iterator, and an async context manager that cancels what is left.

    A task's exception is raised where its result would have come, and ends the map (unless it returns
    exceptions). Leaving the ``async with``, `aclose`, or dropping the object cancels the tasks that remain.
    Cancelling a task that waits for the next result loses none: it comes with the next request.
    """


class MapState:
    """What a map is about, apart from the object its reader holds, so that dropping that one can end it."""

    def __init__(
        self,
        master: Master,
        functions: FunctionTable,
        function: Callable[..., Any],
        sources: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        *,
        ordered: bool,
        window: Callable[[], int],
        window_bytes: int,
        return_exceptions: bool,
        new_task: Callable[..., MapTask],
        accept: Callable[[MapTask], None],
    ) -> None:
        self.closed: bool = False
        self._loop = asyncio.get_running_loop()
        self._master = master
        self._functions = functions
        self._function = function
        self._ordered = ordered
        self._window = window
        self._return_exceptions = return_exceptions
        self._new_task = new_task
        self._accept = accept
        self._window_bytes = window_bytes
        self._bytes = 0
        self._taken = 0
        self._handed = 0
        self._done_count = 0
        self._exhausted = False
        self._outcomes: dict[int, Outcome] = {}  # ordered: by index
        self._arrived: deque[Outcome] = deque()  # unordered
        self._tasks: dict[int, MapTask] = {}
        self._change = Change(self._loop)
        self._pump: asyncio.Task[None] | None = None
        self._source_error: Exception | None = None
        self._sync: Iterator[tuple[Any, ...]] | None = None
        self._async: AsyncGenerator[tuple[Any, ...], None] | None = None
        if any(isinstance(source, AsyncIterable) for source in sources):
            self._async = _zip_async(sources)
        else:
            self._sync = zip(*sources, strict=False)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "exhausted" if self._exhausted else "open"
        return f"{state}, {self._taken} taken, {self._done_count} done, {self._handed} handed over"

    # -- the reader ----------------------------------------------------------------------------------

    async def next(self) -> Any:
        """Return the next result; raises the task's exception, or StopAsyncIteration."""
        turn = current_turn()
        if turn.spend():
            await asyncio.sleep(0)
            turn.renew()
        while not self.closed:
            self._fill()
            if (outcome := self._take()) is not None:
                return self._hand_over(outcome)
            if self._exhausted and not self._tasks:
                self._finish()
                break
            if not self._tasks and not self._exhausted and self._master.room.is_full():  # of others' tasks
                self._master.room.tell(self._change)
            await self._change.wait_change()
            turn.renew()
        raise StopAsyncIteration

    def _take(self) -> Outcome | None:
        if self._ordered:
            return self._outcomes.pop(self._handed, None)
        return self._arrived.popleft() if self._arrived else None

    def _hand_over(self, outcome: Outcome) -> Any:
        self._handed += 1
        if self._pump is not None:
            self._change.notify()
        good, value, size = outcome
        self._bytes -= size
        if good or (self._return_exceptions and isinstance(value, Exception)):
            return value
        self.close()
        raise value

    def _finish(self) -> None:
        error, self._source_error = self._source_error, None
        self.close()
        if error is not None:
            raise error

    # -- the source ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Take items while the window has room; what the source raises comes after the results before it."""
        if self._exhausted:
            return
        if self._sync is None:
            if self._pump is None:
                self._pump = self._loop.create_task(self._run_pump())
            return
        try:
            for _ in range(self._window() - (self._taken - self._handed)):
                if self._is_full():
                    break
                self._add(next(self._sync))
        except StopIteration:
            self._exhausted = True
        except Exception as error:
            self._source_failed(error)

    async def _run_pump(self) -> None:
        assert self._async is not None
        try:
            async with contextlib.aclosing(self._async) as items:
                async for item in items:
                    await self._wait_for_room()  # others may have filled the pool while the source was waited for
                    if self._exhausted:  # closed meanwhile, and the source has swallowed the cancellation
                        break
                    self._add(item)
                    await self._wait_to_take()
        except Exception as error:
            self._source_failed(error)
        finally:
            self._exhausted = True
            self._change.notify()
            self._master.room.wake()  # the reader may wait there

    async def _wait_for_room(self) -> None:
        while self._master.room.is_full() and not self._exhausted:
            await self._master.room.wait_change()

    async def _wait_to_take(self) -> None:
        while True:
            if self._taken - self._handed < self._window() and self._bytes < self._window_bytes:
                if not self._master.room.is_full():
                    return
                self._master.room.tell(self._change)
            await self._change.wait_change()

    def _is_full(self) -> bool:
        """Whether what is on its way is as large as may be, or the pool has no room."""
        return self._bytes >= self._window_bytes or self._master.room.is_full()

    def _source_failed(self, error: Exception) -> None:
        self._exhausted = True
        if isinstance(error, StopAsyncIteration):  # it would look like the end of the results
            wrapped = RuntimeError("the source of the map raised StopAsyncIteration")
            wrapped.__cause__ = error
            error = wrapped
        self._source_error = error

    def _add(self, arguments: tuple[Any, ...]) -> None:
        self._master.check_open()
        index = self._taken
        self._taken += 1
        try:
            function, payload = self._functions.prepare(self._function, arguments)
        except Exception as error:
            self._settle(index, (False, error, 0))
            return
        task = self._new_task(function, payload, self)
        task.index = index
        self._tasks[index] = task
        self._accept(task)
        task.size = len(task.payload)
        self._bytes += task.size

    # -- Sink ----------------------------------------------------------------------------------------

    def succeed(self, task: MapTask, value: Any) -> None:
        """See `Sink`."""
        self._settle_task(task, (True, value, task.result_size))

    def fail(self, task: MapTask, error: BaseException) -> None:
        """See `Sink`."""
        self._settle_task(task, (False, error, 0))

    def stopped(self, task: MapTask) -> None:
        """See `Sink`."""
        error: Exception
        if self._master.accepting:
            error = RemoteError(f"{task!r} cancelled itself", type_name="asyncio.CancelledError")
        else:
            error = PoolClosed(f"the pool was closed before {task!r} had ended")
        self._settle_task(task, (False, error, 0))

    def _settle_task(self, task: MapTask, outcome: Outcome) -> None:
        del self._tasks[task.index]
        self._bytes += outcome[2] - task.size
        self._settle(task.index, outcome)

    def _settle(self, index: int, outcome: Outcome) -> None:
        self._done_count += 1
        if not self.closed:
            if self._ordered:
                self._outcomes[index] = outcome
            else:
                self._arrived.append(outcome)
        if not self._ordered or index == self._handed or not self._tasks:
            self._change.notify()

    # -- the end -------------------------------------------------------------------------------------

    def stop_taking(self, error: Exception) -> None:
        """Take no more items: the reader gets the results that there will be, and then the error."""
        if not self._exhausted:
            self._exhausted = True
            self._source_error = error
            if self._pump is not None:
                self._pump.cancel()
            self._change.notify()

    def close(self) -> None:
        """Take nothing more, cancel what was taken, forget what has come."""
        if self.closed:
            return
        self.closed = True
        self._exhausted = True
        self._outcomes.clear()
        self._arrived.clear()
        if self._pump is not None:
            self._pump.cancel()
        for task in list(self._tasks.values()):
            self._master.cancel(task)
        self._change.notify()
        self._master.room.wake()  # a reader may wait there

    def close_later(self) -> None:
        """Close from wherever the garbage collector happens to run."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the pool with it
            self._loop.call_soon_threadsafe(self.close)

    async def wait_settled(self) -> None:
        """Wait until no task of the map is left and its source was let go."""
        while self._tasks:
            await self._change.wait_change()
        await self.wait_pump()

    async def wait_pump(self) -> None:
        """Wait until the source was let go."""
        if self._pump is not None and self._pump is not asyncio.current_task():
            await asyncio.wait([self._pump])


async def _zip_async(
    sources: tuple[Iterable[Any] | AsyncIterable[Any], ...],
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Yield tuples of one item of each source until one of them ends."""
    iterators = [aiter(s) if isinstance(s, AsyncIterable) else iter(s) for s in sources]
    try:
        while True:
            items: list[Any] = []
            for iterator in iterators:
                try:
                    items.append(await anext(iterator) if isinstance(iterator, AsyncIterator) else next(iterator))
                except (StopIteration, StopAsyncIteration):
                    return
            yield tuple(items)
    finally:
        for iterator in iterators:
            if (aclose := getattr(iterator, "aclose", None)) is not None:
                await aclose()
