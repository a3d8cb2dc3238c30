"""How many workers a pool has, and when one is replaced: looks about once a second, while there is something to see.

It grows one worker at a time while tasks find no seat, up to the pool's ``workers``, and lets idle ones go down to
``min_workers``. What a worker may reach before it is replaced is in recycling.py, how that is done in crew.py.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..supervisor.recycling import Limits
from .options import PoolOptions

if TYPE_CHECKING:
    from .crew import Crew

EVERY = 1.0
"""Seconds between two looks at the memory, the age and the idleness of workers."""


class Staffing:
    """Decides on the size of a crew. ``most`` is the number of workers asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, crew: Crew, options: PoolOptions, most: int, limits: Limits):
        self._loop = loop
        self._crew = crew
        self._idle_timeout = options.idle_timeout
        self._limits = limits
        self._most = most
        self._least = most if options.min_workers is None else min(options.min_workers, most)
        self._timer: asyncio.TimerHandle | None = None

    def resize(self, workers: int) -> None:
        """Have so many workers from here on, at least and at most."""
        self._least = self._most = workers
        self._crew.resize(workers)

    def after_dispatch(self, *, queued: bool) -> None:
        """Tasks are with workers now; ``queued`` if some found no seat."""
        if queued and self._crew.size < self._most and not self._crew.is_starting:
            self._crew.resize(self._crew.size + 1)
        self.watch()

    def watch(self) -> None:
        """Begin to look, where there is something to look for."""
        if self._timer is None and self._must_watch():
            self._timer = self._loop.call_later(EVERY, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for worker in list(self._crew.workers.values()):
            if worker.state != "RUNNING" or worker.leaving:
                continue
            memory = 0 if worker.limits.memory is None else worker.memory()
            why = worker.limits.exceeded(memory, time.monotonic() - worker.started_at)
            if why is not None:
                self._crew.retire(worker, why)
            elif not worker.in_flight and now - worker.idle_since > self._idle_timeout and self._is_large():
                self._crew.resize(self._crew.size - 1)
        self.watch()

    def _is_large(self) -> bool:
        return self._crew.size > self._least

    def _must_watch(self) -> bool:
        """Whether anything can change: idle workers need no looking after, unless they grow old or are too many."""
        if self._limits.age is not None or self._is_large():
            return True
        return self._limits.memory is not None and any(worker.in_flight for worker in self._crew.workers.values())
