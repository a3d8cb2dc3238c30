"""A signal that comes between the last bytecode before a system call and that call interrupts nothing, and Python runs
no handler before the call returns. Workers hear it nevertheless, and break into a task that was cancelled.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc.supervisor.service_control import EXIT_DEADLINE
from tests.harness.c_programs import compile_c
from tests.harness.processes import eventually_async

from . import late_signal_functions as f
from .launching import launcher


class Place:
    """Where the tasks wait: each says when it is there, and goes on with a byte each."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal"
        self.journal.touch()
        self.gate = directory / "gate"
        os.mkfifo(self.gate)
        self._held = os.open(self.gate, os.O_RDWR)

    async def reached(self) -> None:
        await eventually_async(lambda: bool(self.journal.read_text()), 30)

    def open(self) -> None:
        os.write(self._held, b"!")

    def close(self) -> None:
        os.close(self._held)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(f.SOURCE, tmp_path_factory.mktemp("late"), "late.so", shared=True)


@pytest.fixture
def place(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path)
    for name, value in ((f.LIBRARY, library), (f.JOURNAL, made.journal), (f.GATE, made.gate)):
        monkeypatch.setenv(name, str(value))
    yield made
    made.close()


@pytest.mark.parametrize("function", [f.wait_behind, f.block_behind])
async def test_drain(function: Callable[[int], Any], place: Place, loop_of_services: str) -> None:
    """The master learns of it while the task still runs, and what waits behind it is for the next worker."""
    async with asyncio.timeout(50), aioipc.Pool(1, concurrency=1) as pool:
        worker = await pool.run(os.getpid)
        job = pool.submit(function, signal.SIGTERM)
        behind = pool.submit(os.getpid)
        await place.reached()
        os.kill(worker, signal.SIGTERM)
        await eventually_async(lambda: pool.statistics().workers[0].state == "DRAINING", 30)
        place.open()
        assert await job is False
        assert await behind != worker
        assert pool.statistics().crashes == 0


async def test_the_loop_hears_its_own(place: Place, loop_of_services: str) -> None:
    """Tasks may have handlers in the loop as ever, and we go on listening after them."""
    async with asyncio.timeout(50), aioipc.Pool(1, heartbeat_timeout=8) as pool:
        assert await pool.run(f.own_handler)
        worker = await pool.run(os.getpid)
        job = pool.submit(f.block_behind, signal.SIGTERM)
        await place.reached()
        os.kill(worker, signal.SIGTERM)
        await eventually_async(lambda: pool.statistics().workers[0].state == "DRAINING", 30)
        place.open()
        assert await job is False


async def test_cancel(place: Place) -> None:
    """The worker breaks into the task, and lives."""
    async with asyncio.timeout(50), aioipc.Pool(1, grace=30) as pool:
        worker = await pool.run(os.getpid)
        job = pool.submit(f.wait_behind, signal.SIGINT)
        await place.reached()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert await pool.run(os.getpid) == worker


async def test_service(place: Place, loop_of_services: str) -> None:
    """A service whose loop is blocked for ever hears it too, and ends by its deadline."""
    async with launcher() as start:
        owner = start.service(f.serve_behind, shutdown=0.5)
        await place.reached()
        os.kill(owner.process.pid, signal.SIGTERM)
        assert (await owner.ended()).exitcode == EXIT_DEADLINE
