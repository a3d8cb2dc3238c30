"""Which task goes to which worker next: pure decisions, no clock and no I/O.

There are three lanes: sync tasks, async tasks, and suspects, which were running when a worker died and now run
alone. A seat (a worker, as the scheduler sees it) has tasks of one lane at a time. Within a lane the higher
priority goes first, then the older task. A seat is given work ahead only for functions known to be quick, up to
`HORIZON` seconds of it, so that what waits behind a slow task is little.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import neg
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Task

SYNC, ASYNC, ALONE = range(3)
HORIZON = 0.004
"""Seconds of work, as estimated, that a seat may have waiting."""
MAX_AHEAD = 512
"""Tasks a seat may have in flight beyond its concurrency."""
LEAST_ESTIMATE = 2e-6
UNKNOWN_ESTIMATE = 1.0
"""Seconds a task is taken for where its function has not run yet: nothing waits behind it, nor for its seat."""


class Lane:
    """Tasks of one kind by priority and age. A task that has settled meanwhile (its sink is gone) is passed over."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[Task]] = {}
        self._order: list[int] = []  # priorities, highest first
        self._size = 0
        self._settled = 0  # at most so many of those that are here have settled

    def __len__(self) -> int:
        return self._size

    def push(self, task: Task, *, first: bool = False) -> None:
        """Queue a task behind the others of its priority, or before them."""
        queue = self._queues.get(task.priority)
        if queue is None:
            queue = self._queues[task.priority] = deque()
            insort(self._order, task.priority, key=neg)
        if first:
            queue.appendleft(task)
        else:
            queue.append(task)
        self._size += 1

    def best(self) -> deque[Task] | None:
        """Return the queue whose head is next, ``None`` where no task is left."""
        while self._order:
            queue = self._queues[self._order[0]]
            while queue:
                if queue[0].sink is not None:
                    return queue
                queue.popleft()
            del self._queues[self._order.pop(0)]
        return None

    def take(self, queue: deque[Task]) -> Task:
        """Take the head of the queue that `best` returned."""
        self._size -= 1
        return queue.popleft()

    def discard(self) -> None:
        """Say that one of the tasks here is about to settle."""
        self._size -= 1
        self._settled += 1
        if self._settled > 2 * self._size + 64:
            self._sweep()

    def _sweep(self) -> None:
        """Let go of the tasks that have settled before they come to the head."""
        for queue in self._queues.values():
            live = [task for task in queue if task.sink is not None]
            queue.clear()
            queue.extend(live)
        self._settled = 1  # the one that is about to


class Seat:
    """A worker as the scheduler sees it."""

    __slots__ = ("budget", "concurrency", "id", "in_flight", "lane", "load", "open", "reserved", "stalled")

    def __init__(self, seat_id: int, concurrency: int, budget: int | None = None) -> None:
        self.id: int = seat_id
        self.concurrency: int = concurrency
        self.open: bool = True
        """False while nothing new may be sent, as before a kill."""
        self.budget: int | None = budget
        """How many more tasks it may be given before it is replaced; ``None`` is any number."""
        self.in_flight: int = 0
        self.load: float = 0.0
        self.lane: int = SYNC
        self.stalled: bool = False
        """True while it has been silent too long to be given anything ahead."""
        self.reserved: int | None = None
        """The lane it was set aside for, once what it has now is done."""

    def accepts(self, lane: int) -> bool:
        """Tell whether a task of the lane may be sent at all; how many is `room`'s matter."""
        if not self.open or self.budget == 0 or (self.reserved is not None and self.reserved != lane):
            return False
        return not self.in_flight or (self.lane == lane != ALONE)

    @property
    def at_once(self) -> int:
        """How many of its tasks can run at the same time."""
        return self.concurrency if self.lane == ASYNC else 1

    def room(self, estimate: float | None) -> int:
        """Return how many more tasks of a function that takes ``estimate`` seconds it should be given."""
        at_once = self.at_once
        room = at_once - self.in_flight
        if estimate is not None and not self.stalled and self.lane != ALONE:
            ahead = (HORIZON * at_once - self.load) / max(estimate, LEAST_ESTIMATE)
            room = min(max(room, int(ahead)), at_once + MAX_AHEAD - self.in_flight)
        return room if self.budget is None else min(room, self.budget)


