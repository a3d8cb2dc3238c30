"""The worker's second thread: hears the master while the main thread is in a task.

It sleeps in poll(2) and wakes for the master's CANCEL and NUDGE, for a SIGTERM (the handler in the main thread
only writes to a pipe), for its heartbeat, and for the end of file that says that the master is gone. What it
takes from the shared deques (unstarted tasks, finished results) it takes by atomic pops and sends on its own
socket, so the main thread never waits for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import traceback
from typing import TYPE_CHECKING

from .._sys import failpoints
from ..supervisor import stack_dump
from ..wire import pool_protocol as protocol
from ..wire.framing import CONTROL_SCRATCH, Buffer, Frame, FrameDecoder
from .worker import MasterGone

if TYPE_CHECKING:
    from .worker import Worker

_LEAST_BEAT = 2.0
_ORPHAN_GRACE = 0.5


class ControlThread(threading.Thread):
    """Serves the control socket; a daemon, so that it never holds up the worker's exit."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="aioipc-control", daemon=True)
        self._worker = worker
        self._main = threading.main_thread().ident
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._beat_every = max(_LEAST_BEAT, worker.settings["heartbeat_timeout"] / 4)
        self._decoder = FrameDecoder(CONTROL_SCRATCH)
        self._told_drain = False
        worker.wake_control = self._wake_up

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
        poller.register(self._worker.control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        try:
            while True:
                ready = [fd for fd, _ in poller.poll(self._beat_every * 1000)]
                self._worker.scoreboard.beat()
                if self._wake in ready:
                    os.read(self._wake, 64)
                if self._worker.draining and not self._told_drain:
                    self._drain()
                if self._worker.control.fileno() in ready:
                    self._receive()
        except (MasterGone, OSError):
            self._end_as_orphan()
        except BaseException:  # without this thread the worker would be deaf
            traceback.print_exc()
            os._exit(1)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken, b"!")

    def _receive(self) -> None:
        count = self._worker.control.recv_into(self._decoder.buffer())
        if not count:
            raise MasterGone
        for frame in self._decoder.received(count):
            self._obey(frame)

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
            self._send(protocol.encode_results(results))
        self._send(protocol.encode_plain(kind, slots[::-1]))
        worker.wake_main()
        if worker.notify_loop is not None:
            worker.notify_loop()

    def _send(self, pieces: list[Buffer]) -> None:
        for piece in pieces:
            self._worker.control.sendall(piece)

    def _end_as_orphan(self) -> None:
        """Stop what runs, politely, and end: the master is gone. (The zygote kills who does not.)"""
        worker = self._worker
        worker.orphaned = worker.draining = True
        if worker.running and self._main is not None:
            worker.cancelled.add(worker.running)
            signal.pthread_kill(self._main, signal.SIGINT)
        elif worker.notify_loop is not None:
            worker.notify_loop()
        worker.wake_main()
        threading.Event().wait(_ORPHAN_GRACE)
        os._exit(1)
