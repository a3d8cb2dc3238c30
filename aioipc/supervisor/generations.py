"""One zygote for each generation of a supervisor's processes.

The zygote imports nothing but our own modules, and a new generation has a new one: what a reload starts has the code,
the environment and the files of that moment. It is started with the first process that is asked of it, so one that has
died is replaced when there is something to start, after the pause that the core of the supervisor sees to.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection

from .service_handle import ENTRY
from .zygote import Zygote

_PRELOAD = tuple(f"aioipc.supervisor.{name}" for name in ("worker_logging", "service_runner", "service_process"))
"""What every service imports before its own code."""

_log = logging.getLogger("aioipc.supervisor")


class Generations:
    """The zygotes, by number of generation. ``on_doom`` is called when all children are about to be killed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_doom: Callable[[], None]) -> None:
        self._loop = loop
        self._on_doom = on_doom
        self._zygotes: dict[int, Zygote] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def zygote(self, generation: int) -> Zygote:
        """Return the one that is to start processes of this generation. Raises OSError where it cannot be started."""
        if (found := self._zygotes.get(generation)) is None:
            found = self._zygotes[generation] = Zygote(
                self._loop,
                entry=ENTRY,
                preload=_PRELOAD,
                on_up=self._is_up,
                on_lost=functools.partial(self._is_lost, generation),
                on_doom=self._on_doom,
                patient=True,
            )
        return found

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the zygotes, by generation."""
        return {generation: zygote.pid for generation, zygote in self._zygotes.items()}

    def keep(self, generations: Collection[int]) -> None:
        """End those of other generations: nothing of them runs, or will be started, any more."""
        for generation in self._zygotes.keys() - generations:
            task = self._loop.create_task(self._zygotes.pop(generation).aclose())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """End all of them, and with them every process that they still have."""
        self.keep(())
        if self._ending:
            await asyncio.wait(list(self._ending))

    @staticmethod
    def _is_up(problem: str | None) -> None:
        """Whatever it could not import, its children cannot either: they will say so."""
        if problem is not None:
            _log.error("a zygote could not import a module of aioipc:\n%s", problem)

    def _is_lost(self, generation: int, how: str, stderr: str) -> None:
        """It has died, and its children with it; they have been reported."""
        self._zygotes.pop(generation, None)
        if stderr:
            _log.error("a zygote %s before it could start anything:\n%s", how, stderr)
