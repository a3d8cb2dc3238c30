"""The wait queue over a pretended object, where every interleaving can be made."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioipc import ClosedResourceError, WouldBlock
from aioipc._loop.fairness import OPERATIONS, current_turn
from aioipc._loop.wait_queue import WaitQueue

from .objects import OneShot, turns


def make() -> tuple[OneShot, WaitQueue]:
    source = OneShot()
    return source, WaitQueue(source, "thing")


async def test_takes_at_once_what_is_there() -> None:
    source, queue = make()
    source.put(1)
    assert await queue.take(source.take) == 1
    assert not source.armed


async def test_gives_the_arguments_on() -> None:
    _, queue = make()
    assert await queue.take(divmod, 7, 2) == (3, 1)
    assert queue.take_nowait(divmod, 7, 2) == (3, 1)


async def test_waits_and_then_takes() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    assert queue.waiting == 1
    source.put(1)
    assert await task == 1
    assert queue.waiting == 0


async def test_a_wake_up_for_nothing_does_not_end_the_wait() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    for _ in range(3):
        assert source.fire()
        await turns()
        assert not task.done()
        assert source.armed, "listens again"
    source.put(1)
    assert await task == 1


async def test_first_come_first_served() -> None:
    source, queue = make()
    tasks = [asyncio.create_task(queue.take(source.take)) for _ in range(5)]
    await turns()
    source.put(*range(5))
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]


async def test_a_newcomer_does_not_overtake_a_woken_task() -> None:
    source, queue = make()
    first = asyncio.create_task(queue.take(source.take))
    await turns()
    source.items.append(1)
    source.fire()  # it is woken and has not run yet
    with pytest.raises(WouldBlock, match="other tasks wait"):
        queue.take_nowait(source.take)
    second = asyncio.create_task(queue.take(source.take))
    source.put(2)
    assert await asyncio.gather(second, first) == [2, 1]


async def test_a_task_woken_for_nothing_keeps_its_place() -> None:
    source, queue = make()
    first, second = (asyncio.create_task(queue.take(source.take)) for _ in range(2))
    await turns()
    source.fire()
    await turns()
    source.put(1, 2)
    assert await asyncio.gather(second, first) == [2, 1]


async def test_two_takers_share_evenly() -> None:
    source, queue = make()
    counts = [0, 0]

    async def taker(number: int) -> None:
        while await queue.take(source.take):
            counts[number] += 1

    tasks = [asyncio.create_task(taker(number)) for number in range(2)]
    await turns()
    for _ in range(100):
        source.put(1)
        await turns(6)
    source.put(0, 0)
    await asyncio.gather(*tasks)
    assert counts == [50, 50]


async def test_cancelled_while_asleep() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.put(1)
    await turns()
    assert list(source.items) == [1]
    assert queue.waiting == 0
    assert await queue.take(source.take) == 1


async def test_cancelled_while_asleep_wakes_nobody() -> None:
    source, queue = make()
    first, second = (asyncio.create_task(queue.take(source.take)) for _ in range(2))
    await turns()
    attempts = source.attempts
    first.cancel()
    await turns()
    assert source.attempts == attempts
    source.put(1)
    assert await second == 1


async def test_cancelled_and_woken_at_once_takes_nothing_and_wakes_the_next() -> None:
    source, queue = make()
    first, second = (asyncio.create_task(queue.take(source.take)) for _ in range(2))
    await turns()
    source.items.append(1)
    assert source.fire()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(5):
        assert await second == 1


async def test_woken_and_cancelled_at_once_wakes_the_next() -> None:
    source, queue = make()
    first, second = (asyncio.create_task(queue.take(source.take)) for _ in range(2))
    await turns()
    first.cancel()
    source.items.append(1)
    assert source.fire(), "the one that is not being cancelled is woken"
    async with asyncio.timeout(5):
        assert await second == 1
    assert first.cancelled()


async def test_cancelled_before_its_first_step() -> None:
    source, queue = make()
    source.put(1)
    task = asyncio.create_task(queue.take(source.take))
    task.cancel()
    await asyncio.wait([task])
    assert list(source.items) == [1]


async def test_a_cancel_scope_around_it() -> None:
    source, queue = make()
    with anyio.move_on_after(0.001) as scope:
        await queue.take(source.take)
    assert scope.cancelled_caught
    assert queue.waiting == 0


async def test_an_error_reaches_its_task_and_the_next_has_its_try() -> None:
    source, queue = make()

    def fail() -> int:
        source.take()
        raise ZeroDivisionError

    first = asyncio.create_task(queue.take(fail))
    second = asyncio.create_task(queue.take(source.take))
    await turns()
    source.put(1, 2)
    async with asyncio.timeout(5):
        with pytest.raises(ZeroDivisionError):
            await first
        assert await second == 2


async def test_nowait() -> None:
    source, queue = make()
    with pytest.raises(WouldBlock, match="this thing is not ready"):
        queue.take_nowait(source.take)
    source.put(1)
    assert queue.take_nowait(source.take) == 1


async def test_close_wakes_all_and_frees_last() -> None:
    source, queue = make()
    tasks = [asyncio.create_task(queue.take(source.take)) for _ in range(3)]
    await turns()
    freed = []
    queue.close(lambda: freed.append(source.closed))
    queue.close(lambda: pytest.fail("freed twice"))
    assert freed == [True], "it stopped listening first"
    for task in tasks:
        with pytest.raises(ClosedResourceError, match="the thing is closed"):
            await task
    with pytest.raises(ClosedResourceError):
        await queue.take(source.take)
    with pytest.raises(ClosedResourceError):
        queue.take_nowait(source.take)


async def test_close_comes_before_a_woken_task_takes() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    source.items.append(1)
    source.fire()
    queue.close(lambda: None)
    with pytest.raises(ClosedResourceError):
        await task
    assert list(source.items) == [1]


async def test_close_in_another_thread_is_done_by_the_loop() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    where: list[int] = []
    thread = threading.Thread(target=queue.close, args=[lambda: where.append(threading.get_ident())])
    thread.start()
    thread.join()
    with pytest.raises(ClosedResourceError):
        await task
    assert where == [threading.get_ident()]


async def test_a_source_that_cannot_listen_is_an_error_and_no_hang() -> None:
    source, queue = make()
    source.arm = lambda report: 1 / 0  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        await queue.take(source.take)
    assert queue.waiting == 0


async def test_the_second_report_in_a_row_that_nobody_wants_disarms() -> None:
    source, queue = make()
    reports = []
    source.arm = reports.append  # type: ignore[method-assign,assignment]
    source.armed = True
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    report = reports[0]
    source.items.extend([1, 2])
    assert report()
    await task
    report()
    assert source.armed
    await queue.take(source.take)
    report()
    assert source.armed, "something was taken in between"
    report()
    assert not source.armed


async def test_yields_after_64_immediate_successes() -> None:
    source, queue = make()
    source.items.extend(range(OPERATIONS * 3))
    marks: list[int] = []

    def mark() -> None:
        marks.append(source.attempts)
        if source.items:
            loop.call_soon(mark)

    current_turn().renew()
    loop = asyncio.get_running_loop()
    loop.call_soon(mark)
    while source.items:
        await queue.take(source.take)
    assert max(after - before for before, after in zip([0, *marks], marks, strict=False)) <= OPERATIONS
    assert len(marks) >= 2


async def test_a_cancellation_strikes_before_the_take() -> None:
    source, queue = make()
    source.items.extend(range(1000))
    taken: list[int] = []

    async def take_all() -> None:
        while True:
            taken.append(await queue.take(source.take))

    current_turn().renew()
    task = asyncio.create_task(take_all())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert taken
    assert taken + list(source.items) == list(range(1000))


async def test_a_task_that_yields_does_not_overtake_who_waits_when_it_is_back() -> None:
    source, queue = make()
    while not current_turn().spend():
        pass
    yielding = queue.take(source.take)
    assert yielding.send(None) is None
    current_turn().renew()
    waiting = asyncio.create_task(queue.take(source.take))
    await turns()
    source.items.append(1)
    assert yielding.send(None) is not None, "it waits too"
    yielding.close()
    source.fire()
    assert await waiting == 1


async def test_a_real_wait_renews_the_allowance() -> None:
    source, queue = make()
    task = asyncio.create_task(queue.take(source.take))
    await turns()
    while not current_turn().spend():
        pass
    source.put(1)
    assert await task == 1
    assert not current_turn().spend()


def test_a_second_loop_is_refused() -> None:
    source, queue = make()
    source.items.extend([1, 2])
    asyncio.run(queue.take(source.take))
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        asyncio.run(queue.take(source.take))
    queue.close(lambda: None)


def test_no_loop_is_refused() -> None:
    source, queue = make()
    with pytest.raises(RuntimeError, match=r"needs a running asyncio .* loop"):
        queue.take(source.take).send(None)


def test_close_after_the_loop() -> None:
    source, queue = make()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.take(source.take))
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_exception_handler = lambda context: None  # type: ignore[method-assign]
    loop.close()
    freed: list[None] = []
    queue.close(lambda: freed.append(None))
    assert freed
    task._log_destroy_pending = False  # type: ignore[attr-defined]


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["put", "take", "turn", "fire"]),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_history_loses_nothing_doubles_nothing_and_keeps_the_order(
    steps: list[str | tuple[str, int]],
) -> None:
    source, queue = make()
    tasks: list[asyncio.Task[int]] = []
    put = 0
    for step in steps:
        if step == "put":
            source.put(put)
            put += 1
        elif step == "take":
            tasks.append(asyncio.create_task(queue.take(source.take)))
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "fire":
            source.fire()
        elif tasks:
            tasks[int(step[1]) % len(tasks)].cancel()
    await turns(5 * (len(tasks) + 1))
    received = [task.result() for task in tasks if task.done() and not task.cancelled()]
    assert received + list(source.items) == list(range(put)), "each once, in the order of asking"
    asleep = [task for task in tasks if not task.done()]
    assert not (asleep and source.items), "nobody sleeps beside what he waits for"
    assert queue.waiting == len(asleep)
    for task in asleep:
        task.cancel()
    await asyncio.gather(*asleep, return_exceptions=True)
    assert queue.waiting == 0
