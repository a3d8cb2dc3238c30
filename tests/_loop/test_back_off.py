"""The back-off: what its pauses are, and when it is nudged."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aioipc._loop.back_off import FIRST, LONGEST, BackOffReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc.exceptions import ClosedResourceError
from aioipc.testing.waiting import eventually_async


class Units:
    """A count that can be taken from, and how often somebody has looked."""

    def __init__(self) -> None:
        self.left = 0
        self.looks = 0
        self.back_off = BackOffReadiness()
        self.queue = WaitQueue(self.back_off, "count")

    def take(self) -> None:
        self.looks += 1
        if not self.left:
            raise BlockingIOError
        self.left -= 1


async def test_it_looks_again() -> None:
    units = Units()
    taking = asyncio.create_task(units.queue.take(units.take))
    await eventually_async(lambda: units.looks > 3)
    units.left = 1  # and tells nobody
    await taking
    assert units.left == 0


async def test_pauses_grow_and_are_short_again_after_a_success() -> None:
    units = Units()
    taking = asyncio.create_task(units.queue.take(units.take))
    await eventually_async(lambda: units.back_off._wasted == LONGEST)
    units.left = 1
    await taking
    again = asyncio.create_task(units.queue.take(units.take))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert units.back_off._pause == FIRST
    again.cancel()
    await asyncio.wait([again])


async def test_nudged() -> None:
    """Nobody waits for the end of a pause where the same process knows better."""
    units = Units()
    taking = [asyncio.create_task(units.queue.take(units.take)) for _ in range(3)]
    await eventually_async(lambda: units.back_off._wasted == LONGEST)
    looks = units.looks
    units.left = 3
    units.back_off.nudge()
    await asyncio.wait(taking)
    assert units.left == 0
    assert units.looks - looks <= 4


async def test_nudged_by_a_thread() -> None:
    units = Units()
    taking = asyncio.create_task(units.queue.take(units.take))
    await eventually_async(lambda: units.queue.waiting)

    def give() -> None:
        units.left = 1
        units.back_off.nudge()

    thread = threading.Thread(target=give)
    thread.start()
    await taking
    thread.join()


async def test_nothing_runs_when_nobody_waits() -> None:
    units = Units()
    taking = asyncio.create_task(units.queue.take(units.take))
    await eventually_async(lambda: units.looks > 2)
    taking.cancel()
    await asyncio.wait([taking])
    await eventually_async(lambda: units.back_off._timer is None)
    units.back_off.nudge()
    assert units.back_off._timer is None


async def test_closing_wakes_and_stops() -> None:
    units = Units()
    taking = asyncio.create_task(units.queue.take(units.take))
    await eventually_async(lambda: units.queue.waiting)
    units.queue.close(lambda: None)
    with pytest.raises(ClosedResourceError):
        await taking
    assert units.back_off._timer is None


def test_nudged_after_the_loop_is_gone() -> None:
    units = Units()

    async def wait() -> None:
        task = asyncio.create_task(units.queue.take(units.take))
        await eventually_async(lambda: units.queue.waiting)
        del task

    asyncio.run(wait())
    units.back_off.nudge()
