"""One process of a supervisor, or one pool, from the order to start it to its end: what it says becomes events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..wire.sd_notify import Notification
from .actions import Spawn
from .checkup import Checkup
from .child import ExitReport
from .child_handle import ChildHandle, PoolHandle
from .command_handle import CommandHandle
from .events import Exited, HeartbeatLost, ProcessEvent, ProcessKey, Ready, RetireWanted, Spawned, SpawnFailed
from .generations import Generations
from .launch import Launch
from .leases import Leases
from .notify_receiver import NotifyDirectory, NotifyReceiver
from .output_relay import log_line
from .relays import RelayOptions
from .service_handle import ServiceHandle
from .signal_numbers import signal_number
from .spec import ChildSpec

if TYPE_CHECKING:
    from ..pool.pool import Pool
    from ..pool.statistics import PoolStatistics

_log = logging.getLogger("aioipc.supervisor")
_RELAY = RelayOptions(logs=True, sink=log_line)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    text: str
    """In words."""
    code: int | None = None
    stderr: str = ""
    """The end of what it wrote to standard error, as far as the master knows."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What all processes of a supervisor are started with."""

    loop: asyncio.AbstractEventLoop
    generations: Generations
    leases: Leases
    notify: NotifyDirectory
    on_doom: Callable[[], None]
    """To be called where all processes are about to be killed, since the program is told to end at once."""


