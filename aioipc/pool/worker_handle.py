"""The master's side of one worker: its links, and which task is in which slot of its scoreboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..supervisor.boot import current_settings
from ..supervisor.child import Child, ExitReport
from ..supervisor.process_handle import ProcessHandle
from ..supervisor.recycling import Limits
from ..supervisor.relays import RelayOptions
from ..supervisor.source import Source
from ..wire import pool_protocol as protocol
from ..wire.framing import Frame, ProtocolError
from ..wire.pool_protocol import TIMED, ResultItem, TaskItem
from .job import Task
from .scheduling import MAX_AHEAD

EXIT_TIME = 5.0
"""Seconds that a drained worker gets to end."""
CLOSING_TIME = 1.0
"""Seconds that a worker gets to end after it has closed its data socket."""
FRAME_TASKS = 128
"""Tasks in one frame: the worker starts on the first while the next frame is on its way."""


class WorkerOwner(Protocol):
    """Who hears what a worker says."""

    def worker_ready(self, worker: WorkerHandle) -> None:
        """It can take tasks."""

    def worker_answered(self, worker: WorkerHandle, results: list[ResultItem]) -> None:
        """It has finished tasks."""

    def worker_streamed(self, worker: WorkerHandle, item: ResultItem) -> None:
        """It has sent an item or the end of a stream."""

    def worker_gave_back(self, worker: WorkerHandle, slots: list[int]) -> None:
        """It has not started these tasks and will not."""

    def worker_exited(self, worker: WorkerHandle, report: ExitReport) -> None:
        """It is gone, and everything it said was heard."""


class WorkerHandle(ProcessHandle):
    """One worker process from the request for it to its end. ``number`` is its place in the pool."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        owner: WorkerOwner,
        options: dict[str, Any],
        relay: RelayOptions,
        limits: Limits,
    ) -> None:
        concurrency: int = options["concurrency"]
        source = Source(number, options["service"])
        child = Child(concurrency + MAX_AHEAD, logs=relay.logs, capture=relay.capture)
        dump = protocol.encode_plain(protocol.DUMP)
        super().__init__(loop, source, child, relay, heartbeat_timeout=options["heartbeat_timeout"], dump=dump)
        self.number: int = number
        self.limits: Limits = limits
        self.leaving: bool = False
        """It was told to stop, and takes no more tasks."""
        self.spent: bool = False
        """It was given as many tasks as it may have, and takes no more."""
        self.idle_since: float = loop.time()
        """When it had its last task, in loop time."""
        self.in_flight: dict[int, Task] = {}
        self.finished: int = 0
        self.endings: dict[int, asyncio.TimerHandle] = {}
        """By slot, the tasks that are being ended before their time, and when it is killed for them."""
        self.deliberate: bool = False
        """It is killed because of a task that did not end; what else it runs is not to blame."""
        self.boot_timer: asyncio.TimerHandle | None = None
        self.heard: int = 0
        """Frames received; tells whether it has been silent since."""
        self.nudge_timer: asyncio.TimerHandle | None = None
        self._owner = owner
        self._exit_timer: asyncio.TimerHandle | None = None
        self._known: set[int] = set()
        self._serial = 0
        self._serials = [0] * (concurrency + MAX_AHEAD)
        self._free = list(range(concurrency + MAX_AHEAD))[::-1]
        more = {"name": source.process_name, "slot": number}
        settings = {**current_settings(), **options, **self.relays.settings, **more}
        self._data.send(protocol.encode_boot(settings))

    def send(self, tasks: list[Task]) -> list[int]:
        """Send tasks; returns the number each is known by here, in order."""
        serials: list[int] = []
        for begin in range(0, len(tasks), FRAME_TASKS):
            functions: list[tuple[int, bytes]] = []
            items: list[TaskItem] = []
            for task in tasks[begin : begin + FRAME_TASKS]:
                items.append(self._item(task, functions))
                serials.append(self._serial)
            self._data.send(protocol.encode_tasks(functions, items))
        return serials

    def _item(self, task: Task, functions: list[tuple[int, bytes]]) -> TaskItem:
        function = task.function
        if function.id and function.id not in self._known:
            assert function.pickled is not None
            self._known.add(function.id)
            functions.append((function.id, function.pickled))
        self._serial += 1
        slot = task.slot = self._free.pop()
        self._serials[slot] = self._serial
        self.in_flight[slot] = task
        flags = function.flags | task.envelopes | (TIMED if task.timeout is not None else 0)
        return (self._serial, slot, function.id, flags, task.payload)

    def release(self, slot: int) -> Task:
        """Take back a slot whose task was answered or given back; returns the task.

        Raises ProtocolError where no task is in that slot: then something else wrote to the worker's socket.
        """
        task = self.in_flight.pop(slot, None)
        if task is None:
            raise ProtocolError(f"there is no task in slot {slot!r}")
        self._free.append(slot)
        return task

    def serial(self, task: Task) -> int:
        """Return the number a task was sent with; a task that comes here again gets another."""
        return self._serials[task.slot]

    def has(self, task: Task, serial: int) -> bool:
        """Tell whether the task is here, as it was sent with that number."""
        return self.in_flight.get(task.slot) is task and self._serials[task.slot] == serial

    def started(self, task: Task) -> bool:
        """Tell whether the worker has entered the task's function."""
        return self.child.scoreboard.started[task.slot] == self._serials[task.slot]

    def started_at_time(self, task: Task) -> float | None:
        """Return when a task with a timeout was started, in seconds of the monotonic clock."""
        return self.child.scoreboard.started_at[task.slot] / 1e9 if self.started(task) else None

    def cancel(self, task: Task) -> None:
        """Ask the worker to end a task, or not to start it."""
        self._control.send(protocol.encode_plain(protocol.CANCEL, self._serials[task.slot]))
        if not self.started(task):
            self.nudge()

    def nudge(self) -> None:
        """Ask for finished results that wait for company, and for the tasks that were not started."""
        self._control.send(protocol.encode_plain(protocol.NUDGE))

    def credit(self, task: Task, items: int) -> None:
        """Say that the reader of a stream has taken some of its items."""
        if self.in_flight.get(task.slot) is task:
            self._control.send(protocol.encode_plain(protocol.CREDIT, (self._serials[task.slot], items)))

    def end_boot(self) -> bool:
        """Stop waiting for READY; returns whether it has come."""
        if self.boot_timer is not None:
            self.boot_timer.cancel()
            self.boot_timer = None
        return self.was_ready

    def stop(self) -> None:
        """Have the worker end when it has done what it has."""
        self.leaving = True
        if self.state == "RUNNING":
            self._enter("STOPPING")
        self._data.send(protocol.encode_plain(protocol.STOP))
        self._expect_exit()

    def close(self) -> None:
        """Let go of the worker's descriptors and memory."""
        for timer in (self._exit_timer, *self.endings.values()):
            if timer is not None:
                timer.cancel()
        self.endings.clear()
        super().close()

    def _on_exit(self, report: ExitReport) -> None:
        self._owner.worker_exited(self, report)

    # -- frames --------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        self.heard += 1
        handler = _HANDLERS.get(frame.kind)
        if handler is None:
            raise ProtocolError(f"a worker sends no frames of kind {frame.kind}")
        handler(self, frame)

    def _on_results(self, frame: Frame) -> None:
        results = protocol.decode_results(frame)
        self.relays.before_results()
        if any(result[1] > protocol.CANCELLED for result in results):
            results = [result for result in results if not self._is_streamed(result)]
        self.finished += len(results)
        self._owner.worker_answered(self, results)
        self._expect_exit()

    def _is_streamed(self, result: ResultItem) -> bool:
        """Pass on what belongs to a stream, item by item; False for an ordinary result."""
        if result[1] not in (protocol.ITEM, protocol.END):
            return False
        self.finished += result[1] == protocol.END
        self._owner.worker_streamed(self, result)
        return True

    def _on_ready(self, frame: Frame) -> None:
        if self.child.pid is None:  # it can be quicker than the zygote's report about it
            self.child.pid = protocol.decode_pid(frame)
            self.relays.start()
        self._enter("STOPPING" if self.leaving else "RUNNING")
        self.was_ready = True
        self.child.ready()
        self._owner.worker_ready(self)

    def _on_unstarted(self, frame: Frame) -> None:
        if frame.kind == protocol.DRAINING and self.state == "RUNNING":
            self._enter("DRAINING")
        self._owner.worker_gave_back(self, protocol.decode_slots(frame))
        self._expect_exit()

    def _expect_exit(self) -> None:
        """See to it that a worker that is to end does once it runs nothing: what user code does at exit may hang."""
        if (self.state == "DRAINING" or self.leaving) and self._exit_timer is None:
            self._exit_timer = self._loop.call_later(EXIT_TIME, self._check_exit)

    def _check_exit(self) -> None:
        if any(self.started(task) for task in self.in_flight.values()):
            self._exit_timer = self._loop.call_later(EXIT_TIME, self._check_exit)
        else:
            self.kill(f"it had nothing left to do and did not exit for {EXIT_TIME:g} s")

    def _on_data_lost(self, reason: str) -> None:
        """The worker has closed its data socket: it is ending, or sent garbage and must."""
        if self.state == "RUNNING":
            self._enter("DRAINING")
        self._owner.worker_gave_back(self, [])
        if "garbage" in reason:
            self.kill(reason)
        else:
            self._loop.call_later(CLOSING_TIME, self.kill, "it closed its connection to the master and lived on")


_HANDLERS: dict[int, Callable[[WorkerHandle, Frame], None]] = {
    protocol.RESULTS: WorkerHandle._on_results,
    protocol.READY: WorkerHandle._on_ready,
    protocol.UNSTARTED: WorkerHandle._on_unstarted,
    protocol.DRAINING: WorkerHandle._on_unstarted,
}
