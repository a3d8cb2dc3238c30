"""Which task goes where: a state machine against a plain model, and the cases that have names."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aioipc.pool.functions import Function
from aioipc.pool.job import Task
from aioipc.pool.scheduling import ALONE, ASYNC, HORIZON, MAX_AHEAD, SYNC, Lane, Scheduler, Seat, lane_of

_numbers = itertools.count(1)


class Sink:
    """A task has one until it has settled."""


def function(name: str = "f", *, is_async: bool = False, seconds: float | None = None) -> Function:
    made = Function(1, name, is_async, b"")
    made.seconds = seconds
    return made


def task(of: Function, *, priority: int = 0, suspect: bool = False) -> Task:
    made = Task(next(_numbers), of, b"", Sink(), priority=priority)  # type: ignore[arg-type]
    made.suspect = suspect
    return made


def numbers(tasks: list[Task]) -> list[int]:
    return [each.number for each in tasks]


class Desk:
    """A scheduler and what its master knows: which tasks are queued, in what order, and which are where."""

    def __init__(self, seats: int = 0, concurrency: int = 1) -> None:
        self.scheduler = Scheduler()
        self.queues: dict[int, dict[int, list[Task]]] = {SYNC: {}, ASYNC: {}, ALONE: {}}
        self.held: dict[int, list[Task]] = {}
        self.assigned: set[int] = set()
        self._ids = itertools.count()
        for _ in range(seats):
            self.open_seat(concurrency)

    def open_seat(self, concurrency: int) -> Seat:
        seat = Seat(next(self._ids), concurrency)
        self.scheduler.seats[seat.id] = seat
        self.held[seat.id] = []
        return seat

    @property
    def queued(self) -> list[Task]:
        return [task for lane in self.queues.values() for queue in lane.values() for task in queue]

    @property
    def waiting(self) -> int:
        """How many tasks are queued."""
        return sum(len(queue) for lane in self.queues.values() for queue in lane.values())

    def push(self, each: Task, *, first: bool = False) -> Task:
        queue = self.queues[lane_of(each)].setdefault(each.priority, [])
        queue.insert(0 if first else len(queue), each)
        self.scheduler.push(each, first=first)
        return each

    def settle_queued(self, each: Task) -> None:
        """Cancel a task that waits, as the master does."""
        self.scheduler.discard(each)
        each.sink = None
        self.queues[lane_of(each)][each.priority].remove(each)

    def release(self, each: Task) -> None:
        """Have a task back from its seat: answered, given back or lost."""
        self.held.get(each.seat, [each]).remove(each)
        self.scheduler.release(each)
        self.assigned.discard(each.number)
        each.seat = -1

    def requeue(self, each: Task) -> None:
        self.push(each, first=True)

    def remove_seat(self, number: int) -> list[Task]:
        """A worker has died; return what it had, which is released already, oldest first."""
        del self.scheduler.seats[number]
        lost = self.held.pop(number)
        for each in lost:
            self.assigned.discard(each.number)
            each.seat = -1
        return lost

    def assign(self) -> dict[int, list[Task]]:
        """Assign, and check everything that must be true of what was given to whom."""
        before = {number: list(held) for number, held in self.held.items()}
        plan = self.scheduler.assign()
        given = dict(plan)
        assert len(given) == len(plan), "each seat is named once"
        for number, tasks in plan:
            assert tasks
            self._check_given(self.scheduler.seats[number], before[number], tasks)
        self._check_order(list(itertools.chain.from_iterable(given.values())))
        self._check_nobody_waits_in_vain()
        return given

    def _check_given(self, seat: Seat, had: list[Task], tasks: list[Task]) -> None:
        assert seat.open
        lanes = {lane_of(each) for each in [*had, *tasks]}
        assert len(lanes) == 1, "tasks of two lanes are never at one seat"
        [lane] = lanes
        at_once = seat.concurrency if lane == ASYNC else 1
        if lane == ALONE:
            assert had == []
            assert len(tasks) == 1
        for place, each in enumerate(tasks, len(had)):
            assert each.number not in self.assigned, "no task is with two seats"
            assert each.sink is not None, "what has settled is not run"
            assert each.seat == seat.id
            self.assigned.add(each.number)
            if each.function.seconds is None or seat.stalled:
                assert place < at_once, "nothing goes ahead whose duration is not known, or to a silent worker"
        self.held[seat.id] += tasks
        if len(had) + len(tasks) > at_once:
            assert seat.load <= HORIZON * at_once + 1e-9, "what waits at a seat is little"

    def _check_order(self, given: list[Task]) -> None:
        """Out of each lane: the highest priority first, and within one the order of the queue."""
        for lane, queues in self.queues.items():
            taken = [each for each in given if lane_of(each) == lane]
            for priority in sorted(queues, reverse=True):
                count = min(len(taken), len(queues[priority]))
                assert numbers(taken[:count]) == numbers(queues[priority][:count])
                del taken[:count], queues[priority][:count]
            assert taken == []

    def _check_nobody_waits_in_vain(self) -> None:
        if self.waiting:
            idle = [seat.id for seat in self.scheduler.seats.values() if seat.open and not seat.in_flight]
            assert not idle, f"seats {idle} have nothing to do while {numbers(self.queued)[:10]} wait"

    def check(self) -> None:
        """What is true at any time."""
        assert self.scheduler.queued == self.waiting
        for number, seat in self.scheduler.seats.items():
            assert seat.in_flight == len(self.held[number])
            assert 0 <= seat.in_flight <= seat.at_once + MAX_AHEAD
            assert seat.load >= 0
            assert seat.in_flight or seat.load == 0


# -- the state machine -------------------------------------------------------------------------------

ESTIMATES = st.one_of(st.none(), st.sampled_from([0.0, 1e-7, 1e-5, 2e-4, 1e-3, 0.0039, 0.01, 10.0]))
PICKS = st.integers(0, 10**6)


class SchedulerMachine(RuleBasedStateMachine):
    """All that a master can do to a scheduler, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.functions = [function(f"{'async' if i % 2 else 'sync'}-{i}", is_async=bool(i % 2)) for i in range(6)]
        self.pushed = 0
        self.ended = 0

    def pick(self, tasks: list[Task], number: int) -> Task:
        return tasks[number % len(tasks)]

    @property
    def in_flight(self) -> list[Task]:
        return list(itertools.chain.from_iterable(self.desk.held.values()))

    @rule(index=st.integers(0, 5), seconds=ESTIMATES)
    def learn(self, index: int, seconds: float | None) -> None:
        self.functions[index].seconds = seconds

    @rule(index=st.integers(0, 5), priority=st.integers(-1, 1), count=st.sampled_from([1, 1, 1, 2, 2, 5, 40, 600]))
    def submit(self, index: int, priority: int, count: int) -> None:
        for _ in range(count):
            self.desk.push(task(self.functions[index], priority=priority))
            self.pushed += 1

    @precondition(lambda self: len(self.desk.held) < 4)
    @rule(concurrency=st.integers(1, 4))
    def worker_ready(self, concurrency: int) -> None:
        self.desk.open_seat(concurrency)

    @rule()
    def dispatch(self) -> None:
        self.desk.assign()

    @precondition(lambda self: self.desk.waiting)
    @rule(number=PICKS)
    def cancel_queued(self, number: int) -> None:
        self.desk.settle_queued(self.pick(self.desk.queued, number))
        self.ended += 1

    @precondition(lambda self: self.in_flight)
    @rule(number=PICKS, count=st.sampled_from([1, 1, 3, 1000]), seconds=ESTIMATES)
    def worker_answers(self, number: int, count: int, seconds: float | None) -> None:
        seat = self.pick(self.in_flight, number).seat
        for each in self.desk.held[seat][:count]:
            if seconds is not None:
                each.function.observe(seconds)
            self.desk.release(each)
            self.ended += 1
        self.desk.scheduler.seats[seat].stalled = False

    @precondition(lambda self: self.in_flight)
    @rule()
    def all_answer(self) -> None:
        """In one turn of the loop, before the next dispatch."""
        for each in self.in_flight:
            self.desk.release(each)
            self.ended += 1

    @precondition(lambda self: self.in_flight)
    @rule(number=PICKS, kept=st.integers(0, 3))
    def worker_gives_back(self, number: int, kept: int) -> None:
        """It names what it has not begun, oldest first; that comes back to the head of the queue in that order."""
        seat = self.pick(self.in_flight, number).seat
        for each in reversed(self.desk.held[seat][kept:]):
            self.desk.release(each)
            self.desk.requeue(each)

    @precondition(lambda self: self.desk.held)
    @rule(number=PICKS, begun=st.integers(0, 3), retried=st.booleans())
    def worker_dies(self, number: int, begun: int, retried: bool) -> None:
        seat = sorted(self.desk.held)[number % len(self.desk.held)]
        lost = self.desk.remove_seat(seat)
        for each in reversed(lost[begun:]):
            self.desk.requeue(each)
        for each in lost[:begun]:
            if retried:
                each.suspect = True
                self.desk.requeue(each)
            else:
                self.ended += 1

    @precondition(lambda self: self.desk.held)
    @rule(number=PICKS, is_open=st.booleans(), stalled=st.booleans())
    def worker_changes(self, number: int, is_open: bool, stalled: bool) -> None:
        seat = self.desk.scheduler.seats[sorted(self.desk.held)[number % len(self.desk.held)]]
        seat.open, seat.stalled = is_open, stalled

    @rule()
    def drop_queued(self) -> None:
        dropped = self.desk.scheduler.clear()
        assert sorted(numbers(dropped)) == sorted(numbers(self.desk.queued))
        for queues in self.desk.queues.values():
            queues.clear()
        self.ended += len(dropped)

    @invariant()
    def consistent(self) -> None:
        self.desk.check()
        assert self.ended + self.desk.waiting + len(self.in_flight) == self.pushed, "no task is lost or doubled"

    def teardown(self) -> None:
        """Where workers go on working, every task gets its turn."""
        if not self.desk.held:
            self.desk.open_seat(2)
        for seat in self.desk.scheduler.seats.values():
            seat.open, seat.stalled = True, False
        while before := self.desk.waiting:
            for each in self.in_flight:
                self.desk.release(each)
            self.desk.assign()
            assert self.desk.waiting < before
        self.desk.check()


