"""The worker's second thread: hears the master while the main thread is in a task.

What it takes from the shared deques (unstarted tasks, finished results) it takes by atomic pops and sends on its own
socket, so the main thread never waits for it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

from .._sys import failpoints
from ..supervisor import stack_dump
from ..supervisor.control_thread import ControlThread, MasterGone
from ..wire import pool_protocol as protocol
from ..wire.framing import Frame

if TYPE_CHECKING:
    from .worker import Worker


_INSIST_AFTER = 0.01
_INSIST_EVERY = 1.0


class WorkerControl(ControlThread):
    """Hears what must be heard at once: CANCEL and NUDGE, CREDIT for streams, a drain."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.control, worker.signals, worker.scoreboard, worker.settings["heartbeat_timeout"])
        self._worker = worker
        self._main = threading.main_thread().ident
        self._told_drain = False
        self._insist_at = float("inf")
        self._pause = _INSIST_AFTER

    def _due(self) -> float:
        return self._insist_at

    def _hear(self, numbers: bytes) -> None:
        worker = self._worker
        if signal.SIGTERM in numbers and signal.getsignal(signal.SIGTERM) == worker.on_terminate:
            worker.draining = True
        if any(numbers):  # handlers that came too late for the sleep of the main thread run now
            worker.wake_main()
            self._notify_loop()

    def _look(self) -> None:
        self._insist()
        if self._worker.draining and not self._told_drain:
            self._drain()

    def _obey(self, frame: Frame) -> None:
        if frame.kind == protocol.CANCEL:
            self._cancel(protocol.decode_plain(frame))
        elif frame.kind == protocol.NUDGE:
            self._give_back(protocol.UNSTARTED)
        elif frame.kind == protocol.CREDIT:
            self._credit(*protocol.decode_plain(frame))
        elif frame.kind == protocol.DUMP and self._worker.loop is not None:
            stack_dump.dump_tasks(self._worker.loop)

    def _cancel(self, number: int) -> None:
        """Cancel a task: mark it, then break into it where it runs.

        The main thread says what it runs before it looks at the marks, so one of the two sees the other.
        """
        worker = self._worker
        worker.cancelled.add(number)
        if worker.running == number:
            self._interrupt()
        else:
            self._notify_loop()

    def _interrupt(self) -> None:
        """Break into the task that runs, where it was cancelled."""
        self._insist_at, self._pause = 0.0, _INSIST_AFTER
        self._insist()

    def _insist(self) -> None:
        """Send SIGINT again, ever less often, until its handler was there: that which comes between a bytecode and a
        system call does not interrupt the call. Where the task must not be broken into, it will look by itself.
        """
        if (now := time.monotonic()) < self._insist_at:
            return
        worker = self._worker
        if self._main is not None and worker.interruptible and worker.running in worker.cancelled:
            signal.pthread_kill(self._main, signal.SIGINT)
            self._insist_at = now + self._pause
            self._pause = min(2 * self._pause, _INSIST_EVERY)
        else:
            self._insist_at = float("inf")

    def _credit(self, number: int, items: int) -> None:
        """Let a stream go on; one that has just ended needs nothing."""
        worker = self._worker
        if (outflow := worker.outflows.get(number)) is None:
            return
        outflow.credit(items)
        if worker.notify_loop is not None:
            self._notify_loop()
        else:
            worker.wake_main()

    def _drain(self) -> None:
        self._told_drain = True
        failpoints.hit("draining")
        self._give_back(protocol.DRAINING)

    def _notify_loop(self) -> None:
        """Have the event loop, if the main thread is in it, look at what has changed."""
        if (notify := self._worker.notify_loop) is not None:  # until it leaves, which may be now
            notify()

    def _give_back(self, kind: int) -> None:
        """Send the results that wait for company and name the tasks that have not been started."""
        worker = self._worker
        if (worker.running or worker.notify_loop) and worker.reading.acquire(blocking=False):
            worker.reading.release()
            with contextlib.suppress(MasterGone):
                while worker.receive():  # tasks that are still in the socket
                    pass
        slots: list[int] = []
        with contextlib.suppress(IndexError):
            while True:
                number, slot, *_ = worker.pending.pop()
                slots.append(slot)
                worker.cancelled.discard(number)
        if results := worker.take_results():
            self.send(protocol.encode_results(results))
        self.send(protocol.encode_plain(kind, slots[::-1]))
        worker.wake_main()
        self._notify_loop()

    def _stop_politely(self) -> None:
        worker = self._worker
        worker.orphaned = worker.draining = True
        if worker.running:
            worker.cancelled.add(worker.running)
            self._interrupt()
        else:
            self._notify_loop()
        worker.wake_main()
