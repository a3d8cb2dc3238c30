"""The master's side of one external program.

That it was started is known by the end of file on its data socket, which execve(2) closes; that it could not be, by
what it says there before.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from .child import Child, ExitReport
from .child_handle import HandleOwner
from .command_exec import Command
from .launch import Launch
from .launched_process import LaunchedProcess, pipes_of
from .relays import RelayOptions
from .source import Source

_PORTION = 4096


class CommandHandle(LaunchedProcess):
    """One process of a command. ``argv`` is its command line; the program is looked for on the PATH it gets.

    ``ready`` is "newline" where it says that it is by a newline on the descriptor named by NOTIFY_FD; ``None`` where
    somebody else knows. ``notify_socket`` and ``watchdog`` (seconds) are what it finds in NOTIFY_SOCKET and
    WATCHDOG_USEC; who listens there is the caller's affair. There are no heartbeats and no stacks. Its standard
    error is its own from the start, so that the master knows the end of it only where that is captured.

    ``stop_signal`` asks it to stop; with ``stop_group`` all that it has started is asked, too.

    ``listeners`` are descriptors of listening sockets, by name; they stay the caller's. The program finds them as in
    socket activation. Raises OSError where there are no descriptors left, ValueError for more than 200 listeners.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        replica: int,
        owner: HandleOwner,
        *,
        argv: Sequence[str],
        launch: Launch,
        relay: RelayOptions,
        ready: Literal["newline"] | None = None,
        notify_socket: str | None = None,
        watchdog: float | None = None,
        listeners: Mapping[str, int] = MappingProxyType({}),
        stop_signal: int = signal.SIGTERM,
        stop_group: bool = True,
    ) -> None:
        relay = pipes_of(relay._replace(logs=False), launch)
        child = Child(
            0,
            capture=relay.capture,
            notify=ready == "newline",
            stdin=launch.stdin == "inherit",
            listeners=listeners,
        )
        settings = {"command": Command(tuple(argv), notify_socket, watchdog)}
        super().__init__(
            *(loop, Source(replica, name), owner, launch, relay, child, settings),
            heartbeat_timeout=None,
        )
        self._stop_signal = stop_signal
        self._stop_group = stop_group
        self._notify = child.pipes.get("notify", -1)
        if self._notify >= 0:
            loop.add_reader(self._notify, self._notified)

    def stop(self, deadline: float) -> None:
        """See `LaunchedProcess.stop`: its signal is sent, and SIGCONT to its group, so that it is heard; once."""
        if self.state not in ("STOPPING", "EXITED"):
            self._enter("STOPPING")
            # Before the exec SIGTERM alone is kept; there is nobody yet who could know better.
            signum = self._stop_signal if self._launched else signal.SIGTERM
            self.send_signal(signum, group=self._stop_group)
            self._continue()

    def condemn(self, reason: str) -> None:
        """Kill it: it has no stacks to be written down."""
        self.kill(reason)

    def assume_ready(self) -> None:
        """Count it as ready, as it has said by sd_notify or as it has run for long enough; the owner is not told."""
        self.was_ready = True
        if self.state == "STARTING":
            self._enter("RUNNING")

    def child_exited(self, report: ExitReport) -> None:
        """Hear the last newline before its end."""
        self._notified()
        super().child_exited(report)

    def close(self) -> None:
        """Let go of its descriptors and memory."""
        self._stop_listening()
        super().close()

    def _on_data_lost(self, reason: str) -> None:
        super()._on_data_lost(reason)
        if self._refusal is None and reason == "end of file":
            self._has_launched()

    def _notified(self) -> None:
        if self._notify < 0:
            return
        try:
            data = os.read(self._notify, _PORTION)
        except (BlockingIOError, InterruptedError):
            return
        if b"\n" in data:
            self._is_ready()
        if not data or self.was_ready:
            self._stop_listening()

    def _stop_listening(self) -> None:
        """Read no more of it; the descriptor is the child's."""
        if self._notify >= 0:
            self._loop.remove_reader(self._notify)
            self._notify = -1