TestScheduler = pytest.mark.timeout(400)(SchedulerMachine.TestCase)  # to make a failure small takes its time
TestScheduler.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, phases=set(Phase) - {Phase.explain}
)


# -- nobody starves ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    seats=st.integers(1, 3),
    concurrency=st.integers(1, 3),
    seconds=st.sampled_from([None, 1e-3, 5e-5]),
    victim_lane=st.sampled_from([SYNC, ASYNC, ALONE]),
    order=st.randoms(use_true_random=False),
)
def test_a_stream_in_the_other_lanes_starves_nobody(
    seats: int, concurrency: int, seconds: float | None, victim_lane: int, order: Any
) -> None:
    """One task waits in its lane while the other two, of the same priority, are never empty and no seat is idle."""
    desk = Desk(seats, concurrency)
    kinds = {
        SYNC: function("sync", seconds=seconds),
        ASYNC: function("async", is_async=True, seconds=seconds),
        ALONE: function("alone"),
    }

    def submit(lane: int) -> Task:
        return desk.push(task(kinds[lane], suspect=lane == ALONE))

    streams = [lane for lane in (SYNC, ASYNC, ALONE) if lane != victim_lane]
    for lane in streams:
        for _ in range(30):
            submit(lane)
    desk.assign()
    victim = submit(victim_lane)
    desk.assign()
    ahead = sum(map(len, desk.held.values()))
    for _ in range(20 * ahead + 20):
        if victim.seat >= 0:
            return
        numbers_of_seats = list(desk.held)
        order.shuffle(numbers_of_seats)
        for number in numbers_of_seats:  # each seat answers one: none ever hangs, none is ever quicker
            if desk.held[number]:
                done = desk.held[number][0]
                desk.release(done)
                submit(lane_of(done) if lane_of(done) in streams else streams[0])
                desk.assign()
    pytest.fail(f"the task has waited while {20 * ahead + 20} rounds of others were done")