class Scheduler:
    """All lanes and seats. Push tasks, `assign` them, and say what became of them."""

    def __init__(self) -> None:
        self.lanes: tuple[Lane, Lane, Lane] = (Lane(), Lane(), Lane())
        self.seats: dict[int, Seat] = {}

    @property
    def queued(self) -> int:
        """How many tasks wait for a seat."""
        return len(self.lanes[SYNC]) + len(self.lanes[ASYNC]) + len(self.lanes[ALONE])

    def push(self, task: Task, *, first: bool = False) -> None:
        """Queue a task; ``first`` for one that had its turn and comes back."""
        self.lanes[lane_of(task)].push(task, first=first)

    def discard(self, task: Task) -> None:
        """Say that a queued task has settled."""
        self.lanes[lane_of(task)].discard()

    def clear(self) -> list[Task]:
        """Take all queued tasks out."""
        tasks: list[Task] = []
        for lane in self.lanes:
            while (queue := lane.best()) is not None:
                tasks.append(lane.take(queue))
        return tasks

    def assign(self) -> list[tuple[int, list[Task]]]:
        """Take as many tasks as the seats should have now; returns them by seat, in order."""
        plan: dict[int, list[Task]] = {}
        for seat in self.seats.values():
            if seat.reserved is not None and not (seat.open and self.lanes[seat.reserved]):
                seat.reserved = None
        for lane in self._lanes_by_age():
            self._assign_lane(lane, plan)
        return list(plan.items())

    def release(self, task: Task, *, unstarted: bool = False) -> None:
        """Say that a task is no longer with its seat: answered or lost, or given back without having been started."""
        if (seat := self.seats.get(task.seat)) is not None:
            seat.in_flight -= 1
            seat.load = max(0.0, seat.load - task.estimate) if seat.in_flight else 0.0
            if unstarted and seat.budget is not None:
                seat.budget += 1

    def _lanes_by_age(self) -> list[int]:
        heads = [(queue[0], lane) for lane in range(3) if (queue := self.lanes[lane].best()) is not None]
        if len(heads) > 1:
            heads.sort(key=lambda item: (-item[0].priority, item[0].number))
        return [lane for _, lane in heads]

    def _assign_lane(self, lane: int, plan: dict[int, list[Task]]) -> None:
        seats = [seat for seat in self.seats.values() if seat.accepts(lane)]
        if not seats:
            self._reserve(lane)
            return
        seats.sort(key=lambda seat: (seat.reserved != lane, seat.load, seat.in_flight))
        while seats and self.lanes[lane]:
            share = -(-len(self.lanes[lane]) // len(seats))
            seat = seats.pop(0)
            if given := self._give(seat, self.lanes[lane], lane, share):
                plan.setdefault(seat.id, []).extend(given)
        if not self.lanes[lane]:
            for seat in self.seats.values():
                if seat.reserved == lane:
                    seat.reserved = None

    @staticmethod
    def _give(seat: Seat, queue: Lane, lane: int, share: int) -> list[Task]:
        """Move up to ``share`` tasks from the head of a lane to a seat."""
        given: list[Task] = []
        if not seat.in_flight:
            seat.lane = lane
        while len(given) < share and (tasks := queue.best()) is not None:
            function = tasks[0].function
            room = min(share - len(given), seat.room(function.seconds))
            if room <= 0:
                break
            estimate = UNKNOWN_ESTIMATE if function.seconds is None else function.seconds
            before = len(given)
            for _ in range(room):  # all of one function, as far as they go
                task = queue.take(tasks)
                task.seat, task.estimate = seat.id, estimate
                given.append(task)
                if not tasks or tasks[0].function is not function or tasks[0].sink is None:
                    break
            seat.in_flight += len(given) - before
            seat.load += estimate * (len(given) - before)
            if seat.budget is not None:
                seat.budget -= len(given) - before
        if given:
            seat.reserved = None
        return given

    def _reserve(self, lane: int) -> None:
        """Set the seat that is free soonest aside for a lane that no seat accepts."""
        open_seats = [seat for seat in self.seats.values() if seat.open and seat.budget != 0]
        if not open_seats or any(seat.reserved == lane for seat in open_seats):
            return
        free = [seat for seat in open_seats if seat.reserved is None]
        if free:
            min(free, key=lambda seat: (seat.stalled, seat.load, seat.in_flight)).reserved = lane


def lane_of(task: Task) -> int:
    """Return the lane a task belongs to."""
    if task.suspect:
        return ALONE
    return ASYNC if task.function.is_async else SYNC
