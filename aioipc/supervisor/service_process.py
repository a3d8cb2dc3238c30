"""The state of a service's process, shared by its main thread, where the loop runs, and its control thread.

Whoever asks it to stop (the master, a SIGTERM, the end of the master) does so by the same step, any number of times.
From then on it has a deadline: what runs then is cancelled, and a second later the process ends, whatever it does.
What has yet to say that it is ready is cancelled at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import sys
import time
from types import FrameType
from typing import Any

from .._sys import failpoints
from ..wire import service_protocol as protocol
from ..wire.framing import Frame, ProtocolError
from . import stack_dump
from .boot import Inheritance, release_stderr
from .link import FrameLink
from .scoreboard import Scoreboard
from .service_control import CANCEL_TIME, ServiceControl
from .signal_pipe import SignalPipe

EXIT_TIME = 5.0
"""Seconds that a process gets to end after its function has, where nobody has asked it to stop."""
STATUS_PAUSE = 0.1
"""Seconds between two status texts at least."""


class ServiceProcess:
    """What the threads know. Methods are for the loop's thread where nothing else is said."""

    def __init__(
        self, inheritance: Inheritance, saved_stderr: int, settings: dict[str, Any], data: socket.socket
    ) -> None:
        self.scoreboard: Scoreboard = Scoreboard(inheritance.scoreboard)
        os.close(inheritance.scoreboard)
        self.is_stopping: bool = False
        self.deadline: float = math.inf
        """When what runs is cancelled, in seconds of the monotonic clock."""
        self.hard_deadline: float = math.inf
        """When the process ends, whatever it does."""
        self.expired: bool = False
        """What runs was cancelled because of the deadline."""
        self.withdrawn: bool = False
        """What runs was cancelled because it was asked to stop before it had said that it is ready."""
        self.orphaned: bool = False
        """What runs was cancelled because the master is gone."""
        self.terminated: bool = False
        """A SIGTERM has come; the control thread sees to it."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.shutdown: float = settings["shutdown"]
        self._says_ready: bool = settings["says_ready"]
        self._inheritance = inheritance
        self._saved_stderr = saved_stderr
        self._data = data
        self.control_socket: socket.socket = socket.socket(fileno=inheritance.control)
        self.signals: SignalPipe = SignalPipe()
        self.control: ServiceControl = ServiceControl(self, settings["heartbeat_timeout"])
        self._asked = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._link: FrameLink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._told_stopping = self._told_ready = self._assume_ready = False
        self._status = ""
        self._status_timer: asyncio.TimerHandle | None = None

    def launched(self) -> None:
        """Say that the process is set up, and able to show what it does; before there is a loop."""
        stack_dump.enable(os.dup(self._inheritance.stderr))
        self._data.sendall(b"".join(protocol.encode_plain(protocol.LAUNCHED)))

    def on_terminate(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM: the same as the master's STOP, since service managers signal every process of a service."""
        self.terminated = True
        self.signals.wake_up()

    def leave_to_child(self) -> None:
        """Close what is the service's, in a process that it has forked."""
        self._data.close()
        self.control_socket.close()

    # -- for the control thread ----------------------------------------------------------------------

    def stop(self, deadline: float) -> None:
        """Have the service stop by then; of several deadlines the earliest counts. Called in the control thread."""
        self.deadline = min(self.deadline, deadline)
        self.hard_deadline = min(self.hard_deadline, self.deadline + CANCEL_TIME)
        self.is_stopping = True
        self.tell_loop(self._stop_now)

    def orphan(self) -> None:
        """The master is gone: cancel what runs. Called in the control thread."""
        self.is_stopping = self.orphaned = True
        self.tell_loop(self._cancel)

    def assume_ready(self) -> None:
        """The master counts the service as ready. Called in the control thread."""
        self._assume_ready = True
        self.tell_loop(self.say_ready)

    def tell_loop(self, callback: Any) -> None:
        """Have the loop do something; where there is none, there is nothing to do."""
        loop = self.loop  # which may end at any moment
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(callback)

    # -- the life of the loop ------------------------------------------------------------------------

    def attach(self) -> None:
        """Take the running loop as the service's, and the current task as the one to cancel."""
        self._main = asyncio.current_task()
        loop = self.loop = asyncio.get_running_loop()
        self._data.setblocking(False)
        self._link = FrameLink(loop, self._data, self._refuse, self._ignore, scratch=1024)
        self.scoreboard.loop_runs(True)
        if not isinstance(loop, asyncio.SelectorEventLoop):
            self.signals.join_loop()
        self._beat()
        if self.is_stopping:  # asked for before there was a loop to be told
            self._stop_now()
        if self._assume_ready:
            self.say_ready()

    def detach(self) -> None:
        """Leave the loop: the function has ended, and the process is to end soon."""
        assert self._link is not None
        if not self.is_stopping:
            self._link.send(protocol.encode_text(protocol.STOPPING, protocol.ENDED))
        self.is_stopping = True
        self.expect_exit()
        self.loop = None
        self.signals.leave_loop()
        self.scoreboard.loop_runs(False)
        for timer in (self._timer, self._beat_timer, self._status_timer):
            if timer is not None:
                timer.cancel()
        self._link.close()

    def expect_exit(self) -> None:
        """Have the process end soon, whatever it does; may be called again."""
        self.hard_deadline = min(self.hard_deadline, time.monotonic() + EXIT_TIME)
        self.signals.wake_up()

    def to_loop_time(self, moment: float) -> float:
        """Return a moment of the monotonic clock as the loop counts it."""
        loop = asyncio.get_running_loop()
        return loop.time() + (moment - time.monotonic())

    def _beat(self) -> None:
        self.scoreboard.loop_beat()
        self.signals.keep_listening()
        self._beat_timer = asyncio.get_running_loop().call_later(self.control.beat_every, self._beat)

    # -- stopping ------------------------------------------------------------------------------------

    async def wait_stopping(self) -> None:
        """Wait until the service is to stop."""
        await self._asked.wait()

    def _stop_now(self) -> None:
        is_first = not self._asked.is_set()
        self._asked.set()
        if is_first:
            failpoints.hit("draining")
            self._withdraw()
        if self.terminated and not self._told_stopping and self._link is not None:
            self._told_stopping = True
            self._link.send(protocol.encode_text(protocol.STOPPING, protocol.SIGNALLED))
        if self._timer is not None:
            self._timer.cancel()
        if not math.isinf(self.deadline):
            self._timer = asyncio.get_running_loop().call_at(self.to_loop_time(self.deadline), self._expire)

    def _withdraw(self) -> None:
        """Where it has not said that it is ready it has accepted nothing: there is nothing to wait for."""
        if self._says_ready and not self._told_ready:
            self.withdrawn = True
            self._cancel()

    def _expire(self) -> None:
        self.expired = True
        self._cancel()

    def _cancel(self) -> None:
        self._asked.set()
        if self._main is not None:
            self._main.cancel()

    # -- what it says --------------------------------------------------------------------------------

    def say_ready(self) -> None:
        """Say, once, that the service is ready; its standard error is no longer held back."""
        if not self._told_ready and self._link is not None:
            self._told_ready = True
            failpoints.hit("before-ready")
            release_stderr(self._saved_stderr, self._inheritance.stderr)
            stack_dump.clear()
            sys.stdout.flush()
            self._link.send(protocol.encode_plain(protocol.READY))

    def say_status(self, text: str) -> None:
        """Say what it is doing: now, or after a while where it said so a moment ago or the master is slow."""
        self._status = text
        if self._status_timer is None:
            self._send_status()

    def _send_status(self) -> None:
        self._status_timer = None
        text, self._status = self._status, ""
        if self._link is None or not text:
            return
        if self._link.is_sending:
            self._status = text
        else:
            self._link.send(protocol.encode_text(protocol.STATUS, text))
        self._status_timer = asyncio.get_running_loop().call_later(STATUS_PAUSE, self._send_status)

    def _refuse(self, frame: Frame) -> None:
        raise ProtocolError("the master says nothing here")

    def _ignore(self, reason: str) -> None:
        """The control thread knows that the master is gone."""
