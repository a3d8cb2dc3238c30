"""The second thread of a child process of ours: hears the master while the main thread is busy, and beats.

It sleeps in poll(2) and wakes for what the master says on the control socket, for signals, at once and whatever the
main thread does, for its heartbeat, and for the end of file that says that the master is gone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
import traceback

from ..wire.framing import CONTROL_SCRATCH, Buffer, Frame, FrameDecoder
from .scoreboard import Scoreboard
from .signal_pipe import SignalPipe

LEAST_BEAT = 2.0
"""Seconds between two beats at least, so that an idle process stays idle."""
_ORPHAN_GRACE = 0.5
_ORPHAN_PAUSE = 0.05


class MasterGone(Exception):
    """The master's socket is closed: there is nobody to work for."""


class ControlThread(threading.Thread):
    """Serves the control socket; a daemon, so that it never holds up the exit of the process."""

    def __init__(
        self, control: socket.socket, signals: SignalPipe, scoreboard: Scoreboard, heartbeat_timeout: float
    ) -> None:
        super().__init__(name="aioipc-control", daemon=True)
        self.beat_every: float = max(LEAST_BEAT, heartbeat_timeout / 4)
        """Seconds between two beats."""
        self._control = control
        self._scoreboard = scoreboard
        self._signals = signals
        self._decoder = FrameDecoder(CONTROL_SCRATCH)

    def start(self) -> None:
        """Start with every signal blocked: signals are the main thread's."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        """Serve until the process ends or the master is gone."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._signals, select.POLLIN)
        try:
            while True:
                pause = min(self.beat_every, max(0.0, self._due() - time.monotonic()))
                ready = [fd for fd, _ in poller.poll(pause * 1000)]
                self._scoreboard.beat()
                if self._signals.fileno() in ready:
                    self._hear(self._signals.read())
                self._look()
                if self._control.fileno() in ready:
                    self._receive()
        except (MasterGone, OSError):
            self._end_as_orphan()
        except BaseException:  # without this thread the process would be deaf
            traceback.print_exc()
            os._exit(1)

    def send(self, pieces: list[Buffer]) -> None:
        """Send a frame on the control socket; to be called in this thread."""
        for piece in pieces:
            self._control.sendall(piece)

    def _receive(self) -> None:
        count = self._control.recv_into(self._decoder.buffer())
        if not count:
            raise MasterGone
        for frame in self._decoder.received(count):
            self._obey(frame)

    def _end_as_orphan(self) -> None:
        """Stop what runs, politely, and end: the master is gone. (The zygote kills who does not.)"""
        until = time.monotonic() + _ORPHAN_GRACE
        self._stop_politely()
        while time.monotonic() < until:
            time.sleep(_ORPHAN_PAUSE)
            self._insist()
        os._exit(1)

    # -- for those who know what there is to do ------------------------------------------------------

    def _due(self) -> float:
        """Return when `_look` is to be called at the latest, in seconds of the monotonic clock."""
        return float("inf")

    def _look(self) -> None:
        """See what has changed: called after each sleep."""

    def _hear(self, numbers: bytes) -> None:
        """Act on signals that have come; the handlers may be late. A number may be 0, which is none."""
        raise NotImplementedError

    def _obey(self, frame: Frame) -> None:
        """Do what the master says."""
        raise NotImplementedError

    def _insist(self) -> None:
        """Say again to the main thread what it may not have heard."""

    def _stop_politely(self) -> None:
        """Have the main thread end by itself; it has half a second."""
        raise NotImplementedError
