"""A worker is killed under load: how long until its tasks have settled and a new worker runs one.

The tasks say themselves, in a log file, who runs them; no peer need tell. The file is short and looked at in
the loop, every 2 ms, which no peer notices.
"""

# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import asyncio
import math
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from .functions import work
from .peers.base import WORKERS, Peer

TASK_SECONDS = 0.02
CLIENTS = 4 * WORKERS
LOOK_EVERY = 0.002


class Start(NamedTuple):
    """A line of the log that the workers write."""

    task: int
    pid: int
    when: float


class Load:
    """Clients that each send one task after the other, whatever comes of it."""

    def __init__(self, peer: Peer, log: Path) -> None:
        self._peer, self._log = peer, log
        self.outstanding: set[int] = set()
        self.settled: dict[int, float] = {}
        self._numbers = iter(range(1 << 60))

    async def client(self) -> None:
        while True:
            number = next(self._numbers)
            self.outstanding.add(number)
            try:
                await self._peer.call(work, (number, str(self._log), TASK_SECONDS))
            except Exception:
                await asyncio.sleep(LOOK_EVERY)
            self.outstanding.discard(number)
            self.settled[number] = time.monotonic()

    def starts(self) -> list[Start]:
        """All tasks that were started so far."""
        lines = (line.split() for line in self._log.read_text().splitlines())
        return [Start(int(task), int(pid), float(when)) for task, pid, when in lines]

    def running(self) -> list[Start]:
        """Those that no answer came for yet, where one at least has only just begun."""
        found = [start for start in self.starts() if start.task in self.outstanding]
        fresh = any(time.monotonic() - start.when < TASK_SECONDS / 2 for start in found)
        return found if fresh else []


async def time_to_recover(peer: Peer, cap: float) -> float:
    """Seconds, or infinity where it has not recovered within the cap."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        log = Path(directory, "log")
        log.touch()
        load = Load(peer, log)
        clients = [asyncio.ensure_future(load.client()) for _ in range(CLIENTS)]
        try:
            async with asyncio.timeout(cap):
                return await _kill_and_watch(load)
        except TimeoutError:
            return math.inf
        finally:
            for client in clients:
                client.cancel()


async def _kill_and_watch(load: Load) -> float:
    await asyncio.sleep(5 * TASK_SECONDS)
    while len({start.pid for start in load.starts()}) < WORKERS or not load.running():
        await asyncio.sleep(LOOK_EVERY)
    known, running = load.starts(), load.running()
    victim = max(running, key=lambda start: start.when).pid
    lost = {start.task for start in running if start.pid == victim}
    pids = {start.pid for start in known}
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while not (fresh := [start for start in load.starts() if start.pid not in pids]) or lost & load.outstanding:
        await asyncio.sleep(LOOK_EVERY)
    settled = max(load.settled[task] for task in lost)
    return max(min(start.when for start in fresh), settled) - killed