def test_a_seat_that_hangs_is_not_the_one_to_wait_for() -> None:
    """Of a task that runs for the first time nobody knows how long it takes."""
    desk = Desk(seats=2)
    hanging = desk.push(task(function("hangs")))
    desk.assign()
    desk.scheduler.seats[hanging.seat].stalled = True
    quick = function("quick", seconds=1e-3)
    for _ in range(20):
        desk.push(task(quick))
    desk.assign()
    waiting = desk.push(task(function("async", is_async=True)))
    for _ in range(50):
        [busy] = [number for number in desk.held if number != hanging.seat]
        desk.release(desk.held[busy][0])
        desk.push(task(quick))
        desk.assign()
        if waiting.seat >= 0:
            return
    pytest.fail("it waits for the seat that hangs while the other one takes new work all the time")


def test_a_reservation_that_was_not_needed_ends() -> None:
    """A seat that was set aside for a suspect does not wait for it any more once another seat has taken it."""
    desk = Desk(seats=2)
    desk.push(task(function("async", is_async=True, seconds=10.0)))
    desk.push(task(function("sync", seconds=1.0)))
    first, second = desk.assign()
    desk.push(task(function("suspect"), suspect=True))
    desk.assign()
    desk.push(task(function("sync", seconds=1.0)))
    for number in (first, second):
        desk.release(desk.held[number][0])
    desk.assign()  # checks that nobody is idle
    assert desk.queued == []