class Supervised:
    """Starts the process. ``post`` takes the events, ``ended`` hears how it ended, right before the event that says so.

    Raises OSError where there are no descriptors left, or its zygote cannot be started.
    """

    def __init__(
        self,
        resources: Resources,
        spawn: Spawn,
        post: Callable[[ProcessEvent], None],
        ended: Callable[[ProcessKey, Ending], None],
    ) -> None:
        self.key: ProcessKey = spawn.key
        self.spec: ChildSpec = spawn.spec
        self.generation: int = spawn.generation
        self.started_at: float = time.monotonic()
        self.said: str = ""
        """What it says that it is doing."""
        self.usage: str = ""
        """How long it ran and what it took, once it has ended."""
        self._resources = resources
        self._post = post
        self._ended = ended
        self._checkup: Checkup | None = None
        self._receiver: NotifyReceiver | None = None
        self._delay: asyncio.TimerHandle | None = None
        self._signalled = (0, "")
        with contextlib.ExitStack() as undo:
            if self.spec.ready == "notify":
                self._receiver = resources.notify.new_receiver(self._notified, uid=_user_id(self.spec))
                undo.callback(self._receiver.close)
            self._pool: PoolHandle | None = None
            self.handle: ChildHandle = self._start(undo)
            undo.pop_all()

    def __str__(self) -> str:
        if self._pool is not None:
            return f"the pool {'/'.join(self.key.path)}"
        return str(self.key) if self.handle.pid is None else f"{self.key} (pid {self.handle.pid})"

    @property
    def pool(self) -> Pool | None:
        """The pool, where it is one."""
        return None if self._pool is None else self._pool.pool

    def pool_statistics(self) -> PoolStatistics | None:
        """Return what the pool is doing, where it is one, and has been opened."""
        return None if self._pool is None else self._pool.statistics()

    def _start(self, undo: contextlib.ExitStack) -> ChildHandle:
        target = self.spec.pool
        if target is not None:
            self._pool = target.new_handle(self._resources.loop, "/".join(self.key.path), self, self._resources.on_doom)
            undo.callback(self._pool.close)
            self._pool.start()
            return self._pool
        process = self._service() if self.spec.kind == "function" else self._command()
        undo.callback(process.close)
        process.spawn(self._resources.generations.zygote(self.generation))
        return process

    def _service(self) -> ServiceHandle:
        spec = self.spec
        assert spec.heartbeat_timeout is not None
        assert callable(spec.target) or isinstance(spec.target, str)
        return ServiceHandle(
            *(self._resources.loop, "/".join(self.key.path), self.key.slot, self),
            function=spec.target,
            launch=Launch.of(spec),
            relay=_RELAY,
            heartbeat_timeout=spec.heartbeat_timeout,
            shutdown=spec.shutdown if isinstance(spec.shutdown, int | float) else 0.0,
            says_ready=spec.ready == "call",
            generation=self.generation,
            concurrency=spec.concurrency,
            app_dir=None if spec.app_dir is None else os.path.abspath(spec.app_dir),
            listeners=self._resources.leases.descriptors(self.key.path, spec, self.key.slot),
        )

    def _command(self) -> CommandHandle:
        spec = self.spec
        assert isinstance(spec.target, tuple | list)
        return CommandHandle(
            *(self._resources.loop, "/".join(self.key.path), self.key.slot, self),
            argv=[os.fspath(each) for each in spec.target],
            launch=Launch.of(spec),
            relay=_RELAY,
            ready="newline" if spec.ready == "newline" else None,
            notify_socket=None if self._receiver is None else os.fspath(self._receiver.path or ""),
            watchdog=None if self._receiver is None else spec.heartbeat_timeout,
            listeners=self._resources.leases.descriptors(self.key.path, spec, self.key.slot),
            stop_signal=signal_number(spec.stop_signal or "TERM"),
            stop_group=spec.stop_group,
        )

    # -- what the core wants ---------------------------------------------------------------------------------

    def stop(self, deadline: float) -> None:
        """Ask it to drain and end; ``deadline`` is in seconds of the monotonic clock, the core kills it then.

        It hears of it after the ``drain_delay`` of its spec, or when half of the time is over, if that is earlier.
        """
        delay = min(self.spec.drain_delay, max(0.0, deadline - time.monotonic()) / 2)
        first = self._delay is None
        if self._delay is not None:
            delay = min(delay, max(0.0, self._delay.when() - self._resources.loop.time()))
            self._delay.cancel()
        if not delay or not self.handle.was_ready:
            self._stop_now(deadline)
            return
        if first:
            self.said = "draining: it goes on for a while"
        self._delay = self._resources.loop.call_later(delay, self._stop_now, deadline)

    def _stop_now(self, deadline: float) -> None:
        self.handle.stop(self._resources.loop.time() + (deadline - time.monotonic()))

    def kill(self, why: str, *, dump: bool) -> None:
        """Kill it and its group, with ``dump`` after its stacks were written down."""
        _log.warning("%s is killed: %s", self, why)
        if dump:
            self.handle.condemn(why)
        else:
            self.handle.kill(why)

    def send_signal(self, signum: int, why: str) -> int:
        """Send it a signal that somebody wants it to get; return to how many processes. ``why`` says which one."""
        self._signalled = (signum, why)
        group = signum in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
        return self.handle.send_signal(signum, group=group)

    def is_ready(self) -> None:
        """Take note that the core counts it as ready."""
        if self.handle.state == "EXITED":  # the core will hear of that next
            return
        if isinstance(self.spec.ready, int | float):
            self.handle.assume_ready()
        self._checkup = Checkup(
            self._resources.loop,
            self.handle,
            self.spec,
            watchdog=self._receiver is not None,
            lost=lambda why: self._post(HeartbeatLost(self.key, why)),
            spent=lambda why: self._post(RetireWanted(self.key, why)),
        )

    def close(self) -> None:
        """Let go of everything but the handle, which closes itself when the process has ended."""
        if self._delay is not None:
            self._delay.cancel()
        if self._checkup is not None:
            self._checkup.close()
        if self._receiver is not None:
            self._receiver.close()

    # -- HandleOwner -----------------------------------------------------------------------------------------

    def spawned(self, process: ChildHandle, pid: int) -> None:
        """See `HandleOwner`."""
        if self._receiver is not None:
            self._receiver.start(pid)
        self._post(Spawned(self.key, pid))

    def refused(self, process: ChildHandle, reason: str, errno: int | None) -> None:
        """See `HandleOwner`."""
        self.close()
        self._ended(self.key, Ending(reason))
        self._post(SpawnFailed(self.key, reason))

    def ready(self, process: ChildHandle) -> None:
        """See `HandleOwner`."""
        if not isinstance(self.spec.ready, int | float):
            self._post(Ready(self.key))

    def status(self, process: ChildHandle, text: str) -> None:
        """See `HandleOwner`."""
        self.said = text

    def stopping_by_itself(self, process: ChildHandle, why: str) -> None:
        """See `HandleOwner`: what becomes of its slot is decided when it is gone."""
        self.said = f"stopping: {why}"

    def exited(self, process: ChildHandle, report: ExitReport) -> None:
        """See `HandleOwner`."""
        self.close()
        if process.stacks:
            _log.warning("%s was doing this:\n%s", self, process.stacks)
        seconds = (time.monotonic() - self.started_at, report.user_seconds, report.system_seconds)
        if report.peak_memory:  # else nobody could learn it
            self.usage = "{:.1f} s, CPU {:.2f} + {:.2f} s".format(*seconds)
            self.usage += f", at most {report.peak_memory >> 20} MiB"
        stderr = process.stderr_tail().rstrip()
        text = report.reason if process.kill_reason or report.with_zygote else f"it {report.reason}"
        self._ended(self.key, Ending(text, report.exitcode, stderr))
        if stderr and not process.was_ready and stderr not in text:
            text += f"\n--- end of its stderr ---\n{stderr}"
        self._post(Exited(self.key, report.exitcode, text, self._cause_of(report)))

    def _cause_of(self, report: ExitReport) -> str:
        """Return what has ended it, and perhaps others, if that was no fault of its own."""
        signum, why = self._signalled
        if report.with_zygote:
            return report.reason
        return why if signum == signal.SIGTERM or report.exitcode == -signum else ""

    # -- sd_notify -------------------------------------------------------------------------------------------

    def _notified(self, said: Notification) -> None:
        if said.status is not None:
            self.said = said.status
        if said.ready and not self.handle.was_ready:
            self.handle.assume_ready()
            self._post(Ready(self.key))
        if said.watchdog == "alive" and self._checkup is not None:
            self._checkup.beat()
        if said.watchdog == "trigger":
            self._post(HeartbeatLost(self.key, "it asked for that by WATCHDOG=trigger"))


def _user_id(spec: ChildSpec) -> int | None:
    """Return the number of the user that a process is to run as; one that there is not is refused at its launch."""
    if isinstance(spec.user, str):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(spec.user).pw_uid
        return None
    return spec.user
