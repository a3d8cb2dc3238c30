"""The pool's engine: takes tasks, has them run, settles each exactly once.

No task, thread, lock or polling of its own: submits of one turn of the loop are dispatched together in the next
callback, answers are settled in the callback that reads them. The decisions are in scheduling.py and autopsy.py.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from .._sys import cgroup
from ..exceptions import (
    PoolClosed,
    RemoteError,
    TaskQuarantined,
    TaskTimeout,
    WorkerBootError,
    WorkerCrashed,
)
from ..supervisor.child import ExitReport
from ..supervisor.recycling import Limits, memory_limit
from ..wire.framing import Buffer, ProtocolError
from ..wire.pool_protocol import CANCELLED, END, OK, STREAM, ResultItem
from .autopsy import judge
from .crew import Crew
from .deadlines import Deadlines
from .failures import to_exception
from .host import PoolHost
from .job import Task
from .mapping import MapState
from .options import PoolOptions
from .room import Room
from .scheduling import Scheduler, Seat
from .staffing import Staffing
from .streaming import StreamState, StreamTask
from .worker_handle import WorkerHandle

if TYPE_CHECKING:
    from .inbox import Inbox

_log = logging.getLogger("aioipc.pool")

LEAST_GRACE = 0.1
"""Seconds between two looks at whether a task that is being ended, and waits behind others, has been started."""
NUDGE_AFTER = 0.01
"""Seconds of silence after which a worker that has more than it can run at once is asked to give back."""


class Master:
    """Runs tasks on a `Crew`. Lives in one loop; nothing here may be called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: PoolOptions, host: PoolHost | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.crew: Crew  # set right after, since each needs the other
        self.staffing: Staffing
        self.error: WorkerBootError | PoolClosed | None = None
        """Why it runs nothing any more, where that is so."""
        self.whose: str = "" if host is None else f"{host.name}: "
        """What stands before what it logs."""
        self.scheduler: Scheduler = Scheduler()
        self.accepting: bool = True
        self.submitted: int = 0
        self.inbox: Inbox | None = None
        self.paused: bool = False
        self.maps: weakref.WeakSet[MapState] = weakref.WeakSet()
        self.streams: set[StreamState] = set()
        self.room: Room = Room(loop, options.max_pending, options.max_pending_bytes)
        self._loop = loop
        self._options = options
        self._host = host
        self._grace = options.grace
        self._dropping = False
        self._dispatch_due = False
        self._first_ready: asyncio.Future[None] = loop.create_future()
        self._deadlines: Deadlines[tuple[WorkerHandle, Task, int]] = Deadlines()
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_at = 0.0
        self._heart_timer: asyncio.TimerHandle | None = None
        self._heart_period = options.heartbeat_timeout / 4
        self._oom_kills = cgroup.oom_kills()

    def hire(self, size: int, settings: dict[str, Any]) -> None:
        """Start the workers. Raises OSError where not even the zygote can be started."""
        options = self._options
        memory = memory_limit(cgroup.memory_limit(), size) if options.max_memory is None else options.max_memory
        limits = Limits(options.max_tasks, memory, options.max_age)
        self.crew = Crew(
            self._loop,
            size if options.min_workers is None else min(options.min_workers, size),
            self,
            settings | {"service": "" if self._host is None else self._host.name},
            preload=options.preload,
            fresh=options.start_method == "spawn",
            boot_timeout=options.boot_timeout,
            limits=limits,
            jitter=options.jitter,
            relay=options.relay,
            whose=self.whose,
        )
        self.staffing = Staffing(self._loop, self.crew, options, size, limits)
        self.staffing.watch()

    # -- taking tasks --------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise PoolClosed where no task is accepted any more."""
        if not self.accepting:
            advice = "" if self._host is None else self._host.advice
            raise PoolClosed(f"the pool is closed: it takes no more tasks{advice}") from self.error

    def stop_accepting(self) -> None:
        """Accept no more tasks; open maps take no more items."""
        if self.inbox is not None:
            self.inbox.close()
        self.accepting = False
        self.resume()
        for state in list(self.maps):
            state.stop_taking(PoolClosed("the pool was closed before the map had taken all items"))
        for stream in list(self.streams):
            self.cancel(stream.task)
        self.room.wake()
        if self._host is not None:
            self._host.pool_closing(self.error)

    async def wait_room(self) -> None:
        """Wait until another task may be accepted; raises PoolClosed."""
        self.check_open()
        while self.room.is_full():
            await self.room.wait_change()
            self.check_open()

    def next_number(self) -> int:
        """Return the number of the next task."""
        self.submitted += 1
        return self.submitted

    def submit(self, task: Task) -> None:
        """Accept a task: from here on it settles exactly once."""
        self.room.enter(task)
        self.scheduler.push(task)
        if not self._dispatch_due:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def cancel(self, task: Task) -> None:
        """End a task: at once where it is queued, in its worker where it runs; a settled one is left alone."""
        if task.sink is None or task.ending == "cancel":
            return
        if task.seat < 0:
            self.scheduler.discard(task)
            self._settle_stopped(task)
        elif task.ending is None:
            task.ending = "cancel"
            self._end(task)
        else:
            task.ending = "cancel"  # its timeout has begun to end it already

    def drop_queued(self) -> None:
        """Cancel every task that has not started, now or when a worker gives it back."""
        self._dropping = True
        for task in self.scheduler.clear():
            self._settle_stopped(task)
        for worker in self.crew.workers.values():
            if len(worker.in_flight) > 1:
                worker.nudge()

    async def wait_ready(self) -> None:
        """Wait for the first worker; raises WorkerBootError."""
        await asyncio.shield(self._first_ready)

    async def wait_idle(self) -> None:
        """Wait until every accepted task has settled."""
        await self.room.wait_empty()

    def cancel_running(self) -> None:
        """Have what still runs end as cancelled when its worker is killed."""
        for worker in self.crew.workers.values():
            for task in worker.in_flight.values():
                task.ending = "cancel"

    async def let_maps_go(self) -> None:
        """Wait until no map reads its source any more."""
        for state in list(self.maps):
            await state.wait_pump()

    def close(self) -> None:
        """Forget all timers."""
        self.staffing.close()
        for timer in (self._deadline_timer, self._heart_timer):
            if timer is not None:
                timer.cancel()
        self._deadlines.clear()

    def credit(self, task: Task, items: int) -> None:
        """Say that the reader of a stream has taken some of its items."""
        if task.sink is not None and (worker := self.crew.workers.get(task.seat)) is not None:
            worker.credit(task, items)

    # -- pausing -------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Start nothing more; what was sent ahead comes back."""
        self.paused = True
        for worker in self.crew.workers.values():
            if worker.in_flight:
                worker.nudge()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self._dispatch_soon()

    # -- dispatch ------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        self._dispatch_due = False
        if self.paused:
            return
        for number, tasks in self.scheduler.assign():
            worker = self.crew.workers[number]
            if self.inbox is not None and self.inbox.used:
                tasks = [task for task in tasks if self._claim(task)]
            serials = worker.send(tasks)
            for task, serial in zip(tasks, serials, strict=True):
                if task.timeout is not None:
                    self._watch(worker, task, serial, self._loop.time() + task.timeout)
            self._expect_words(worker)
            if (seat := self.scheduler.seats.get(number)) is not None and seat.budget == 0:
                worker.spent = True
                self.crew.retire(worker, f"it was given its {worker.limits.tasks} tasks")
        if self.room.tasks:
            self.staffing.after_dispatch(queued=bool(self.scheduler.queued))
            if self._heart_timer is None:
                self._heart_timer = self._loop.call_later(self._heart_period, self._check_hearts)

    def _claim(self, task: Task) -> bool:
        """Tell whether a task may be sent; settle it where another thread has cancelled it just now."""
        if task.claim():
            return True
        self.scheduler.release(task, unstarted=True)
        task.seat = -1
        self._settle_stopped(task)
        self._dispatch_soon()
        return False

    def _dispatch_soon(self) -> None:
        if not self._dispatch_due and self.scheduler.queued:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _expect_words(self, worker: WorkerHandle) -> None:
        """Where a worker has more than it can run at once, see to it that a slow task does not hold up the rest."""
        seat = self.scheduler.seats.get(worker.number)
        if seat is None or worker.nudge_timer is not None or seat.stalled:
            return
        if seat.in_flight > seat.at_once:
            worker.nudge_timer = self._loop.call_later(NUDGE_AFTER, self._maybe_nudge, worker, worker.heard)

    def _maybe_nudge(self, worker: WorkerHandle, heard: int) -> None:
        worker.nudge_timer = None
        if worker.heard != heard:
            self._expect_words(worker)
        elif (seat := self.scheduler.seats.get(worker.number)) is not None and seat.in_flight > seat.at_once:
            seat.stalled = True
            worker.nudge()

    # -- WorkerOwner ---------------------------------------------------------------------------------

    def worker_ready(self, worker: WorkerHandle) -> None:
        """Give it a seat."""
        if not worker.leaving:
            self.scheduler.seats[worker.number] = Seat(worker.number, self._options.concurrency, worker.limits.tasks)
        if not self._first_ready.done():
            self._first_ready.set_result(None)
        self._dispatch_soon()

    def worker_answered(self, worker: WorkerHandle, results: list[ResultItem]) -> None:
        """Settle what it has finished, or try it again."""
        for slot, status, micros, payload in results:
            task = worker.release(slot)
            self.scheduler.release(task)
            if task.ending is not None:
                self._ended(worker, task)
            elif status == OK:
                if not task.envelopes & STREAM:
                    task.function.observe(micros * 1e-6)
                self._settle_value(task, payload)
            elif status == CANCELLED:
                self._settle_stopped(task)
            else:
                self._settle_failure(worker, task, payload)
        if (seat := self.scheduler.seats.get(worker.number)) is not None:
            seat.stalled = False
            self._expect_words(worker)
        if not worker.in_flight:
            worker.idle_since = self._loop.time()
            if worker.spent:
                self.crew.dismiss_idle()
        self._dispatch_soon()

    def worker_streamed(self, worker: WorkerHandle, item: ResultItem) -> None:
        """Take an item or the end of a stream; settle the stream when both the end and every item are here."""
        slot, status, index, payload = item
        task = worker.in_flight.get(slot)
        if not isinstance(task, StreamTask):
            raise ProtocolError(f"there is no stream in slot {slot!r}")
        if status == END:
            task.finish(index, payload)
        else:
            task.accept(index, payload)
        if (end := task.ended()) is not None:
            self.worker_answered(worker, [(slot, end[0], 0, end[1])])

    def worker_leaves(self, worker: WorkerHandle) -> None:
        """Take its seat away."""
        self.scheduler.seats.pop(worker.number, None)
        worker.nudge()

    def worker_gave_back(self, worker: WorkerHandle, slots: list[int]) -> None:
        """Put back at the head of the queue what it has not started."""
        for slot in reversed(slots):
            task = worker.release(slot)
            self.scheduler.release(task, unstarted=True)
            worker.spent = False
            if task.ending is not None:
                self._ended(worker, task)
            else:
                self._requeue(task)
        if worker.state == "DRAINING":
            self.scheduler.seats.pop(worker.number, None)
        self._dispatch_soon()

    def worker_exited(self, worker: WorkerHandle, report: ExitReport) -> None:
        """Settle or requeue what it had; the crew replaces it."""
        self.scheduler.seats.pop(worker.number, None)
        if worker.nudge_timer is not None:
            worker.nudge_timer.cancel()
        suspects = [task for task in worker.in_flight.values() if worker.started(task)]
        unstarted = [task for task in worker.in_flight.values() if not worker.started(task)]
        for task in sorted(unstarted, key=lambda task: -task.number):
            if task.ending is not None:
                self._settle_ending(task)
            else:
                self._requeue(task)
        crash = self._crash(worker, report) if suspects else {}
        for task, verdict in judge(suspects, deliberate=worker.deliberate or any(task.ending for task in suspects)):
            self._carry_out(task, verdict, crash)
        worker.in_flight.clear()
        self._dispatch_soon()

    def crew_failed(self, error: WorkerBootError) -> None:
        """Settle everything: nothing will be run any more."""
        self._give_up(error)

    def kill(self, reason: str, *, dump: bool) -> None:
        """Kill all workers, those that are busy after what they do was written down where ``dump`` says so.

        What they run fails with WorkerCrashed, all else with PoolClosed; killed before, or given up: only that.
        """
        if self.error is None:
            self._give_up(PoolClosed(f"the pool was killed: {reason}"))
        self.crew.stop_replacing()
        self.crew.kill(reason, dump=dump)

    def _give_up(self, error: WorkerBootError | PoolClosed) -> None:
        """Settle what is queued, what runs will be when its worker is gone."""
        self.error = error
        self.stop_accepting()
        if not self._first_ready.done():
            self._first_ready.set_exception(error)
            self._first_ready.exception()  # whether or not somebody waits for it
        for task in self.scheduler.clear():
            self._settle_error(task, error)

    def crew_doomed(self) -> None:
        """Cancel everything: what is queued now, what runs with its worker."""
        self.stop_accepting()
        self.drop_queued()
        self.cancel_running()
        if self._host is not None:
            self._host.pool_doomed()

    # -- deaths --------------------------------------------------------------------------------------

    def _crash(self, worker: WorkerHandle, report: ExitReport) -> dict[str, Any]:
        """Return what a WorkerCrashed of this death says."""
        self.counts["crashes"] += 1
        kills = cgroup.oom_kills()
        oom = report.exitcode == -9 and None not in (kills, self._oom_kills) and kills > self._oom_kills  # type: ignore[operator]
        self._oom_kills = kills
        reason = report.reason + (" (the kernel killed it: out of memory)" if oom else "")
        return {
            "reason": reason,
            "exitcode": report.exitcode,
            "oom": oom,
            "pid": worker.pid,
            "slot": worker.number,
            "stderr": worker.relays.stderr_tail(),
            "stacks": worker.stacks,
        }

    def _carry_out(self, task: Task, verdict: str, crash: dict[str, Any]) -> None:
        if verdict == "retry" and self.error is None:
            self.counts["retried"] += 1
            self._requeue(task)
        elif verdict in ("stopped", "timeout"):
            self._settle_ending(task)
        elif verdict == "quarantined":
            self.counts["quarantined"] += 1
            reason = f"{crash['reason']}; it is quarantined: it has killed {task.solo_deaths} workers, each alone"
            self._settle_error(task, TaskQuarantined(**{**crash, "reason": reason}, task=repr(task)))
        else:
            self._settle_error(task, WorkerCrashed(**crash, task=repr(task)))

    def _requeue(self, task: Task) -> None:
        if self.error is not None:
            self._settle_error(task, self.error)
            return
        task.seat = task.slot = -1
        if self._dropping:
            self._settle_stopped(task)
        else:
            self.scheduler.push(task, first=True)

    def _check_hearts(self) -> None:
        self._heart_timer = None
        busy = [worker for worker in self.crew.workers.values() if worker.in_flight]
        for worker in busy:
            if (reason := worker.diagnose(self._loop.time())) is not None:
                _log.warning("%r is killed: %s", worker, reason)
                self.scheduler.seats.pop(worker.number, None)
                worker.condemn(reason)
        if busy or self.room.tasks:
            self._heart_timer = self._loop.call_later(self._heart_period, self._check_hearts)

    # -- ending a task before its time ---------------------------------------------------------------

    def _watch(self, worker: WorkerHandle, task: Task, serial: int, when: float) -> None:
        self._deadlines.add(when, (worker, task, serial))
        if len(self._deadlines) > 2 * self.room.tasks + 1000:  # most are of tasks that have ended
            self._deadlines.retain(lambda item: item[0].has(item[1], item[2]))
        if self._deadline_timer is None or when < self._deadline_at:
            if self._deadline_timer is not None:
                self._deadline_timer.cancel()
            self._look_at_deadlines(when)

    def _look_at_deadlines(self, when: float) -> None:
        self._deadline_at = when  # uvloop's handle cannot tell
        self._deadline_timer = self._loop.call_at(when, self._check_deadlines)

    def _check_deadlines(self) -> None:
        """End the tasks that have run too long; one that started later than it was sent has time left."""
        self._deadline_timer = None
        now = self._loop.time()
        for worker, task, serial in self._deadlines.due(now):
            if not worker.has(task, serial) or task.timeout is None or task.ending is not None:
                continue
            started = worker.started_at_time(task)
            until = now + task.timeout if started is None else started + task.timeout
            if started is not None and until <= now:
                task.ending = "timeout"
                self._end(task)
            else:
                self._deadlines.add(max(until, now + 1e-3), (worker, task, serial))
        if (when := self._deadlines.next()) is not None:
            self._look_at_deadlines(when)

    def _end(self, task: Task) -> None:
        """First step of the ladder: ask. Nothing new is sent to the worker until the task has ended."""
        worker = self.crew.workers[task.seat]
        if (seat := self.scheduler.seats.get(worker.number)) is not None:
            seat.open = False
        worker.cancel(task)
        self._force_later(worker, task, worker.serial(task), self._grace)

    def _force_later(self, worker: WorkerHandle, task: Task, serial: int, delay: float) -> None:
        worker.endings[task.slot] = self._loop.call_later(delay, self._end_by_force, worker, task, serial)

    def _end_by_force(self, worker: WorkerHandle, task: Task, serial: int) -> None:
        """Last step: kill the worker that has not ended the task after ``grace`` seconds."""
        if not worker.has(task, serial):
            return
        if not worker.started(task):  # it waits behind another one; nothing of it runs
            self._force_later(worker, task, serial, max(self._grace, LEAST_GRACE))
            return
        why = "was cancelled" if task.ending == "cancel" else f"ran longer than {task.timeout:g} s"
        self.scheduler.seats.pop(worker.number, None)
        worker.deliberate = True
        worker.condemn(f"it was killed: {task!r} {why} and did not end within {self._grace:g} s")

    def _ended(self, worker: WorkerHandle, task: Task) -> None:
        """A task that was being ended has come back, whatever its own end was."""
        if (timer := worker.endings.pop(task.slot, None)) is not None:
            timer.cancel()
        if not worker.endings and (seat := self.scheduler.seats.get(worker.number)) is not None:
            seat.open = True
        self._settle_ending(task)

    # -- settling ------------------------------------------------------------------------------------

    def _settle_value(self, task: Task, payload: Buffer) -> None:
        try:
            value = pickle.loads(payload)
        except Exception as error:
            text = f"the result of {task!r} cannot be loaded here: {type(error).__qualname__}: {error}"
            failure = RemoteError(text, type_name=type(error).__qualname__)
            failure.__cause__ = error
            self._settle_error(task, failure)
            return
        self.counts["done"] += 1
        task.result_size = len(payload)
        sink = self._settled(task)
        sink.succeed(task, value)

    def _settle_failure(self, worker: WorkerHandle, task: Task, payload: Buffer) -> None:
        error = to_exception(payload, task, repr(worker))
        if task.retry_on and isinstance(error, task.retry_on) and task.attempts < task.retries:
            task.attempts += 1
            self.counts["retried"] += 1
            self._requeue(task)
            return
        self._settle_error(task, error)

    def _settle_ending(self, task: Task) -> None:
        if task.ending == "cancel":
            self._settle_stopped(task)
            return
        self.counts["timed_out"] += 1
        error = TaskTimeout(f"{task!r} ran longer than its timeout of {task.timeout:g} s")
        if task.retry_on and isinstance(error, task.retry_on) and task.attempts < task.retries:
            task.attempts += 1
            task.ending = None
            self.counts["retried"] += 1
            self._requeue(task)
        else:
            self._settle_error(task, error)

    def _settle_error(self, task: Task, error: BaseException) -> None:
        self.counts["failed"] += 1
        sink = self._settled(task)
        sink.fail(task, error)

    def _settle_stopped(self, task: Task) -> None:
        self.counts["cancelled"] += 1
        sink = self._settled(task)
        sink.stopped(task)

    def _settled(self, task: Task) -> Any:
        sink, task.sink = task.sink, None
        assert sink is not None, "a task settles once"
        self.room.leave(task)
        task.payload = b""  # jobs may be kept for long
        return sink
