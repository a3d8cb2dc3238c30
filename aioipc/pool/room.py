"""How many tasks a pool has that have not settled, and may have (``max_pending``, ``max_pending_bytes``)."""

from __future__ import annotations

import asyncio

from .._loop.change import Change
from ..exceptions import PoolFull
from .job import Task


class Room:
    """Counts tasks from `enter` to `leave`, and their bytes as they are sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tasks: int | None, size: int | None) -> None:
        self.tasks: int = 0
        self.bytes: int = 0
        self._most_tasks = tasks
        self._most_bytes = size
        self._limited = tasks is not None or size is not None
        self._change = Change(loop)
        self._told: set[Change] = set()
        self._empty = Change(loop)

    def enter(self, task: Task) -> None:
        """Count a task that was accepted."""
        self.tasks += 1
        self.bytes += len(task.payload)

    def leave(self, task: Task) -> None:
        """Count a task out that has settled."""
        self.tasks -= 1
        self.bytes -= len(task.payload)
        if self._limited:
            self.wake()
        if not self.tasks:
            self._empty.notify()

    def is_full(self) -> bool:
        """Tell whether no task may be accepted before another has settled. One may always, whatever its size."""
        if not self._limited or not self.tasks:
            return False
        full = self._most_tasks is not None and self.tasks >= self._most_tasks
        return full or (self._most_bytes is not None and self.bytes >= self._most_bytes)

    def check(self) -> None:
        """Raise PoolFull where it is full."""
        if self.is_full():
            tasks = "" if self._most_tasks is None else f", max_pending is {self._most_tasks} tasks"
            size = "" if self._most_bytes is None else f", max_pending_bytes is {self._most_bytes}"
            raise PoolFull(
                f"the pool is full: {self.tasks} tasks of {self.bytes} bytes have not settled{tasks}{size}; "
                "await pool.wait_room(), or use run or map, which wait"
            )

    async def wait_change(self) -> None:
        """Wait until a task has settled, or `wake`."""
        await self._change.wait_change()

    def tell(self, change: Change) -> None:
        """Notify it, too, when the next task settles."""
        self._told.add(change)

    async def wait_empty(self) -> None:
        """Wait until every task has settled."""
        while self.tasks:
            await self._empty.wait_change()

    def wake(self) -> None:
        """Let whoever waits for room look whether it still makes sense."""
        self._change.notify()
        while self._told:
            self._told.pop().notify()
