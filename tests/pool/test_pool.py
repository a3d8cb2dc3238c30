"""The Pool as people use it: what can be run, how, and how it opens and closes."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio

import aioipc

from ..harness.processes import descendants, eventually, eventually_async, is_running, wait_gone
from ..harness.scripts import run_script
from . import sample_functions as f

MEGABYTE = 1 << 20


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[aioipc.Pool]:
    """Two workers; pytest-asyncio sets it up and tears it down in different tasks."""
    async with f.open_pool(2) as pool:
        yield pool


@pytest_asyncio.fixture
async def single() -> AsyncIterator[aioipc.Pool]:
    """One worker: what is submitted later has to wait. No task's time is spent on imports."""
    preload = [f.__name__, "uvloop"]
    async with f.open_pool(1, grace=0.5, preload=preload) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[f.Gate]:
    gate = f.Gate(tmp_path)
    yield gate
    gate.close()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A file in which tasks leave their marks."""
    return str(tmp_path / "log")


async def wait_marks(path: str, text: str) -> None:
    await eventually_async(lambda: text in f.marks(path), message=lambda: f"{text!r} in {f.marks(path)!r}")


def pids(pool: aioipc.Pool) -> list[int]:
    """All processes of the pool, workers first."""
    statistics = pool.statistics()
    return [*(worker.pid for worker in statistics.workers if worker.pid), statistics.zygote_pid]


async def wait_all_ready(pool: aioipc.Pool, count: int) -> None:
    def ready() -> bool:
        return [worker.state for worker in pool.statistics().workers] == ["RUNNING"] * count

    await eventually_async(ready)


# -- what can be run -------------------------------------------------------------------------------------


def make_adder(amount: int) -> Callable[[int], int]:
    def add(x: int) -> int:
        return x + amount

    return add


def make_async_adder(amount: int) -> Callable[[int], Any]:
    async def add(x: int) -> int:
        await asyncio.sleep(0)
        return x + amount

    return add


def factorial(n: int) -> int:
    return n * factorial(n - 1) if n else 1


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "function": (f.square, (7,), 49),
    "async function": (f.async_square, (7,), 49),
    "no arguments, no result": (list[int]().clear, (), None),
    "lambda": (lambda x: x + 1, (7,), 8),
    "lambda that makes a coroutine": (lambda x: f.async_square(x), (7,), 49),
    "closure": (make_adder(5), (7,), 12),
    "async closure": (make_async_adder(5), (7,), 12),
    "recursive function": (factorial, (5,), 120),
    "partial": (functools.partial(f.join, "a", "b"), ("c",), "a-b-c"),
    "partial of a partial of an async function": (functools.partial(functools.partial(f.async_square), 7), (), 49),
    "partial with keywords": (functools.partial(sorted, reverse=True), ([1, 3, 2],), [3, 2, 1]),
    "bound method": (f.Account(10).plus, (7,), 17),
    "async bound method": (f.Account(10).async_plus, (7,), 17),
    "class method": (f.Account.opened_with, (7,), f.Account(7)),
    "static method": (f.Account.fee, (700,), 7),
    "unbound method": (f.Account.plus, (f.Account(10), 7), 17),
    "callable object": (f.Account(10), (7,), 3),
    "async callable object": (f.AsyncCallable(), (7,), -7),
    "class": (f.Account, (7,), f.Account(7)),
    "builtin function": (math.gcd, (12, 18), 6),
    "builtin class": (complex, (1, 2), 1 + 2j),
    "method of a builtin object": ("a,b".split, (",",), ["a", "b"]),
    "method descriptor": (str.upper, ("a",), "A"),
}


async def test_run(pool: aioipc.Pool) -> None:
    for name, (function, arguments, expected) in CALLS.items():
        for _ in range(2):  # the second time the worker may know it
            result = await pool.run(function, *arguments)
            assert (result, type(result)) == (expected, type(expected)), name


async def test_it_runs_elsewhere(pool: aioipc.Pool) -> None:
    await wait_all_ready(pool, 2)
    workers = {worker.pid for worker in pool.statistics().workers}
    assert await pool.run(f.worker_pid) in workers
    assert await pool.run(f.async_worker_pid) in workers
    assert os.getpid() not in workers


async def test_a_closure_goes_as_it_is_at_each_submit(single: aioipc.Pool) -> None:
    amount = 1

    def add(x: int) -> int:
        return x + amount

    jobs = []
    for value in range(3):
        amount = value
        jobs.append(single.submit(add, 10))
    assert await asyncio.gather(*jobs) == [10, 11, 12]


async def test_arguments_go_as_they_are_at_submit(single: aioipc.Pool) -> None:
    items = [1]
    job = single.submit(f.echo, items)
    items.append(2)
    assert await job == [1]


async def test_a_sync_task_may_use_loops_of_its_own(single: aioipc.Pool) -> None:
    for _ in range(2):
        assert await single.run(f.in_a_loop_of_its_own, f.async_square, 3) == 9
        assert await single.run(f.in_aioipc_run, f.async_square, 4) == 16
        assert await single.run(f.async_square, 5) == 25


async def test_sync_and_async_tasks_mixed(pool: aioipc.Pool) -> None:
    jobs = [pool.submit(f.square if i % 3 else f.async_square, i) for i in range(300)]
    assert await asyncio.gather(*jobs) == [i * i for i in range(300)]


async def test_async_tasks_run_side_by_side_in_a_worker(gate: f.Gate) -> None:
    async with aioipc.Pool(1, concurrency=5) as pool:
        jobs = [pool.submit(f.async_pass_gate, gate.path, i) for i in range(7)]
        await gate.wait_arrived(5)
        assert [job.state for job in jobs[5:]] == ["queued"] * 2
        gate.let(7)
        assert await asyncio.gather(*jobs) == list(range(7))


async def test_sync_tasks_run_one_by_one_in_each_worker(pool: aioipc.Pool, gate: f.Gate) -> None:
    await wait_all_ready(pool, 2)
    jobs = [pool.submit(f.pass_gate, gate.path, i) for i in range(4)]
    await gate.wait_arrived(2)
    gate.let(1)
    await gate.wait_arrived(3)
    assert sum(job.done() for job in jobs) == 1
    gate.let(3)
    assert await asyncio.gather(*jobs) == list(range(4))


async def test_a_pool_inside_a_task(pool: aioipc.Pool) -> None:
    assert await pool.run(f.sum_in_a_pool_of_its_own, [1, 2, 3]) == 14
    assert await pool.run(f.in_a_loop_of_its_own, f.sum_in_a_pool_of_its_own, [1, 2, 3, 4]) == 30
    assert await pool.run(f.in_aioipc_run, f.sum_in_a_pool_of_its_own, [1, 2]) == 5


def test_functions_and_classes_of_a_script() -> None:
    """`__main__` is not imported again, and its classes keep their identity on the way there and back."""
    source = """
        import asyncio, dataclasses, enum, os, aioipc

        with open("runs", "a") as runs:
            runs.write("run ")
        FACTOR = 3

        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED

            def scaled(self, by):
                return Point(self.x * by)

        class OwnError(Exception):
            def __init__(self, point):
                super().__init__(point)

        def times(point):
            assert type(point) is Point and point.colour is Colour.RED
            return point.scaled(FACTOR)

        async def async_times(point):
            return times(point)

        def fail(point):
            raise OwnError(point)

        def unknown():
            return os.getpid()

        async def main():
            global FACTOR
            async with aioipc.Pool(2) as pool:
                for function in (times, async_times, lambda point: times(point), Point(3).scaled):
                    argument = 2 if function.__name__ == "scaled" else Point(2)
                    result = await pool.run(function, argument)
                    assert type(result) is Point, (type(result), Point)
                    assert result == Point(6), result
                    assert result.colour is Colour.RED
                FACTOR = 4
                assert await pool.run(times, Point(2)) == Point(8)
                try:
                    await pool.run(fail, Point(1))
                except OwnError as error:
                    assert error.args == (Point(1),)
                    assert type(error.args[0]) is Point
                else:
                    raise AssertionError
                assert [x async for x in pool.map(times, map(Point, range(3)))] == [Point(0), Point(4), Point(8)]
            print("good")

        asyncio.run(main())
        assert open("runs").read() == "run ", open("runs").read()
        os.remove("runs")
    """
    assert run_script(source).check().stdout == "good\n"


def test_a_global_of_a_script_that_changes() -> None:
    """A function of `__main__` goes with the globals it uses, as they are at each submit; also those of its helpers."""
    source = """
        import aioipc
        number, numbers = 1, [1]
        def helper():
            return number
        def use():
            return number, helper(), list(numbers)
        async def main():
            global number, helper
            async with aioipc.Pool(1) as pool:
                assert await pool.run(use) == (1, 1, [1])
                number = 2
                numbers.append(2)
                assert await pool.run(use) == (2, 2, [1, 2])
                helper = lambda: "another"
                assert await pool.run(use) == (2, "another", [1, 2])
                assert await pool.run(only_number) == 2
                number = 3
                assert await pool.run(only_number) == 3
        def only_number():
            return number
        aioipc.run(main)
    """
    run_script(source).check()


def test_a_script_from_standard_input() -> None:
    code = "import aioipc\nasync def main():\n async with aioipc.Pool(1) as p: print(await p.run(lambda x: x + 1, 1))\n"
    source = "import runpy, sys, io; exec(compile(sys.stdin.read() + 'aioipc.run(main)', '<stdin>', 'exec'))"
    assert run_script(source, stdin=code.encode()).check().stdout == "2\n"


# -- a worker's surroundings -----------------------------------------------------------------------------


async def test_workers_have_the_surroundings_of_their_master(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: str
) -> None:
    monkeypatch.setenv("AIOIPC_SAMPLE", "before")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/somewhere")
    monkeypatch.setattr("sys.argv", ["me", "too"])
    umask = os.umask(0o027)
    try:
        async with aioipc.Pool(1) as pool:
            here = f.surroundings("AIOIPC_SAMPLE")
            assert await pool.run(f.surroundings, "AIOIPC_SAMPLE") == here
            assert here["variable"] == "before"
            monkeypatch.setenv("AIOIPC_SAMPLE", "after")
            assert (await pool.run(f.surroundings, "AIOIPC_SAMPLE"))["variable"] == "before"
            assert await pool.submit(f.die_until, log, 2, retries=1) == 2
            assert (await pool.run(f.surroundings, "AIOIPC_SAMPLE"))["variable"] == "after"
    finally:
        os.umask(umask)


async def test_standard_input_is_empty_and_output_is_shared() -> None:
    done = await asyncio.to_thread(
        run_script,
        """
        import aioipc, sys
        def talk():
            print("out", flush=True)
            print("err", file=sys.stderr, flush=True)
            return sys.stdin.read()
        async def main():
            async with aioipc.Pool(1) as pool:
                assert await pool.run(talk) == ""
        aioipc.run(main)
        """,
        stdin=b"not for workers",
    )
    done.check()
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


async def test_preload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "aioipc_heavy.py").write_text("import os\nPID = os.getpid()\n")
    monkeypatch.syspath_prepend(tmp_path)
    async with aioipc.Pool(2, preload=["aioipc_heavy", "colorsys"]) as pool:
        importer = await pool.run(f.attribute_of, "aioipc_heavy", "PID")
        assert importer == pool.statistics().zygote_pid
        assert await pool.run(f.is_imported, "colorsys")
    async with aioipc.Pool(1) as pool:
        assert not await pool.run(f.is_imported, "aioipc_heavy")


async def test_preload_of_a_module_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "aioipc_broken.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(aioipc.WorkerBootError, match=r"(?s)preload.*aioipc_broken\.py.*not today") as caught:
        async with aioipc.Pool(1, preload=["aioipc_broken"]):
            pytest.fail("must not open")
    assert "not today" in caught.value.stderr


async def test_start_methods() -> None:
    for method, forked in (("zygote", True), ("spawn", False)):
        async with aioipc.Pool(2, start_method=method) as pool:
            assert await pool.run(f.is_imported, "aioipc.supervisor.zygote_main") is forked
            assert await pool.run(lambda x: x + 1, 1) == 2
            assert [x async for x in pool.map(f.async_square, range(4))] == [0, 1, 4, 9]


def test_start_method_spawn_in_a_script() -> None:
    source = """
        import aioipc
        def double(x):
            return 2 * x
        async def main():
            async with aioipc.Pool(1, start_method="spawn") as pool:
                print(await pool.run(double, 21))
        aioipc.run(main)
    """
    assert run_script(source).check().stdout == "42\n"


async def test_spin(log: str) -> None:
    async with aioipc.Pool(1, spin=0.01) as pool:
        for x in range(20):
            assert await pool.run(f.square, x) == x * x
        assert await pool.run(f.async_square, 3) == 9


# -- how many workers ------------------------------------------------------------------------------------


async def test_web_concurrency(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    with caplog.at_level(logging.INFO, "aioipc"):
        async with aioipc.Pool() as pool:
            assert len(pool.statistics().workers) == 3
    assert "3 workers, by WEB_CONCURRENCY" in caplog.messages
    async with aioipc.Pool(1) as pool:  # the argument wins
        assert len(pool.statistics().workers) == 1


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_web_concurrency_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", text)
    with pytest.raises(ValueError, match=f"WEB_CONCURRENCY must be a positive number, not '{re.escape(text)}'"):
        aioipc.Pool()


def test_default_size_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", " ")  # as good as unset
    cpus = os.sched_getaffinity(0)
    source = "import aioipc; print(aioipc.Pool())"
    assert 1 <= int(re.findall(r"\d+", run_script(source).check().stdout)[0]) <= len(cpus)
    one = ["taskset", "--cpu-list", str(min(cpus))]
    assert run_script(source, launcher=one).check().stdout == "<Pool of 1, not open>\n"


# -- order, retries, timeouts ----------------------------------------------------------------------------


async def test_higher_priority_first_then_older(single: aioipc.Pool, gate: f.Gate) -> None:
    first = single.submit(f.pass_gate, gate.path)
    await gate.wait_arrived()
    jobs = [single.submit(f.moment, (priority, i), priority=priority) for i, priority in enumerate([0, 5, -3, 5, 0])]
    gate.let()
    await first
    ran = [label for _, label in sorted(await asyncio.gather(*jobs))]
    assert ran == [(5, 1), (5, 3), (0, 0), (0, 4), (-3, 2)]


async def test_retry_on(single: aioipc.Pool, log: str) -> None:
    assert await single.submit(f.fail_until, log, 3, OSError, retries=5, retry_on=OSError) == 3
    assert single.statistics().retried == 2


async def test_retry_on_is_about_the_class_and_its_subclasses(single: aioipc.Pool, log: str) -> None:
    kinds = (KeyError, OSError)
    assert await single.submit(f.fail_until, log, 3, FileNotFoundError, retries=5, retry_on=kinds) == 3


async def test_no_more_retries_than_said(single: aioipc.Pool, log: str) -> None:
    with pytest.raises(OSError, match="call 3"):
        await single.submit(f.fail_until, log, 9, OSError, retries=2, retry_on=OSError)
    assert f.marks(log) == "xxx"


@pytest.mark.parametrize("options", [{}, {"retries": 5}, {"retries": 5, "retry_on": OSError}])
async def test_another_exception_is_not_retried(single: aioipc.Pool, log: str, options: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="call 1"):
        await single.submit(f.fail_until, log, 9, KeyError, **options)
    assert f.marks(log) == "x"


async def test_without_retries_a_task_whose_worker_dies_is_executed_once(single: aioipc.Pool, log: str) -> None:
    [before] = single.statistics().workers
    with pytest.raises(aioipc.WorkerCrashed) as caught:
        await single.run(f.die_until, log, 9)
    error = caught.value
    assert (error.exitcode, error.signal, error.pid, error.slot) == (-9, signal.SIGKILL, before.pid, 0)
    assert error.oom is False
    assert "die_until, task 1" in error.task
    assert f"worker 0 (pid {before.pid}) died while it ran" in str(error)
    assert f.marks(log) == "x"
    assert await single.run(f.square, 3) == 9  # a new worker has taken its place
    assert single.statistics().crashes == single.statistics().restarts == 1


async def test_retries_cover_dead_workers(single: aioipc.Pool, log: str) -> None:
    assert await single.submit(f.die_until, log, 3, retries=2) == 3
    statistics = single.statistics()
    assert (statistics.retried, statistics.crashes, statistics.done) == (2, 2, 1)


async def test_a_task_that_kills_worker_after_worker_is_quarantined(single: aioipc.Pool, log: str) -> None:
    with pytest.raises(aioipc.TaskQuarantined, match="quarantined") as caught:
        await single.submit(f.die_until, log, 99, retries=50)
    assert isinstance(caught.value, aioipc.WorkerCrashed)
    assert f.marks(log) == "xxx"
    assert single.statistics().quarantined == 1
    assert await single.run(f.square, 3) == 9


async def test_timeout_of_a_sync_task(single: aioipc.Pool, log: str) -> None:
    with pytest.raises(aioipc.TaskTimeout, match=r"wait_until_interrupted.*timeout of 0\.1 s") as caught:
        await single.submit(f.wait_until_interrupted, log, timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert f.marks(log) == "started finally "
    assert single.statistics().timed_out == 1
    assert single.statistics().crashes == 0


async def test_timeout_of_an_async_task(single: aioipc.Pool, log: str, gate: f.Gate) -> None:
    neighbour = single.submit(f.async_pass_gate, gate.path, "unharmed")
    with pytest.raises(aioipc.TaskTimeout):
        await single.submit(f.async_wait_until_cancelled, log, timeout=0.1)
    assert f.marks(log) == "started finally "
    gate.let()
    assert await neighbour == "unharmed"


@pytest.mark.parametrize("function", [f.ignore_interrupts, f.async_ignore_cancel])
async def test_timeout_of_a_task_that_does_not_care(single: aioipc.Pool, log: str, function: Any) -> None:
    [before] = single.statistics().workers
    with pytest.raises(aioipc.TaskTimeout):
        await single.submit(function, log, timeout=0.1)
    assert f.marks(log) == "started ignored "
    assert before.pid is not None
    wait_gone(before.pid)
    assert await single.run(f.square, 3) == 9


async def test_timeout_counts_from_the_start_of_the_function(single: aioipc.Pool) -> None:
    busy = single.submit(f.keep_busy, 0.4)
    assert await single.submit(f.echo, "in time", timeout=0.2) == "in time"
    await busy


async def test_retry_on_timeout(single: aioipc.Pool, log: str) -> None:
    with pytest.raises(aioipc.TaskTimeout):
        await single.submit(f.wait_until_interrupted, log, timeout=0.1, retries=2, retry_on=aioipc.TaskTimeout)
    assert f.marks(log) == "started finally " * 3
    assert single.statistics().retried == 2


async def test_timeouts_go_on_after_a_worker_with_one_died(single: aioipc.Pool, log: str) -> None:
    await single.run(f.square, 1)  # loads the module, which takes time too
    with pytest.raises(aioipc.WorkerCrashed):
        await single.submit(f.die_until, log, 9, timeout=0.2)
    with pytest.raises(aioipc.TaskTimeout):
        async with asyncio.timeout(5):
            await single.submit(f.wait_until_interrupted, log, timeout=0.4)


# -- jobs ------------------------------------------------------------------------------------------------


async def test_states_of_a_job(single: aioipc.Pool, gate: f.Gate, log: str) -> None:
    running = single.submit(f.pass_gate, gate.path, 1)
    queued = single.submit(f.echo, 2)
    assert (running.state, running.worker) == ("queued", None)
    await gate.wait_arrived()
    assert (running.state, running.worker) == ("running", 0)
    assert (queued.state, queued.worker) == ("queued", None)
    assert re.fullmatch(r"<Job tests\.pool\.sample_functions\.pass_gate, task 1, running>", repr(running))
    assert re.fullmatch(r"<Job .*\.echo, task 2, queued>", repr(queued))
    gate.let()
    assert await queued == 2
    assert (running.state, running.worker, running.result()) == ("done", 0, 1)
    assert isinstance(running, asyncio.Future)
    assert running.get_loop() is asyncio.get_running_loop()


async def test_cancel_a_queued_job(single: aioipc.Pool, gate: f.Gate, log: str) -> None:
    first = single.submit(f.pass_gate, gate.path)
    await gate.wait_arrived()
    job = single.submit(f.mark, log)
    assert job.cancel()
    assert job.cancelled()
    assert job.state == "done"
    assert not job.cancel()
    gate.let()
    await first
    assert await single.run(f.square, 2) == 4
    assert f.marks(log) == ""


@pytest.mark.parametrize("function", [f.wait_until_interrupted, f.async_wait_until_cancelled])
async def test_cancel_a_running_job(single: aioipc.Pool, log: str, function: Any) -> None:
    pid = await single.run(f.worker_pid)
    job = single.submit(function, log)
    await wait_marks(log, "started")
    assert job.cancel()
    assert job.cancel()
    assert (job.state, job.done()) == ("cancelling", False)
    with pytest.raises(asyncio.CancelledError):
        await job
    assert f.marks(log) == "started finally "  # its work had ended before
    assert job.cancelled()
    assert not job.cancel()
    assert await single.run(f.worker_pid) == pid


@pytest.mark.parametrize("function", [f.ignore_interrupts, f.async_ignore_cancel])
async def test_cancel_a_job_that_does_not_care(single: aioipc.Pool, log: str, function: Any) -> None:
    pid = await single.run(f.worker_pid)
    job = single.submit(function, log, retries=3)
    await wait_marks(log, "started")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert f.marks(log) == "started ignored "
    wait_gone(pid)
    assert await single.run(f.worker_pid) != pid
    assert single.statistics().retried == 0


async def test_a_cancelled_job_is_cancelled_even_where_the_function_returns(single: aioipc.Pool, log: str) -> None:
    job = single.submit(f.finish_in_spite_of_interrupts, log)
    await wait_marks(log, "started")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_cancelling_the_waiter_ends_the_work(single: aioipc.Pool, log: str) -> None:
    waiter = asyncio.create_task(single.run(f.wait_until_interrupted, log))
    await wait_marks(log, "started")
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert f.marks(log) == "started finally "


async def test_timeouts_around_run(single: aioipc.Pool, log: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await single.run(f.wait_until_interrupted, log)
    assert f.marks(log) == "started finally "
    with anyio.move_on_after(0.1) as scope:
        await single.run(f.async_wait_until_cancelled, log)
    assert scope.cancelled_caught
    assert f.marks(log) == "started finally " * 2


async def test_cancel_one_of_many_in_a_worker(single: aioipc.Pool, gate: f.Gate, log: str) -> None:
    jobs = [single.submit(f.async_pass_gate, gate.path, i) for i in range(5)]
    victim = single.submit(f.async_wait_until_cancelled, log)
    await gate.wait_arrived(5)
    await wait_marks(log, "started")
    victim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await victim
    gate.let(5)
    assert await asyncio.gather(*jobs) == list(range(5))


async def test_a_shielded_job_goes_on(single: aioipc.Pool, gate: f.Gate) -> None:
    job = single.submit(f.pass_gate, gate.path, "done")
    waiter = asyncio.ensure_future(asyncio.shield(job))
    await gate.wait_arrived()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    gate.let()
    assert await job == "done"


async def test_a_job_nobody_awaits_still_runs(log: str) -> None:
    async with aioipc.Pool(1) as pool:
        for _ in range(3):
            pool.submit(f.mark, log)
    assert f.marks(log) == "xxx"


async def test_the_error_of_a_job_nobody_awaits_is_logged(log: str, caplog: pytest.LogCaptureFixture) -> None:
    async with aioipc.Pool(1) as pool:
        pool.submit(f.mark_and_raise, log, KeyError("unseen"))
        awaited = pool.submit(f.mark_and_raise, log, KeyError("seen"))
        with pytest.raises(KeyError):
            await awaited
    gc.collect()
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "never retrieved" in record.message
    assert "mark_and_raise, task 1" in record.message
    assert record.exc_info is not None
    assert "unseen" in str(record.exc_info[1])


# -- a lot at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [f.echo, f.async_echo])
async def test_big_payloads_both_ways(pool: aioipc.Pool, function: Any) -> None:
    data = os.urandom(MEGABYTE) * 20
    one, other = await asyncio.gather(pool.run(function, data), pool.run(function, [data[::-1]]))
    assert one == data
    assert other == [data[::-1]]


async def test_the_loop_runs_while_a_big_payload_is_on_its_way(single: aioipc.Pool, gate: f.Gate) -> None:
    first = single.submit(f.pass_gate, gate.path)  # its worker does not read: the payload has to wait in the master
    await gate.wait_arrived()
    job = single.submit(len, bytes(20 * MEGABYTE))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not job.done()
    gate.let()
    await first
    assert await job == 20 * MEGABYTE


@pytest.mark.parametrize("function", [f.square, f.async_square])
async def test_five_thousand_submits_awaited_together(pool: aioipc.Pool, function: Any) -> None:
    jobs = [pool.submit(function, i) for i in range(5000)]
    assert await asyncio.gather(*jobs) == [i * i for i in range(5000)]


async def test_a_blocked_master_loses_nothing(pool: aioipc.Pool) -> None:
    jobs = [pool.submit(f.async_square if i % 2 else f.square, i) for i in range(1000)]
    await jobs[0]
    time.sleep(0.3)  # noqa: ASYNC251 - somebody's bug: the loop does not run
    more = [pool.submit(f.square, i) for i in range(1000)]
    assert await asyncio.gather(*jobs, *more) == [i * i for i in range(1000)] * 2


async def test_two_pools_at_once() -> None:
    async with aioipc.Pool(1) as one, aioipc.Pool(1) as other:
        assert await one.run(f.worker_pid) != await other.run(f.worker_pid)
        jobs = [pool.submit(f.square, i) for i in range(200) for pool in (one, other)]
        assert await asyncio.gather(*jobs) == [i * i for i in range(200) for _ in range(2)]
    async with aioipc.Pool(1) as one:
        async with aioipc.Pool(1) as other:
            pass
        assert await one.run(f.square, 3) == 9


def test_a_pool_in_the_loop_of_another_thread() -> None:
    async def work() -> list[int]:
        async with aioipc.Pool(2) as pool:
            return [x async for x in pool.map(f.square, range(100))]

    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(work()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [[i * i for i in range(100)]] * 2


# -- looking in ------------------------------------------------------------------------------------------


async def test_statistics_add_up(gate: f.Gate, log: str) -> None:
    def check(statistics: aioipc.PoolStatistics) -> aioipc.PoolStatistics:
        settled = statistics.done + statistics.failed + statistics.cancelled
        assert statistics.submitted == settled + statistics.queued + statistics.in_flight
        assert statistics.in_flight == sum(worker.in_flight for worker in statistics.workers)
        return statistics

    async with aioipc.Pool(1, grace=0.1) as pool:
        waiting = pool.submit(f.pass_gate, gate.path)
        await gate.wait_arrived()
        queued = [pool.submit(f.square, i) for i in range(3)]
        now = check(pool.statistics())
        assert (now.submitted, now.queued, now.in_flight) == (4, 3, 1)
        queued.pop().cancel()
        now = check(pool.statistics())
        assert (now.queued, now.cancelled) == (2, 1)
        gate.let()
        await asyncio.gather(waiting, *queued)
        bad = [
            pool.submit(f.mark_and_raise, log, KeyError("no")),
            pool.submit(f.ignore_interrupts, log, timeout=0.05),
            pool.submit(f.die_until, log + "2", 99),
        ]
        await asyncio.gather(*bad, return_exceptions=True)
        assert [x async for x in pool.map(f.square, range(10))] == [i * i for i in range(10)]
        now = check(pool.statistics())
        assert (now.submitted, now.done, now.failed, now.cancelled) == (17, 13, 3, 1)
        assert (now.timed_out, now.crashes, now.retried, now.quarantined, now.restarts) == (1, 2, 0, 0, 2)
        [worker] = now.workers
        assert (worker.slot, worker.state, worker.in_flight, worker.finished) == (0, "RUNNING", 0, 10)
        assert worker.pid is not None
        assert is_running(worker.pid)
        assert 0 < worker.age < 60


async def test_repr() -> None:
    pool = aioipc.Pool(2)
    assert repr(pool) == "<Pool of 2, not open>"
    async with pool:
        await pool.run(f.square, 1)
        assert repr(pool) == "<Pool of 2, open, 0 queued, 0 in flight, 1 done>"
    assert repr(pool) == "<Pool of 2, closed>"


# -- opening and closing ---------------------------------------------------------------------------------


async def test_use_before_it_is_open() -> None:
    pool = aioipc.Pool(1)
    for use in (lambda: pool.submit(f.square, 1), lambda: pool.map(f.square, [1]), pool.statistics):
        with pytest.raises(aioipc.PoolClosed, match="not open yet: use 'async with'"):
            use()
    with pytest.raises(aioipc.PoolClosed, match="not open yet"):
        await pool.run(f.square, 1)
    await pool.aclose()  # nothing to do


async def test_use_after_it_was_closed() -> None:
    async with aioipc.Pool(1) as pool:
        await pool.run(f.square, 1)
    for use in (lambda: pool.submit(f.square, 1), lambda: pool.map(f.square, [1])):
        with pytest.raises(aioipc.PoolClosed, match="the pool is closed"):
            use()
    with pytest.raises(aioipc.PoolClosed, match="the pool is closed"):
        await pool.run(f.square, 1)
    with pytest.raises(aioipc.PoolClosed, match="opened once"):
        await pool.__aenter__()
    statistics = pool.statistics()  # the last, as one may want to log them
    assert (statistics.submitted, statistics.done, statistics.workers) == (1, 1, ())


async def test_entering_twice() -> None:
    async with aioipc.Pool(1) as pool:
        with pytest.raises(aioipc.PoolClosed, match="a Pool is opened once"):
            async with pool:
                pytest.fail("must not open")
        assert await pool.run(f.square, 3) == 9


async def test_entering_again_after_a_failed_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = aioipc.Pool(1, preload=["aioipc_no_such_module"])
    with pytest.raises(aioipc.WorkerBootError, match="aioipc_no_such_module"):
        await pool.__aenter__()
    with pytest.raises(aioipc.PoolClosed):
        await pool.__aenter__()


async def test_opening_is_cancelled() -> None:
    opening = asyncio.create_task(aioipc.Pool(2).__aenter__())
    await eventually_async(lambda: descendants(os.getpid()))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not descendants(os.getpid())


async def test_leaving_normally_waits_for_all(gate: f.Gate, log: str) -> None:
    async with aioipc.Pool(1) as pool:
        jobs = [pool.submit(f.pass_gate, gate.path, 0), *(pool.submit(f.square, i) for i in range(1, 5))]
        asyncio.get_running_loop().call_later(0.1, gate.let)
        family = pids(pool)
    assert [job.result() for job in jobs] == [0, 1, 4, 9, 16]
    assert not any(map(is_running, family))


async def test_submit_while_it_closes(gate: f.Gate) -> None:
    pool = await aioipc.Pool(1).__aenter__()
    job = pool.submit(f.pass_gate, gate.path, 1)
    await gate.wait_arrived()
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    with pytest.raises(aioipc.PoolClosed):
        pool.submit(f.square, 1)
    gate.let()
    await closing
    assert job.result() == 1


async def test_aclose_twice() -> None:
    pool = await aioipc.Pool(1).__aenter__()
    await pool.aclose()
    await pool.aclose()
    async with aioipc.Pool(1) as pool:
        await pool.aclose()


async def test_aclose_by_two_tasks(gate: f.Gate) -> None:
    """Whoever closes: when it returns, no process is left."""
    pool = await aioipc.Pool(1).__aenter__()
    job = pool.submit(f.pass_gate, gate.path, 1)
    await gate.wait_arrived()
    family = pids(pool)

    async def close() -> list[int]:
        await pool.aclose()
        return [pid for pid in family if is_running(pid)]

    closers = [asyncio.create_task(close()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.let()
    assert await asyncio.gather(*closers) == [[], []]
    assert job.result() == 1


async def test_leaving_by_an_exception_drops_what_is_queued(gate: f.Gate, log: str) -> None:
    """What runs has ``shutdown`` seconds, and here it ends in time."""
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.Pool(1, shutdown=10) as pool:
            running = pool.submit(f.pass_gate, gate.path, "finished")
            await gate.wait_arrived()
            queued = [pool.submit(f.mark, log) for _ in range(3)]
            asyncio.get_running_loop().call_later(0.1, gate.let)
            raise KeyError("mine")
    assert running.result() == "finished"
    assert all(job.cancelled() for job in queued)
    assert f.marks(log) == ""


async def test_leaving_by_an_exception_kills_what_runs_too_long(log: str) -> None:
    begin = time.monotonic()
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - leaving is what raises
        async with aioipc.Pool(2, shutdown=0.2) as pool:
            jobs = [pool.submit(f.ignore_interrupts, log), pool.submit(f.async_ignore_cancel, log)]
            await eventually_async(lambda: f.marks(log).count("started") == 2)
            family = pids(pool)
            raise KeyError("mine")
    assert all(job.cancelled() for job in jobs)
    assert not any(map(is_running, family))
    assert 0.2 <= time.monotonic() - begin < 5


async def test_closing_by_cancellation(gate: f.Gate, log: str) -> None:
    """`aclose` that is cancelled: the queue is dropped, what runs gets its time, then CancelledError."""
    pool = await aioipc.Pool(1, shutdown=10).__aenter__()
    running = pool.submit(f.pass_gate, gate.path, "finished")
    await gate.wait_arrived()
    queued = pool.submit(f.mark, log)
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await eventually_async(queued.done)
    assert queued.cancelled()
    assert not running.done()
    gate.let()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert running.result() == "finished"
    assert f.marks(log) == ""


async def test_closing_by_cancellation_again_and_again(log: str) -> None:
    """Impatience does not make it leave processes behind."""
    pool = await aioipc.Pool(1, shutdown=0.3).__aenter__()
    pool.submit(f.ignore_interrupts, log)
    await wait_marks(log, "started")
    family = pids(pool)
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    while not closing.done():
        closing.cancel()
        await asyncio.sleep(0.01)
    assert closing.cancelled()
    assert not any(map(is_running, family))


async def test_leaving_inside_a_cancelled_scope(log: str) -> None:
    with anyio.CancelScope() as scope:
        async with aioipc.Pool(1, shutdown=0.2) as pool:
            jobs = [pool.submit(f.ignore_interrupts, log), pool.submit(f.square, 1)]
            await wait_marks(log, "started")
            family = pids(pool)
            scope.cancel()
            await anyio.sleep(1)
            pytest.fail("was cancelled")
    assert scope.cancelled_caught
    assert all(job.cancelled() for job in jobs)
    assert not any(map(is_running, family))


async def test_leaving_normally_inside_a_cancelled_scope(log: str) -> None:
    """Even where the body ends without noticing, its scope's cancellation counts."""
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        async with aioipc.Pool(1, shutdown=0.2) as pool:
            job = pool.submit(f.ignore_interrupts, log)
            await wait_marks(log, "started")
            scope.cancel()
    assert job.cancelled()
    assert not descendants(os.getpid())


