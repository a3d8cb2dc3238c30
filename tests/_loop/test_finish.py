"""Waiting for an end that no cancellation interrupts."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from aioipc._loop.finish import finish


async def value(release: asyncio.Event) -> str:
    await release.wait()
    return "done"


async def test_result_and_error() -> None:
    release = asyncio.Event()
    release.set()
    assert await finish(asyncio.create_task(value(release))) == "done"

    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await finish(asyncio.create_task(fail()))


async def test_cancelled_again_and_again() -> None:
    release = asyncio.Event()
    task = asyncio.create_task(value(release))
    waiting = asyncio.create_task(finish(task))
    for _ in range(5):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert task.result() == "done"


async def test_in_a_cancelled_scope() -> None:
    release = asyncio.Event()
    task = asyncio.create_task(value(release))
    asyncio.get_running_loop().call_later(0.01, release.set)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await finish(task) == "done"
        await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_several_wait_for_one() -> None:
    release = asyncio.Event()
    task = asyncio.create_task(value(release))
    waiting = [asyncio.create_task(finish(task)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    release.set()
    await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert [each.result() for each in waiting[1:]] == ["done", "done"]


async def test_the_task_itself_is_cancelled() -> None:
    task = asyncio.create_task(value(asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finish(task)
