"""What a supervisor holds of each child that runs, be it a process or a pool, and who hears of it.

What becomes of it is told in a fixed order, whatever order the news came in: ``spawned`` when it is set up and runs its
own code, then anything else, then ``exited``; or nothing but ``refused``, or nothing but ``exited`` where it died on
the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..pool.pool import Pool
    from ..pool.statistics import PoolStatistics
    from .child import ExitReport
    from .process_handle import ProcessState


class ChildHandle(Protocol):
    """One process, or one pool, from the request for it to its end."""

    state: ProcessState
    was_ready: bool
    kill_reason: str
    """Why it was killed; empty if it was not."""
    stacks: str
    """What it was doing before it was killed for it."""

    @property
    def pid(self) -> int | None:
        """Its process id, once it has one; that of its zygote where it is a pool."""

    @property
    def work(self) -> int:
        """How many pieces of work it has done."""

    def memory(self) -> int:
        """Return how many bytes of memory it has for itself."""

    def diagnose(self, now: float) -> str | None:
        """Return why it must be killed, judged by its heartbeats; ``now`` is in loop time."""

    def stderr_tail(self) -> str:
        """Return the end of what it wrote to standard error, as far as that came through the master."""

    def assume_ready(self) -> None:
        """Count it as ready, though it has not said so here; ``ready`` is not told to the owner then."""

    def stop(self, deadline: float) -> None:
        """Ask it to stop by ``deadline`` (loop time); of several the earliest counts. Whoever calls this kills it then.

        It may be called at any time; nothing happens where it has ended.
        """

    def kill(self, reason: str) -> None:
        """Kill it with all its processes; its end is reported with this reason. One that is gone is left alone."""

    def condemn(self, reason: str) -> None:
        """Kill it after what it is doing was written down, as far as it can be."""

    def send_signal(self, signum: int, *, group: bool = True) -> int:
        """Send a signal to its processes, with ``group`` to all that they have started; returns to how many."""

    def close(self) -> None:
        """Let go of what is held for it."""


class PoolHandle(ChildHandle, Protocol):
    """One pool."""

    @property
    def pool(self) -> Pool:
        """The pool."""

    def start(self) -> None:
        """Open it; what becomes of it is told to the owner, later."""

    def statistics(self) -> PoolStatistics | None:
        """Return what it is doing, ``None`` before it was opened."""


class HandleOwner(Protocol):
    """Who hears what becomes of a child; everything is called in the loop."""

    def spawned(self, process: ChildHandle, pid: int) -> None:
        """It exists, is set up as its spec says, and runs its own code."""

    def refused(self, process: ChildHandle, reason: str, errno: int | None) -> None:
        """It could not be started and is gone; nothing else is heard of it. ``reason`` names the option."""

    def ready(self, process: ChildHandle) -> None:
        """It says that it is ready."""

    def status(self, process: ChildHandle, text: str) -> None:
        """It says what it is doing."""

    def stopping_by_itself(self, process: ChildHandle, why: str) -> None:
        """It stops without having been told to: it was sent SIGTERM, or its function has ended."""

    def exited(self, process: ChildHandle, report: ExitReport) -> None:
        """It has ended, and everything it said and wrote was heard. Its descriptors are closed after this call."""