async def test_an_anyio_timeout_ends_leaving(log: str) -> None:
    """The pool waits for its tasks only as long as the scope it is left in allows."""
    with anyio.CancelScope() as scope:
        async with aioipc.Pool(1, shutdown=0) as pool:
            job = pool.submit(f.wait_until_interrupted, log)
            scope.deadline = anyio.current_time() + 0.2
            asyncio.get_running_loop().call_later(5, job.cancel)  # so that the test fails and does not hang
    assert scope.cancelled_caught
    assert job.cancelled()
    assert not descendants(os.getpid())


async def test_an_asyncio_timeout_ends_leaving(log: str) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012 - leaving is what raises
        async with asyncio.timeout(None) as limit:
            async with aioipc.Pool(1, shutdown=0) as pool:
                job = pool.submit(f.wait_until_interrupted, log)
                limit.reschedule(asyncio.get_running_loop().time() + 0.2)
                asyncio.get_running_loop().call_later(5, job.cancel)
    assert job.cancelled()
    assert not descendants(os.getpid())


async def test_in_a_task_group_that_fails(log: str) -> None:
    async def fail() -> None:
        await wait_marks(log, "started")
        raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - leaving is what raises
        async with anyio.create_task_group() as group, aioipc.Pool(1) as pool:
            group.start_soon(fail)
            await pool.run(f.wait_until_interrupted, log)
    assert caught.group_contains(KeyError, match="mine")
    assert f.marks(log) == "started finally "


