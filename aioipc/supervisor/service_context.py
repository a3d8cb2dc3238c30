"""What a service knows of itself and tells its master: `WorkerContext`."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .service_process import ServiceProcess


class WorkerContext:
    """The one argument of a service's function; its methods are for the thread of the service's event loop.

    How the process exits: 0 where the function returns, or was asked to stop before it had called `ready` and was
    cancelled for that, 1 where it raises, 124 where the deadline for stopping passed,
    n after ``sys.exit(n)``, 130 after KeyboardInterrupt.
    """

    def __init__(self, process: ServiceProcess, settings: dict[str, Any], listeners: dict[str, socket.socket]) -> None:
        self._process = process
        self.name: str = settings["name"]
        """The name of the service."""
        self.replica: int = settings["replica"]
        """Which of its processes this is, from 0 on."""
        self.pid: int = os.getpid()
        """The process id."""
        self.generation: int = settings["generation"]
        """How often the supervisor has been reloaded before this process was started."""
        self.concurrency: int = settings["concurrency"]
        """How many pieces of work to do at once, as the child spec says."""
        self.title: str = settings["title"]
        """What ``ps`` shows for this process."""
        self.listeners: Mapping[str, socket.socket] = MappingProxyType(listeners)
        """The listening sockets that the master holds for this service, by name; non-blocking."""

    async def ready(self) -> None:
        """Say that the service does its work from here on; calling it again does nothing.

        From now on its standard error is what the child spec says; what it wrote there before is repeated. Cancelling
        does nothing, since it waits for nothing.
        """
        self._process.say_ready()

    async def stopping(self) -> None:
        """Wait until the service is to stop: then take on no more work, finish what there is, and return.

        One that has yet to call `ready` is cancelled at once instead: it has accepted nothing that it would have to
        finish. Returns immediately where it is to stop already. Any number of tasks may wait. Cancelling it changes
        nothing.
        """
        await self._process.wait_stopping()

    @property
    def is_stopping(self) -> bool:
        """Whether the service is to stop."""
        return self._process.is_stopping

    @property
    def stop_deadline(self) -> float:
        """When the function is cancelled if it has not returned (loop time, for ``asyncio.timeout_at``); infinity while
        the service is not to stop.
        """
        deadline = self._process.deadline
        return math.inf if math.isinf(deadline) else self._process.to_loop_time(deadline)

    def count_work(self, n: int = 1) -> None:
        """Say that ``n`` more pieces of work are done: what ``max_tasks`` and the statistics go by.

        Raises TypeError where that is no whole number, ValueError where it is negative.
        """
        kind: type = type(n)
        if not issubclass(kind, int) or kind is bool:
            raise TypeError(f"n must be a whole number, not {n!r}")
        if n < 0:
            raise ValueError(f"n must not be negative: {n}")
        self._process.scoreboard.count(n)

    def set_status(self, text: str) -> None:
        """Say in a few words what the service is doing, for whoever asks its master; 1024 bytes at most.

        Of several in a row only the last may be seen. Raises TypeError where it is no text.
        """
        if not issubclass(type(text), str):
            raise TypeError(f"text must be a str, not {text!r}")
        self._process.say_status(text)

    def __repr__(self) -> str:
        return f"<WorkerContext {self.name}.{self.replica}, pid {self.pid}, generation {self.generation}>"
