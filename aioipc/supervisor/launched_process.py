"""The master's side of a process that a supervisor runs: what services and commands have in common."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Any

from ..wire import service_protocol as protocol
from ..wire.framing import CONTROL_SCRATCH, Frame, ProtocolError
from ..wire.service_protocol import Refusal
from .boot import current_settings
from .child import Child, ExitReport
from .child_handle import HandleOwner
from .launch import Launch
from .process_handle import ProcessHandle
from .relays import RelayOptions
from .source import Source


class LaunchedProcess(ProcessHandle):
    """One process from the request for it to its end; the subclasses say what it runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: Source,
        owner: HandleOwner,
        launch: Launch,
        relay: RelayOptions,
        child: Child,
        settings: dict[str, Any],
        *,
        heartbeat_timeout: float | None,
    ) -> None:
        dump = protocol.encode_plain(protocol.DUMP)
        super().__init__(
            *(loop, source, child, relay),
            heartbeat_timeout=heartbeat_timeout,
            dump=dump,
            scratch=CONTROL_SCRATCH,
            limit=protocol.LIMIT,
        )
        self._owner = owner
        self._launched = False
        self._condemned = False
        self._told_spawned = False
        self._early: list[Callable[[], None]] = []
        self._refusal: Refusal | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._work = 0
        settings = {**current_settings(), **self.relays.settings, "launch": launch, **settings}
        self._data.send(protocol.encode_boot(settings))

    @property
    def work(self) -> int:
        """How many pieces of work it has counted."""
        if self.state != "EXITED":
            self._work = self.child.scoreboard.work
        return self._work

    def stop(self, deadline: float) -> None:
        """Ask it to stop by ``deadline`` (loop time); of several the earliest counts. Whoever calls this kills it then.

        It may be called at any time; nothing happens where it has ended.
        """
        raise NotImplementedError

    def assume_ready(self) -> None:
        """Count it as ready, though it has not said so here; ``ready`` is not told to the owner then."""
        raise NotImplementedError

    def stderr_tail(self) -> str:
        """Return the end of what it wrote to standard error, as far as that came through the master."""
        return self.child.stderr_tail() or self.relays.stderr_tail()

    def condemn(self, reason: str) -> None:
        """Kill it after its stacks were written down, where it has any; at once while it is not set up yet."""
        self._condemned = True
        if self._launched:
            super().condemn(reason)
        else:
            self.kill(reason)

    def close(self) -> None:
        """Let go of its descriptors and memory."""
        for timer in self._timers:
            timer.cancel()
        super().close()

    # -- what is told, in order ----------------------------------------------------------------------

    def child_spawned(self) -> None:
        """See `ChildOwner`."""
        super().child_spawned()
        self._tell_spawned()

    def _has_launched(self) -> None:
        if not self._launched:
            self._launched = True
            self._tell_spawned()

    def _tell_spawned(self) -> None:
        """Tell that it runs, as soon as both the zygote has told its pid and it has said so itself."""
        if self._launched and self.pid is not None and not self._told_spawned:
            self._told_spawned = True
            self._owner.spawned(self, self.pid)
            early, self._early = self._early, []
            for tell in early:
                tell()

    def _tell(self, tell: Callable[[], None]) -> None:
        if self._told_spawned:
            tell()
        else:
            self._early.append(tell)

    def _is_ready(self) -> None:
        """Take note that it is ready, and tell."""
        if not self.was_ready:
            self.was_ready = True
            if self.state == "STARTING":
                self._enter("RUNNING")
            self._tell(lambda: self._owner.ready(self))

    def _on_exit(self, report: ExitReport) -> None:
        self._work = self.child.scoreboard.work
        if self._condemned and report.exitcode is not None and report.exitcode >= 0:
            report = report._replace(exitcode=None)  # the dump has ended the call that hung: that was no end of its own
        if self._refusal is not None and not self.kill_reason:
            self._owner.refused(self, f"{self._refusal.field}: {self._refusal.text}", self._refusal.errno)
        elif self.pid is None and not self.kill_reason:
            self._owner.refused(self, report.reason, report.errno)
        else:
            self._owner.exited(self, report)

    # -- frames --------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == protocol.REFUSED:
            self._refusal = protocol.decode_refusal(frame)
        else:
            raise ProtocolError(f"frames of kind {frame.kind} are not expected from {self!r}")

    def _on_data_lost(self, reason: str) -> None:
        if "garbage" in reason:
            self.kill(reason)

    def _later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> None:
        self._timers.append(self._loop.call_later(delay, callback, *arguments))

    def _continue(self) -> None:
        """Have a stopped process hear what it is told."""
        self.send_signal(signal.SIGCONT)


def pipes_of(relay: RelayOptions, launch: Launch) -> RelayOptions:
    """Return the relay options with those streams that the launch wants captured."""
    streams: Sequence[Any] = [name for name in ("stdout", "stderr") if getattr(launch, name) == "capture"]
    return relay._replace(streams=tuple(streams))
