"""The worker's second thread: hears the master while the main thread is in a task.

What it takes from the shared deques (unstarted tasks, finished results) it takes by atomic pops and sends on its own
socket, so the main thread never waits for it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from .._sys import failpoints
from ..supervisor import stack_dump
from ..supervisor.control_thread import ControlThread, MasterGone
from ..wire import pool_protocol as protocol
from ..wire.framing import Frame

if TYPE_CHECKING:
    from .worker import Worker


class WorkerControl(ControlThread):
    """Hears what must be heard at once: CANCEL and NUDGE, CREDIT for streams, a drain."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.control, worker.scoreboard, worker.settings["heartbeat_timeout"])
        self._worker = worker
        self._main = threading.main_thread().ident
        self._told_drain = False
        worker.wake_control = self.wake_up

    def _look(self) -> None:
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
        if worker.running == number and self._main is not None:
            signal.pthread_kill(self._main, signal.SIGINT)
        elif worker.notify_loop is not None:
            worker.notify_loop()

    def _credit(self, number: int, items: int) -> None:
        """Let a stream go on; one that has just ended needs nothing."""
        worker = self._worker
        if (outflow := worker.outflows.get(number)) is None:
            return
        outflow.credit(items)
        if worker.notify_loop is not None:
            worker.notify_loop()
        else:
            worker.wake_main()

    def _drain(self) -> None:
        self._told_drain = True
        failpoints.hit("draining")
        self._give_back(protocol.DRAINING)

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
        if worker.notify_loop is not None:
            worker.notify_loop()

    def _stop_politely(self) -> None:
        worker = self._worker
        worker.orphaned = worker.draining = True
        if worker.running and self._main is not None:
            worker.cancelled.add(worker.running)
            signal.pthread_kill(self._main, signal.SIGINT)
        elif worker.notify_loop is not None:
            worker.notify_loop()
        worker.wake_main()