def test_a_suspect_that_hangs_does_not_hold_up_the_others() -> None:
    """A suspect waits for a seat that works, not behind one of its own kind."""
    desk = Desk(seats=2)
    hanging = desk.push(task(function("hangs"), suspect=True))
    desk.assign()
    quick = function("quick", seconds=1e-3)
    for _ in range(10):
        desk.push(task(quick))
    desk.assign()
    waiting = desk.push(task(function("waits"), suspect=True))
    [busy] = [number for number in desk.held if number != hanging.seat]
    for _ in range(50):
        desk.release(desk.held[busy][0])
        desk.push(task(quick))
        desk.assign()
        if waiting.seat == busy:
            return
    pytest.fail("it waits for the one that hangs")


def test_one_seat_is_set_aside_and_no_more() -> None:
    desk = Desk(seats=4)
    slow = function("slow", seconds=1.0)
    for _ in range(8):
        desk.push(task(slow))
    desk.assign()
    desk.push(task(function("suspect"), suspect=True))
    for _ in range(5):
        desk.assign()
    assert [seat.reserved for seat in desk.scheduler.seats.values()].count(ALONE) == 1


def test_a_seat_is_set_aside_no_longer_than_somebody_wants_it() -> None:
    desk = Desk(seats=1)
    quick = function("quick", seconds=HORIZON / 2)
    for _ in range(5):
        desk.push(task(quick))
    first, _ = desk.assign()[0]
    cancelled = desk.push(task(function("async", is_async=True), priority=1))
    desk.assign()
    desk.release(first)
    assert desk.assign() == {}, "it is set aside: nothing more of what it has"
    desk.settle_queued(cancelled)
    assert [len(tasks) for tasks in desk.assign().values()] == [1]


def test_an_empty_seat_has_no_load_left_from_rounding() -> None:
    desk = Desk(seats=1)
    for seconds in (0.0001, 0.0002, 0.0007, 0.0011):
        desk.push(task(function(str(seconds), seconds=seconds)))
    for each in desk.assign()[0]:
        desk.release(each)
    assert desk.scheduler.seats[0].load == 0


# -- how much a seat is given ------------------------------------------------------------------------


def test_unknown_functions_one_each() -> None:
    desk = Desk(seats=3)
    for _ in range(10):
        desk.push(task(function("unknown")))
    assert [len(tasks) for tasks in desk.assign().values()] == [1, 1, 1]


def test_unknown_async_functions_as_many_as_run_at_once() -> None:
    desk = Desk(seats=2, concurrency=3)
    unknown = function("unknown", is_async=True)
    for _ in range(10):
        desk.push(task(unknown))
    assert [len(tasks) for tasks in desk.assign().values()] == [3, 3]