@pytest_asyncio.fixture
async def pool_with_a_job(gate: f.Gate) -> AsyncIterator[tuple[aioipc.Pool, aioipc.Job[Any]]]:
    async with aioipc.Pool(1) as pool:
        opener = asyncio.current_task()
        job = pool.submit(f.pass_gate, gate.path, "finished")
        yield pool, job
        gate.let()
        assert asyncio.current_task() is not opener
    assert job.result() == "finished"


async def test_as_a_fixture(pool_with_a_job: tuple[aioipc.Pool, aioipc.Job[Any]], gate: f.Gate) -> None:
    """Opened in one task, used in another, closed in a third."""
    pool, job = pool_with_a_job
    await gate.wait_arrived()
    assert job.state == "running"
    assert pool.statistics().in_flight == 1


async def test_no_process_holds_more_than_it_needs(pool: aioipc.Pool) -> None:
    """Nothing of the master's that could be inherited reaches a worker."""
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        async with aioipc.Pool(1) as other:
            assert await other.run(f.square, 2) == 4
            os.close(writer)
            writer = -1
            assert os.read(reader, 1) == b""  # end of file: no copy is left anywhere
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


async def test_a_task_that_leaves_a_child_behind(single: aioipc.Pool) -> None:
    """It goes with its worker's group."""
    pid = await single.run(lambda: subprocess.Popen(["sleep", "1000"]).pid)
    assert is_running(pid)
    await single.aclose()
    wait_gone(pid)


def test_a_pool_that_is_never_closed() -> None:
    """The loop ends, the program ends: so do the processes."""
    source = """
        import asyncio, aioipc
        async def main():
            global pool
            pool = await aioipc.Pool(1).__aenter__()
            statistics = pool.statistics()
            print(statistics.workers[0].pid, statistics.zygote_pid)
        asyncio.run(main())
    """
    done = run_script(source, python=["-W", "ignore"]).check()
    for pid in map(int, done.stdout.split()):
        eventually(lambda pid=pid: not is_running(pid))
