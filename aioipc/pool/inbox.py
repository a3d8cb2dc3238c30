"""How other threads reach the loop of a pool: what comes in for the master, and what is not settled yet.

The first call of a burst wakes the loop, the others find it awake. There is no lock: a finalizer or a signal handler
may submit or cancel in the midst of another call.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop  # public by asyncio's __all__; None instead of an exception
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .functions import FunctionTable

if TYPE_CHECKING:
    from .executor import ExecutorTask, PoolFuture
    from .master import Master


class Inbox:
    """How other threads reach a pool's loop. It is there as long as the pool object, and open as long as the pool."""

    def __init__(self, functions: FunctionTable) -> None:
        self.open: bool = False
        self.used: bool = False
        """Whether any task has come this way, so that the master has to `claim`."""
        self.unsettled: set[PoolFuture[Any]] = set()
        self.functions: FunctionTable = functions
        self._items: deque[tuple[Callable[[ExecutorTask], None], ExecutorTask]] = deque()
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._master: Master | None = None

    def start(self, loop: asyncio.AbstractEventLoop, master: Master) -> None:
        """Let tasks in, for this master."""
        self._loop, self._master = loop, master
        master.inbox = self
        self.open = True

    def close(self) -> None:
        """Hand over what was let in, and let no more in; cancelling goes on."""
        self.open = False
        self._hand_over()

    def check_open(self) -> None:
        """Raise RuntimeError, as executors do, where no task is let in."""
        if self.open and self._loop is not None and not self._loop.is_closed():
            return
        if self._master is None:
            raise RuntimeError("cannot schedule new futures: the pool is not open yet, use 'async with'")
        self.look_around()
        raise RuntimeError("cannot schedule new futures after shutdown: the pool is closed") from self._master.error

    def check_thread(self, what: str, instead: str) -> None:
        """Raise RuntimeError in the thread of the loop while it runs: it would wait for itself."""
        if self._loop is not None and self._loop is _get_running_loop():
            raise RuntimeError(f"{what} in the thread of the pool's event loop would block it for ever; use {instead}")

    def look_around(self) -> None:
        """Settle everything, in whichever thread, if the loop was closed with the pool still open."""
        if self._loop is not None and self._loop.is_closed():
            for future in self.unsettled.copy():
                future.abandon()
                self.unsettled.discard(future)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call a function; for its own thread."""
        assert self._loop is not None
        self._loop.call_soon(function, *arguments)

    def put(self, task: ExecutorTask) -> bool:
        """Let a task in; False where that came too late."""
        item = (self._submit, task)
        self._items.append(item)
        if not self.open:
            with suppress(ValueError):  # it was handed over at the last moment
                self._items.remove(item)
                return False
        return self._wake()

    def put_cancel(self, task: ExecutorTask) -> None:
        """Take the task of a cancelled future out of the master's queue."""
        self._items.append((self._cancel, task))
        self._wake()

    def _wake(self) -> bool:
        if self._awake:
            return True
        self._awake = True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:  # it is closed
            self._awake = False
            return False
        return True

    def _hand_over(self) -> None:
        self._awake = False  # first: what comes from now on wakes the loop again
        for _ in range(len(self._items)):
            try:
                hand, task = self._items.popleft()
            except IndexError:  # another thread has taken back what came too late
                return
            hand(task)

    def _submit(self, task: ExecutorTask) -> None:
        assert self._master is not None
        self.used = True
        task.number = self._master.next_number()
        self._master.submit(task)

    def _cancel(self, task: ExecutorTask) -> None:
        assert self._master is not None
        if task.number:  # else it was withdrawn, or is still to come and will not be claimed
            self._master.cancel(task)
