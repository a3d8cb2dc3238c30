"""The master's side of one child process, from the request for it to its end: what all of them have in common.

A worker of a pool, a service and a command differ in what is said over the two links, and in who listens to it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .._sys import procfs
from ..wire.framing import ATTACHMENTS_LIMIT, BODY_LIMIT, CONTROL_SCRATCH, SCRATCH_SIZE, Buffer, Frame
from .child import Child, ExitReport
from .heartbeat import Heart
from .link import FrameLink
from .relays import RelayOptions, Relays
from .source import Source
from .stack_dump import SIGNAL as DUMP_SIGNAL

if TYPE_CHECKING:
    from .zygote import Zygote

DUMP_TIME = 0.3
"""Seconds that a process gets to write down what it is doing before it is killed for it."""


ProcessState = Literal["STARTING", "RUNNING", "DRAINING", "STOPPING", "EXITED"]


class ProcessHandle:
    """One process and its links, relays and heartbeats. ``dump`` is the frame that has it write down its stacks.

    ``scratch`` and ``limit`` are the bytes of a frame from its main thread: those it is decoded in without an
    allocation, and those it may have at most.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: Source,
        child: Child,
        relay: RelayOptions,
        *,
        heartbeat_timeout: float | None,
        dump: Sequence[Buffer],
        scratch: int = SCRATCH_SIZE,
        limit: int = BODY_LIMIT + ATTACHMENTS_LIMIT,
    ) -> None:
        self.source: Source = source
        self.child: Child = child
        self.child.owner = self
        self.stacks: str = ""
        """What it was doing before it was killed for it."""
        self.state: ProcessState = "STARTING"
        self.kill_reason: str = ""
        self.started_at: float = time.monotonic()
        self.was_ready: bool = False
        self.heart: Heart | None = None if heartbeat_timeout is None else Heart(heartbeat_timeout)
        self._loop = loop
        self._dump = dump
        self.relays: Relays = Relays(loop, source, relay, child)
        self._zygote: Zygote | None = None
        self._data = FrameLink(loop, child.data, self._on_frame, self._on_data_lost, scratch=scratch, limit=limit)
        self._control = FrameLink(
            loop, child.control, self._on_frame, self._on_control_lost, scratch=CONTROL_SCRATCH, limit=limit
        )

    @property
    def pid(self) -> int | None:
        """Its process id, once it has one."""
        return self.child.pid

    def __repr__(self) -> str:
        return f"{self.source.label} (pid {self.pid})"

    def spawn(self, zygote: Zygote, *, fresh: bool = False) -> None:
        """Have the process started; ``fresh`` has it exec a new interpreter."""
        self._zygote = zygote
        zygote.spawn(self.child, fresh=fresh)

    def kill(self, reason: str) -> None:
        """Kill its process group; its end is reported with this reason. One that is gone is left alone."""
        if self.state == "EXITED":
            return
        self.kill_reason = self.kill_reason or reason
        self.send_signal(signal.SIGKILL)

    def send_signal(self, signum: int, *, group: bool = True) -> int:
        """Send a signal to its process group, or to it alone; one that is gone, or not yet there, is left alone.

        Returns 1 where it was sent, else 0.
        """
        if self._zygote is None or self.state == "EXITED":
            return 0
        self._zygote.kill(self.child, signum, group=group)
        return 1

    def condemn(self, reason: str) -> None:
        """Kill it as soon as it has written down what its threads and async tasks are doing, or could have."""
        if self.kill_reason or self.state == "EXITED":
            return
        self.kill_reason = reason
        self.child.mark_dump()
        self._control.send(self._dump)
        self._loop.call_later(DUMP_TIME / 2, self._interrupt)
        self._loop.call_later(DUMP_TIME, self.kill, reason)

    def _interrupt(self) -> None:
        """Have the stacks of its threads dumped; that interrupts system calls, so nothing it says after this counts."""
        self._data.close()
        self._control.close()
        self.child.signal(DUMP_SIGNAL)

    def memory(self) -> int:
        """Return how many bytes of memory it has for itself, 0 where that is unknown."""
        return procfs.private_memory(self.pid) if self.pid is not None else 0

    def diagnose(self, now: float) -> str | None:
        """Return why it must be killed, judged by its heartbeats; ``None`` where it is well, or has none.

        To be asked every quarter of its ``heartbeat_timeout``; ``now`` is in loop time.
        """
        if self.heart is None:
            return None
        thread, loop = self.child.scoreboard.beats()
        # A look into /proc only when it matters would save little: this runs every heartbeat_timeout / 4.
        return self.heart.diagnose(thread, loop, self.child.state(), now)

    def close(self) -> None:
        """Let go of its descriptors and memory."""
        self._data.close()
        self._control.close()
        self.relays.close()
        self.child.close()

    # -- ChildOwner ----------------------------------------------------------------------------------

    def child_spawned(self) -> None:
        """See `ChildOwner`."""
        self.relays.start()

    def child_exited(self, report: ExitReport) -> None:
        """Hear what it said before it died, then pass the news on."""
        self.relays.drain()
        self._data.drain_input()
        self._control.drain_input()
        self.state = "EXITED"
        if self.kill_reason:
            report = report._replace(reason=self.kill_reason)
            self.stacks = self.child.stacks()
        self._on_exit(report)
        self.close()

    def _enter(self, state: ProcessState) -> None:
        self.state = state

    # -- for those who know what is said -------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        """Take what it says."""
        raise NotImplementedError

    def _on_data_lost(self, reason: str) -> None:
        """Its main thread says nothing more."""
        raise NotImplementedError

    def _on_control_lost(self, reason: str) -> None:
        """Its end is reported by the zygote."""

    def _on_exit(self, report: ExitReport) -> None:
        """It is gone, and everything it said was heard."""
        raise NotImplementedError
