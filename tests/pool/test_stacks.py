"""What a worker that is killed for being stuck was doing is told: in the exception, and in the pool's log."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aioipc

from ..harness.processes import eventually_async
from . import fault_functions as tasks
from . import sample_functions as f
from . import state_functions as s
from . import stream_functions as g
from .fault_functions import Gate, Journal

PRELOAD = [f.__name__, s.__name__, g.__name__, tasks.__name__, "uvloop"]


def line_of(function: Callable[..., Any], text: str) -> int:
    """The number of the line of a function that holds the text."""
    lines, first = inspect.getsourcelines(function)
    [number] = [i for i, line in enumerate(lines) if text in line]
    return first + number


def at(function: Callable[..., Any], text: str) -> str:
    """How faulthandler names that line."""
    return f'{Path(inspect.getfile(function)).name}", line {line_of(function, text)} in {function.__name__}'


async def crash_of(job: aioipc.Job[Any]) -> aioipc.WorkerCrashed:
    async with asyncio.timeout(40):
        await asyncio.wait([job])
    error = job.exception()
    assert isinstance(error, aioipc.WorkerCrashed), error
    return error


async def test_stuck_workers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A blocked loop, a held GIL and a stopped process, all at once since each takes its time."""
    caplog.set_level(logging.WARNING, "aioipc.pool")
    journals = [Journal(tmp_path / str(i)) for i in range(5)]
    async with f.open_pool(3, concurrency=8, heartbeat_timeout=4, preload=PRELOAD) as pool:
        loop_pool = aioipc.Pool(1, concurrency=8, heartbeat_timeout=4, shutdown=1, preload=PRELOAD)
        async with loop_pool:
            beside = [loop_pool.submit(s.wait_in_vain, journals[0].path) for _ in range(2)]
            streaming = loop_pool.stream(g.waiting_for_ever_async, journals[1].path)
            await anext(streaming)
            await eventually_async(lambda: len(journals[0].lines()) == 2, 20)
            blocked = loop_pool.submit(tasks.block_the_loop, journals[2].path)
            held = pool.submit(tasks.hold_the_gil, journals[3].path)
            stopped = pool.submit(tasks.stop_here, journals[4].path)

            stacks = (await crash_of(blocked)).stacks
            assert at(tasks.block_the_loop, "time.sleep(seconds)") in stacks
            line = line_of(s.wait_in_vain, "await asyncio.Event().wait()")
            assert stacks.count(f'state_functions.py", line {line}, in wait_in_vain') == 2
            assert "in waiting_for_ever_async" in stacks
            for job in beside:
                assert (await crash_of(job)).stacks == stacks
            with pytest.raises(aioipc.WorkerCrashed) as caught:
                await anext(streaming)
            assert caught.value.stacks == stacks
            assert loop_pool.statistics().crashes == 1

        stacks = (await crash_of(held)).stacks
        assert (
            at(tasks.hold_the_gil, "sleep(seconds)") in stacks
        )  # and the end of that sleep, by the signal, is no result
        assert (await crash_of(stopped)).stacks == ""
    logged = [record.getMessage() for record in caplog.records if "was doing this" in record.getMessage()]
    assert len(logged) == 2
    assert {"block_the_loop" in text for text in logged} == {"hold_the_gil" in text for text in logged} == {True, False}


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_task_that_does_not_end(how: str, journal: Journal, caplog: Any) -> None:
    """The exception is TaskTimeout, or a cancellation: the stacks are in the log of the pool."""
    caplog.set_level(logging.WARNING, "aioipc.pool")
    async with f.open_pool(1, grace=0.1, preload=PRELOAD) as pool:
        job = pool.submit(s.swallow_interrupts, journal.path, timeout=1.5 if how == "timeout" else None)
        await eventually_async(lambda: journal.lines() != [], 20)
        if how == "cancel":
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
        else:
            with pytest.raises(aioipc.TaskTimeout):
                await job
    [text] = [record.getMessage() for record in caplog.records if "was doing this" in record.getMessage()]
    assert "in swallow_interrupts" in text


async def test_a_worker_killed_from_outside_has_no_stacks(journal: Journal, gate: Gate) -> None:
    async with f.open_pool(1, preload=PRELOAD) as pool:
        job = pool.submit(tasks.held, journal.path, gate.path, 1)
        await eventually_async(lambda: journal.lines() == ["1"], 20)
        pid = pool.statistics().workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert (await crash_of(job)).stacks == ""
