"""One call in a thread for all tasks that asked before it began."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from aioipc import ClosedResourceError
from aioipc._loop.shared_call import SharedCall
from tests.harness.processes import eventually_async


class Slow:
    """A call that waits until it may go on, and fails if it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = threading.Semaphore(0)
        self.fail = False

    def __call__(self) -> None:
        self.begun += 1
        self.gate.acquire()
        if self.fail:
            raise OSError(errno.EIO, "broken")


async def test_who_comes_during_a_call_shares_the_next() -> None:
    slow = Slow()
    call = SharedCall(slow, "call")
    first = [asyncio.create_task(call.run()) for _ in range(3)]
    await eventually_async(lambda: slow.begun == 1)
    later = [asyncio.create_task(call.run()) for _ in range(3)]
    await asyncio.sleep(0)
    later[0].cancel()
    slow.gate.release()
    await asyncio.gather(first[0])
    await eventually_async(lambda: slow.begun == 2)
    assert not later[1].done()
    slow.gate.release()
    async with asyncio.timeout(20):
        await asyncio.gather(*first, *later[1:])
    assert call.calls == slow.begun == 2
    call.close(lambda: None)
    with pytest.raises(ClosedResourceError):
        await call.run()


async def test_a_failure_comes_out_where_it_was_awaited() -> None:
    slow = Slow()
    call = SharedCall(slow, "call")
    slow.fail = True
    slow.gate.release()
    with pytest.raises(OSError, match="Input/output error") as caught:
        await call.run()
    assert caught.value.errno == errno.EIO
    slow.fail = False
    slow.gate.release()
    await call.run()
    call.close(lambda: None)


async def test_closing_during_a_call() -> None:
    slow = Slow()
    call = SharedCall(slow, "call")
    task = asyncio.create_task(call.run())
    await eventually_async(lambda: slow.begun == 1)
    call.close(lambda: None)
    with pytest.raises(ClosedResourceError):
        await task
    slow.gate.release()
