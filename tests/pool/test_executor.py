"""`Pool.executor`: the pool as threads see it. CPython's own tests of executors are in `test_cpython_executor.py`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import eventually_async
from ..harness.scripts import run_script
from . import sample_functions as f
from .fault_functions import Journal, noted

LONG = 20.0
"""Seconds that a thread waits at most for what must come."""


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    async with f.open_pool(2) as pool:
        yield pool


@pytest_asyncio.fixture
async def single() -> AsyncIterator[aioipc.Pool]:
    """One worker: what is submitted later has to wait."""
    async with f.open_pool(1, preload=[f.__name__]) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[f.Gate]:
    gate = f.Gate(tmp_path)
    yield gate
    gate.close()


async def in_threads(count: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Call ``function(*args, number)`` in so many threads at once."""
    barrier = threading.Barrier(count)

    def call(number: int) -> Any:
        barrier.wait(LONG)
        return function(*args, number)

    return await asyncio.gather(*(in_thread(call, number) for number in range(count)))


async def in_thread(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call the function in a thread of its own, which ends with it."""
    loop, done = asyncio.get_running_loop(), Future[Any]()

    def call() -> None:
        try:
            done.set_result(function(*args, **keywords))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        return await asyncio.wrap_future(done, loop=loop)
    finally:
        thread.join(LONG)


async def held(pool: aioipc.Pool, gate: f.Gate) -> Future[Any]:
    """A future whose task is at the gate."""
    future = pool.executor.submit(f.pass_gate, gate.path, "held")
    await gate.wait_arrived()
    return future


# -- calls and results -----------------------------------------------------------------------------------


async def test_results(pool: aioipc.Pool) -> None:
    def calls(executor: aioipc.PoolExecutor) -> list[Any]:
        futures: list[Future[Any]] = [
            executor.submit(f.square, 7),
            executor.submit(f.async_square, 7),
            executor.submit(lambda x: x + 1, 7),
            executor.submit(sorted, [1, 3, 2], reverse=True),
            executor.submit(dict, self=1, fn=2),
        ]
        return [future.result(LONG) for future in futures]

    expected = [49, 49, 8, [3, 2, 1], {"self": 1, "fn": 2}]
    assert await in_thread(calls, pool.executor) == expected
    assert [await asyncio.wrap_future(pool.executor.submit(f.square, x)) for x in range(3)] == [0, 1, 4]


async def test_errors(pool: aioipc.Pool) -> None:
    def calls(executor: aioipc.PoolExecutor) -> None:
        future = executor.submit(f.inner, 0)
        with pytest.raises(ZeroDivisionError) as caught:
            future.result(LONG)
        assert isinstance(caught.value.__cause__, aioipc.RemoteTraceback)
        assert future.exception() is caught.value
        with pytest.raises(TimeoutError, match="of its own"):
            executor.submit(f.raise_, TimeoutError, "of its own").result(LONG)
        with pytest.raises(aioipc.RemoteError, match="cancelled itself"):
            executor.submit(f.async_raise, asyncio.CancelledError).result(LONG)

    await in_thread(calls, pool.executor)


async def test_what_cannot_be_sent_is_an_error_of_the_future(pool: aioipc.Pool) -> None:
    future = pool.executor.submit(print, f.make_generator())
    assert future.done()
    with pytest.raises(aioipc.SerializationError, match="argument 0, of type generator"):
        future.result()
    assert isinstance(pool.executor.submit(5).exception(), TypeError)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"generator function: run it with pool\.stream"):
        pool.executor.submit(f.make_async_generator).result()
    assert pool.statistics().submitted == 0


async def test_arguments_are_sent_as_they_are_at_submit(pool: aioipc.Pool) -> None:
    values = [1]
    future = pool.executor.submit(f.echo, values)
    values.append(2)
    assert await asyncio.wrap_future(future) == [1]


async def test_many_threads(pool: aioipc.Pool, tmp_path: Path) -> None:
    ledger, count = Journal(tmp_path / "ledger"), 250

    def hammer(executor: aioipc.PoolExecutor, thread: int) -> list[int]:
        numbers = range(thread * count, (thread + 1) * count)
        futures = [executor.submit(noted, ledger.path, number) for number in numbers]
        return [future.result(LONG) for future in futures]

    results = await in_threads(8, hammer, pool.executor)
    assert [number for numbers in results for number in numbers] == list(range(8 * count))
    assert ledger.counts() == Counter(range(8 * count))
    assert pool.statistics().submitted == pool.statistics().done == 8 * count


async def test_many_threads_with_functions_of_their_own(pool: aioipc.Pool) -> None:
    def hammer(executor: aioipc.PoolExecutor, thread: int) -> bool:
        scope: dict[str, Any] = {}
        for number in range(30):
            exec(f"def own(): return {thread}, {number}", {"__name__": "__main__"}, scope)
            if executor.submit(scope["own"]).result(LONG) != (thread, number):
                return False
        return True

    assert all(await in_threads(4, hammer, pool.executor))


async def test_wait_and_as_completed(pool: aioipc.Pool, gate: f.Gate) -> None:
    def calls(executor: aioipc.PoolExecutor) -> None:
        slow = executor.submit(f.pass_gate, gate.path)
        quick = executor.submit(f.square, 3)
        assert wait([slow, quick], LONG, FIRST_COMPLETED) == ({quick}, {slow})
        with pytest.raises(TimeoutError):
            slow.result(0.01)
        gate.let()
        assert set(as_completed([slow, quick], LONG)) == {slow, quick}

    await in_thread(calls, pool.executor)


async def test_map(pool: aioipc.Pool, gate: f.Gate) -> None:
    def calls(executor: aioipc.PoolExecutor) -> None:
        assert list(executor.map(math.gcd, [12, 18], [8, 12], timeout=LONG, chunksize=7)) == [4, 6]
        with pytest.raises(TimeoutError):
            next(executor.map(f.pass_gate, [gate.path], timeout=0.01))
        gate.let()

    await in_thread(calls, pool.executor)
    await eventually_async(lambda: pool.statistics().in_flight == 0, timeout=LONG)


async def test_callbacks(pool: aioipc.Pool) -> None:
    """They run in the loop's thread, may submit more, and harm nothing by what they raise."""
    called: list[object] = []
    end = asyncio.Event()

    def again(future: Future[int]) -> None:
        called.append(threading.get_ident())
        executor.submit(f.square, future.result()).add_done_callback(last)
        raise ValueError("logged by concurrent.futures")

    def last(future: Future[int]) -> None:
        called.append(future.result())
        end.set()

    executor = pool.executor
    executor.submit(f.square, 3).add_done_callback(again)
    async with asyncio.timeout(LONG):
        await end.wait()
    assert called == [threading.get_ident(), 81]


# -- in asyncio ------------------------------------------------------------------------------------------


async def test_run_in_executor(pool: aioipc.Pool) -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(pool.executor, f.square, 7) == 49
    with pytest.raises(KeyError):
        await loop.run_in_executor(pool.executor, f.raise_, KeyError, "x")


async def test_cancelling_what_asyncio_waits_for(single: aioipc.Pool, gate: f.Gate, tmp_path: Path) -> None:
    loop, ledger = asyncio.get_running_loop(), Journal(tmp_path / "ledger")
    running = loop.run_in_executor(single.executor, f.pass_gate, gate.path)
    await gate.wait_arrived()
    queued = loop.run_in_executor(single.executor, noted, ledger.path, 1)
    queued.cancel()
    running.cancel()
    await asyncio.wait([queued, running])
    assert queued.cancelled()
    assert running.cancelled()
    await eventually_async(lambda: single.statistics().cancelled == 1)
    assert single.statistics().in_flight == 1  # it goes on
    gate.let()
    await eventually_async(lambda: single.statistics().done == 1)
    assert not ledger.lines()


async def test_it_does_not_block_its_own_loop(single: aioipc.Pool, gate: f.Gate) -> None:
    future = await held(single, gate)
    for blocking in (future.result, future.exception, lambda: future.result(5), single.executor.shutdown):
        with pytest.raises(RuntimeError, match="in the thread of the pool's event loop would block it"):
            blocking()
    with pytest.raises(RuntimeError, match=r"await pool\.run"):
        next(single.executor.map(f.square, [1]))
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    gate.let()
    assert await asyncio.wrap_future(future) == "held"
    assert future.result() == "held"
    assert future.exception() is None


# -- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_cancel_queued(elsewhere: bool, single: aioipc.Pool, gate: f.Gate, tmp_path: Path) -> None:
    ledger = Journal(tmp_path / "ledger")
    running = await held(single, gate)
    queued = single.executor.submit(noted, ledger.path, 1)
    await eventually_async(lambda: single.statistics().queued == 1)
    assert not queued.running()
    assert await in_thread(queued.cancel) if elsewhere else queued.cancel()
    assert queued.cancel()
    assert queued.cancelled()
    assert await in_thread(wait, [queued], LONG) == ({queued}, set())
    await eventually_async(lambda: single.statistics().queued == 0)
    with pytest.raises(concurrent.futures.CancelledError):
        queued.result()
    gate.let()
    assert await asyncio.wrap_future(running) == "held"
    assert not ledger.lines()


async def test_cancel_running(single: aioipc.Pool, gate: f.Gate) -> None:
    running = await held(single, gate)
    assert running.running()
    assert not running.cancel()
    gate.let()
    assert await asyncio.wrap_future(running) == "held"
    assert not running.cancel()


async def test_cancelled_in_the_moment_in_which_it_is_sent(single: aioipc.Pool, tmp_path: Path) -> None:
    """As if the other thread had been interrupted before it could tell the loop."""
    ledger = Journal(tmp_path / "ledger")
    futures = [single.executor.submit(noted, ledger.path, number) for number in range(4)]
    for number in (0, 2):
        assert Future.cancel(futures[number])
    done, _ = await in_thread(wait, futures, LONG)
    assert done == set(futures)
    assert [future.cancelled() for future in futures] == [True, False, True, False]
    assert ledger.lines() == ["1", "3"]
    statistics = single.statistics()
    assert (statistics.done, statistics.cancelled, statistics.queued, statistics.in_flight) == (2, 2, 0, 0)


async def test_cancel_races(pool: aioipc.Pool, tmp_path: Path) -> None:
    """Cancelled means not executed, whichever thread was quicker."""
    ledger, count = Journal(tmp_path / "ledger"), 150

    def race(executor: aioipc.PoolExecutor, thread: int) -> dict[int, Future[int]]:
        chance, futures = random.Random(thread), dict[int, Future[int]]()
        for number in range(thread * count, (thread + 1) * count):
            futures[number] = executor.submit(noted, ledger.path, number)
            if chance.random() < 0.5:
                futures[chance.choice(list(futures))].cancel()
        wait(futures.values(), LONG)
        return futures

    futures: dict[int, Future[int]] = {}
    for each in await in_threads(4, race, pool.executor):
        futures |= each
    ran = {number for number, future in futures.items() if not future.cancelled()}
    assert ledger.counts() == Counter(ran)
    assert all(futures[number].result() == number for number in ran)
    statistics = pool.statistics()
    assert (statistics.done, statistics.cancelled) == (len(ran), len(futures) - len(ran))


# -- ends ------------------------------------------------------------------------------------------------


async def test_a_dead_worker_takes_its_own_future_only(pool: aioipc.Pool) -> None:
    def calls(executor: aioipc.PoolExecutor) -> None:
        killed = executor.submit(f.die_until, "/dev/null", 1)
        others = [executor.submit(f.square, x) for x in range(20)]
        error = killed.exception(LONG)
        assert isinstance(error, aioipc.WorkerCrashed)
        assert not isinstance(error, concurrent.futures.BrokenExecutor)
        assert error.signal == signal.SIGKILL
        assert [other.result(LONG) for other in others] == [x * x for x in range(20)]

    await in_thread(calls, pool.executor)


async def test_leaving_the_pool_waits_for_all() -> None:
    async with aioipc.Pool(1, shutdown=1) as pool:
        futures = [pool.executor.submit(f.square, x) for x in range(100)]
    assert [future.result() for future in futures] == [x * x for x in range(100)]


async def test_leaving_the_pool_by_an_exception_settles_all(gate: f.Gate) -> None:
    async def leave() -> None:
        async with aioipc.Pool(1, shutdown=0.1) as pool:
            futures.append(await held(pool, gate))
            futures.append(pool.executor.submit(f.square, 1))
            for future in futures:
                threads.append(asyncio.create_task(in_thread(future.exception, LONG)))
            threads.append(asyncio.create_task(in_thread(wait, futures, LONG)))
            await asyncio.sleep(0)  # so that they have started
            raise KeyError

    futures: list[Future[Any]] = []
    threads: list[asyncio.Task[Any]] = []
    with pytest.raises(KeyError):
        await leave()
    of_running, of_queued, of_both = threads
    assert isinstance(await of_running, aioipc.PoolClosed)
    with pytest.raises(asyncio.CancelledError):  # as wrap_future translates the thread's CancelledError
        await of_queued
    assert futures[1].cancelled()
    assert await of_both == (set(futures), set())


async def test_a_closed_pool_takes_nothing() -> None:
    pool = aioipc.Pool(1)
    executor = pool.executor
    with pytest.raises(RuntimeError, match="cannot schedule new futures: the pool is not open yet"):
        executor.submit(f.square, 1)
    async with pool:
        assert await asyncio.wrap_future(executor.submit(f.square, 2)) == 4
    for late in (executor, pool.executor):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            late.submit(f.square, 1)
    executor.shutdown()


async def test_threads_that_submit_while_the_pool_closes() -> None:
    """What was taken settles, what was not is refused; nothing in between."""
    started = threading.Event()

    def submit(executor: aioipc.PoolExecutor, _: int) -> list[Future[int]]:
        futures: list[Future[int]] = []
        while True:
            if len(futures) % 50 == 0:
                time.sleep(0.001)  # so that the pool is not swamped
            try:
                futures.append(executor.submit(f.square, len(futures)))
            except RuntimeError:
                return futures
            started.set()

    async with aioipc.Pool(2, shutdown=1) as pool:
        threads = asyncio.create_task(in_threads(4, submit, pool.executor))
        await eventually_async(started.is_set, timeout=LONG)
    for futures in await threads:
        assert [future.result(0) for future in futures] == [x * x for x in range(len(futures))]
    assert pool.statistics().submitted == pool.statistics().done


async def test_shutdown_ends_the_executor_and_not_the_pool(pool: aioipc.Pool) -> None:
    def use(executor: aioipc.PoolExecutor) -> list[Future[int]]:
        with executor:
            futures = [executor.submit(f.square, x) for x in range(50)]
        assert all(future.done() for future in futures)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(f.square, 1)
        executor.shutdown()
        return futures

    executor = pool.executor
    assert pool.executor is executor
    futures = await in_thread(use, executor)
    assert [future.result() for future in futures] == [x * x for x in range(50)]
    assert pool.executor is not executor
    assert await asyncio.wrap_future(pool.executor.submit(f.square, 3)) == 9
    assert await pool.run(f.square, 4) == 16


async def test_shutdown_that_cancels(single: aioipc.Pool, gate: f.Gate) -> None:
    executor = single.executor
    running = await held(single, gate)
    queued = [executor.submit(f.square, x) for x in range(3)]
    executor.shutdown(wait=False, cancel_futures=True)  # in the loop's thread
    assert "shut down, 1 unfinished" in repr(executor)
    assert all(future.cancelled() for future in queued)
    waiting = asyncio.create_task(in_thread(executor.shutdown))
    gate.let()
    await waiting
    assert running.result() == "held"


async def test_shutdown_while_another_thread_cancels(single: aioipc.Pool, gate: f.Gate) -> None:
    executor = single.executor
    running = await held(single, gate)
    queued = [executor.submit(f.square, x) for x in range(3)]
    waiting = asyncio.create_task(in_thread(executor.shutdown))
    await eventually_async(lambda: executor.is_shut_down)
    for future in queued:
        assert await in_thread(future.cancel)
    gate.let()
    await waiting
    assert running.done()


# -- programs --------------------------------------------------------------------------------------------


def test_a_program_without_a_loop_of_its_own() -> None:
    """The pool's loop in a thread; functions and classes of ``__main__``."""
    script = """
        import asyncio, threading, aioipc

        class Point:
            def __init__(self, x):
                self.x = x

        def move(point, by=1):
            return Point(point.x + by)

        async def serve(found, over):
            async with aioipc.Pool(2) as pool:
                found.set_result(pool.executor)
                await asyncio.to_thread(over.wait)

        import concurrent.futures
        found, over = concurrent.futures.Future(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serve(found, over)))
        thread.start()
        executor = found.result(20)
        assert executor.submit(move, Point(1), by=2).result(20).x == 3
        assert [p.x for p in executor.map(move, map(Point, range(100)))] == list(range(1, 101))
        over.set()
        thread.join()
        print("end")
    """
    assert run_script(script).check().stdout == "end\n"


def test_a_loop_that_is_closed_under_the_pool() -> None:
    """Nobody waits for ever, and nobody submits to it."""
    script = """
        import asyncio, threading, time, aioipc
        loop = asyncio.new_event_loop()
        pool = aioipc.Pool(1)
        loop.run_until_complete(pool.__aenter__())
        future = pool.executor.submit(time.sleep, 100)
        other = pool.executor.submit(time.sleep, 100)
        loop.run_until_complete(asyncio.sleep(0.05))
        threading.Timer(0.1, loop.close).start()
        for each in (future, other):
            error = each.exception(20)
            assert isinstance(error, aioipc.PoolClosed), error
        try:
            pool.executor.submit(print)
        except RuntimeError as error:
            print(error)
    """
    done = run_script(script, python=("-W", "ignore"))
    assert "cannot schedule new futures after shutdown" in done.check().stdout
