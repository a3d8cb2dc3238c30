"""`Change`: every waiter is woken by the next change, and a cancelled one is forgotten."""

from __future__ import annotations

import asyncio

from aioipc._loop.change import Change


async def start(*coroutines: object) -> list[asyncio.Task[None]]:
    """Begin to run them, as far as they come."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    return tasks


async def test_every_waiter_is_woken() -> None:
    change = Change(asyncio.get_running_loop())
    waiters = await start(*(change.wait_change() for _ in range(5)))
    assert not any(waiter.done() for waiter in waiters)
    change.notify()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiters)


async def test_a_change_before_the_wait_is_none() -> None:
    """Who waits looks first whether it has to."""
    change = Change(asyncio.get_running_loop())
    change.notify()
    [waiter] = await start(change.wait_change())
    change.notify()
    change.notify()
    await waiter
    [waiter] = await start(change.wait_change())
    assert not waiter.done()
    change.notify()
    await waiter


async def test_who_waits_again_waits_for_the_next_change() -> None:
    change = Change(asyncio.get_running_loop())
    seen: list[int] = []

    async def watch() -> None:
        while len(seen) < 3:
            await change.wait_change()
            seen.append(values[-1])

    values: list[int] = []
    [watcher] = await start(watch())
    for value in (1, 2, 3):
        values.append(value)
        change.notify()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen == [1, 2, 3]
    assert watcher.done()


async def test_a_cancelled_waiter_changes_nothing() -> None:
    change = Change(asyncio.get_running_loop())
    first, second, third = await start(*(change.wait_change() for _ in range(3)))
    second.cancel()
    await asyncio.sleep(0)
    change.notify()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_cancelled_as_it_is_notified() -> None:
    change = Change(asyncio.get_running_loop())
    first, second = await start(change.wait_change(), change.wait_change())
    change.notify()
    first.cancel()
    await second
    await asyncio.wait([first])
    assert first.cancelled()
    [third] = await start(change.wait_change())
    assert not third.done()
    change.notify()
    await third


async def test_those_that_give_up_are_not_kept() -> None:
    """A reader that polls with timeouts waits again and again before anything changes."""
    change = Change(asyncio.get_running_loop())
    for _ in range(100):
        [waiter] = await start(change.wait_change())
        waiter.cancel()
        await asyncio.wait([waiter])
    assert len(change._waiters) == 0
