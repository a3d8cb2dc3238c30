"""The second thread of a service: hears the master, and ends the process where nothing else does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from ..wire import service_protocol as protocol
from ..wire.framing import Frame
from . import stack_dump
from .control_thread import ControlThread

if TYPE_CHECKING:
    from .service_process import ServiceProcess

CANCEL_TIME = 1.0
"""Seconds that a service gets to end after it was cancelled."""
EXIT_DEADLINE = 124
"""Exit code of a service that did not stop by its deadline, as of ``timeout(1)``."""


class ServiceControl(ControlThread):
    """Hears STOP, DUMP and ASSUME_READY."""

    def __init__(self, process: ServiceProcess, heartbeat_timeout: float) -> None:
        super().__init__(process.control_socket, process.signals, process.scoreboard, heartbeat_timeout)
        self._process = process

    def _due(self) -> float:
        return self._process.hard_deadline

    def _look(self) -> None:
        process = self._process
        if process.terminated and not process.is_stopping:
            process.stop(time.monotonic() + process.shutdown)
        if time.monotonic() >= process.hard_deadline:
            _say("aioipc: this process did not end by its deadline\n")
            os._exit(EXIT_DEADLINE)

    def _hear(self, numbers: bytes) -> None:
        process = self._process
        if signal.SIGTERM in numbers and signal.getsignal(signal.SIGTERM) == process.on_terminate:
            process.terminated = True
        if any(numbers):
            process.tell_loop(_nothing)  # handlers that came too late for the sleep of the main thread run now

    def _obey(self, frame: Frame) -> None:
        process = self._process
        if frame.kind == protocol.STOP:
            process.stop(protocol.decode_stop(frame))
        elif frame.kind == protocol.ASSUME_READY:
            process.assume_ready()
        elif frame.kind == protocol.DUMP and process.loop is not None:
            stack_dump.dump_tasks(process.loop)

    def _stop_politely(self) -> None:
        self._process.orphan()


def _nothing() -> None:
    """Wake the loop."""


def _say(text: str) -> None:
    """Write to standard error, unless that would wait."""
    poller = select.poll()
    poller.register(2, select.POLLOUT)
    if any(events & select.POLLOUT for _, events in poller.poll(0)):
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
