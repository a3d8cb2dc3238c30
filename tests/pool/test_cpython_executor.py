"""CPython's own tests of executors, run on `Pool.executor`: Python is the judge of what an Executor does.

They are imported from the interpreter's test package, which 3.13 and later ship in parts that can be used alone.
Left out, since they are about something else:

- ``test_max_workers_negative`` is about the arguments of the executor's class; `test_pool.py` has those of a Pool.
- ``test_free_reference_yielded_future`` and ``test_correct_timeout_exception_msg`` do not use the executor.
- On uvloop, all that wait for seconds: what differs between the loops is how calls and results cross threads.
"""

from __future__ import annotations

import asyncio
import threading
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import aioipc

from ..conftest import LOOPS, LoopFactory

REASON = "this interpreter does not ship CPython's tests of executors in parts"
executor_tests = pytest.importorskip("test.test_concurrent_futures.executor", reason=REASON)
wait_tests = pytest.importorskip("test.test_concurrent_futures.test_wait", reason=REASON)
as_completed_tests = pytest.importorskip("test.test_concurrent_futures.test_as_completed", reason=REASON)


class LoopThread:
    """A thread with a loop and a pool in it, for programs that are not async."""

    def __init__(self, new_loop: LoopFactory, workers: int) -> None:
        self.pool: aioipc.Pool
        self._new_loop = new_loop
        self._workers = workers
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._opened.wait(30)

    def close(self) -> None:
        """Leave the pool and end the thread."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        async with aioipc.Pool(self._workers, shutdown=1) as self.pool:
            self._opened.set()
            await self._over.wait()


class OnPool(unittest.TestCase):
    """What CPython's mixins expect: an executor with so many workers."""

    loop: ClassVar[str] = "asyncio"
    worker_count = 5
    executor: Any

    def setUp(self) -> None:
        self.thread = LoopThread(LOOPS[self.loop], self.worker_count)
        self.addCleanup(self.thread.close)
        self.executor = self.thread.pool.executor

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        self.executor = None


def left_out(reason: str) -> Callable[..., None]:
    def skipped(self: unittest.TestCase) -> None:
        raise unittest.SkipTest(reason)

    return skipped


class TestExecutor(OnPool, executor_tests.ExecutorTest):
    test_max_workers_negative = left_out("a PoolExecutor is made by its pool, which checks the number of workers")


class TestWait(OnPool, wait_tests.WaitTests):
    pass


class TestAsCompleted(OnPool, as_completed_tests.AsCompletedTests):
    test_free_reference_yielded_future = left_out("does not use the executor")
    test_correct_timeout_exception_msg = left_out("does not use the executor")


@pytest.mark.skipif("uvloop" not in LOOPS, reason="uvloop is not made for this interpreter")
class TestExecutorOnUvloop(OnPool, executor_tests.ExecutorTest):
    loop = "uvloop"
    test_max_workers_negative = left_out("a PoolExecutor is made by its pool, which checks the number of workers")
    test_map_timeout = left_out("waits for seconds, and has run on asyncio")