def test_nothing_is_put_behind_a_task_of_unknown_duration() -> None:
    desk = Desk(seats=1)
    desk.push(task(function("unknown")))
    for _ in range(10):
        desk.push(task(function("quick", seconds=1e-5)))
    assert [len(tasks) for tasks in desk.assign().values()] == [1]


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(10.0, 1), (HORIZON, 1), (HORIZON / 2, 2), (HORIZON / 100, 100), (1e-9, 1 + MAX_AHEAD), (0.0, 1 + MAX_AHEAD)],
)
def test_as_much_ahead_as_is_done_soon(seconds: float, count: int) -> None:
    desk = Desk(seats=1)
    known = function("known", seconds=seconds)
    for _ in range(2000):
        desk.push(task(known))
    [given_first] = desk.assign().values()
    assert len(given_first) in (count, count - 1), "less one for the rounding of a sum"
    assert desk.assign() == {}
    desk.release(given_first[0])
    assert [len(tasks) for tasks in desk.assign().values()] == [1]


def test_a_little_work_is_shared_evenly() -> None:
    desk = Desk(seats=4)
    quick = function("quick", seconds=1e-5)
    for _ in range(40):
        desk.push(task(quick))
    assert [len(tasks) for tasks in desk.assign().values()] == [10] * 4


def test_the_seat_with_less_to_do_is_given_more() -> None:
    desk = Desk(seats=2)
    quick = function("quick", seconds=1e-5)
    for _ in range(20):
        desk.push(task(quick))
    desk.assign()
    for each in list(desk.held[1]):
        desk.release(each)
    desk.push(task(quick))
    assert list(desk.assign()) == [1]


def test_a_silent_seat_is_given_nothing_ahead() -> None:
    desk = Desk(seats=1)
    quick = function("quick", seconds=1e-5)
    for _ in range(3):
        desk.push(task(quick))
    desk.scheduler.seats[0].stalled = True
    assert [len(tasks) for tasks in desk.assign().values()] == [1]
    desk.scheduler.seats[0].stalled = False
    assert [len(tasks) for tasks in desk.assign().values()] == [2]


def test_a_closed_seat_is_given_nothing() -> None:
    desk = Desk(seats=1)
    desk.push(task(function()))
    desk.scheduler.seats[0].open = False
    assert desk.assign() == {}
    desk.scheduler.seats[0].open = True
    assert list(desk.assign()) == [0]


# -- order -------------------------------------------------------------------------------------------


def test_priority_then_age_and_what_comes_back_first() -> None:
    desk = Desk(seats=1)
    one = function("one", seconds=10.0)
    low, high, low_too, high_too = (desk.push(task(one, priority=priority)) for priority in (0, 5, 0, 5))
    back = desk.push(task(one, priority=0), first=True)
    order = []
    while given := desk.assign():
        [[each]] = given.values()
        order.append(each)
        desk.release(each)
    assert numbers(order) == numbers([high, high_too, back, low, low_too])


def test_the_lane_with_the_more_urgent_task_has_the_first_choice() -> None:
    for priorities, expected in (((0, 0), SYNC), ((0, 1), ASYNC), ((1, 0), SYNC)):
        desk = Desk(seats=1)
        desk.push(task(function("sync"), priority=priorities[0]))
        desk.push(task(function("async", is_async=True), priority=priorities[1]))
        [[first]] = desk.assign().values()
        assert lane_of(first) == expected


def test_lanes() -> None:
    assert lane_of(task(function())) == SYNC
    assert lane_of(task(function(is_async=True))) == ASYNC
    assert lane_of(task(function(), suspect=True)) == lane_of(task(function(is_async=True), suspect=True)) == ALONE


def test_a_release_by_a_seat_that_is_gone() -> None:
    desk = Desk(seats=1)
    each = desk.push(task(function()))
    desk.assign()
    del desk.scheduler.seats[0]
    desk.scheduler.release(each)


class Compared(int):
    """A priority that counts how often it is compared."""

    count = 0

    def __lt__(self, other: int) -> bool:
        Compared.count += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Compared.count += 1
        return int(self) > int(other)


def test_many_different_priorities_stay_cheap() -> None:
    """As with the deadline for a priority: each task has its own, and the lane is never empty."""
    lane, slow, count = Lane(), function(), 1000
    Compared.count = 0
    for i in range(count):
        lane.push(task(slow, priority=Compared(-i)))
    assert Compared.count <= count * 40, "about the logarithm for each, not all of them each time"
    for i in range(count):
        queue = lane.best()
        assert queue is not None
        assert lane.take(queue).priority == -i
    assert lane.best() is None
