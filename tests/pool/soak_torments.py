"""What is done to the pool in a soak: processes killed, stopped, asked to end, the loop held up, its size changed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, deque
from contextlib import suppress

import aioipc

from ..harness.processes import process

TORMENTS = {
    "kill a worker": 40,
    "stop a worker for a while": 20,
    "terminate a worker": 8,
    "hold up the loop": 6,
    "resize": 6,
    "pause": 3,
    "stop the zygote for a while": 3,
    "kill the zygote": 2,
    "stop a worker for good": 1,
}
BETWEEN = 0.1
"""Mean seconds from one to the next."""


class Tormentor:
    """Goes on until it is cancelled; the last of what it did is in `recent`."""

    def __init__(self, pool: aioipc.Pool, chance: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=40)
        self._pool = pool
        self._chance = chance
        self._began = time.monotonic()
        self._zygote_killed = self._began

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / BETWEEN))
            self._torment(self._chance.choices(list(TORMENTS), list(TORMENTS.values()))[0])

    def _torment(self, what: str) -> None:
        statistics = self._pool.statistics()
        zygote = statistics.zygote_pid
        ready = [w.pid for w in statistics.workers if w.state == "RUNNING" and w.pid is not None]
        ready = [pid for pid in ready if is_child(pid, zygote)]
        if not ready:  # three that die before they are ready would be the end of the pool, as they should be
            return
        if what == "hold up the loop":
            self._note(what, os.getpid())
            time.sleep(self._chance.random() * 0.2)
        elif what == "resize":
            workers = self._chance.randrange(1, 5)
            self._note(what, os.getpid())
            self._pool.resize(workers)
        elif what == "pause":
            self._note(what, os.getpid())
            self._pool.pause()
            asyncio.get_running_loop().call_later(self._chance.random() * 0.3, self._resume)
        elif "zygote" in what:
            self._torment_zygote(what, zygote)
        else:
            self._torment_worker(what, self._chance.choice(ready), zygote)

    def _torment_worker(self, what: str, pid: int, zygote: int) -> None:
        self._note(what, pid)
        if what == "kill a worker":
            os.kill(pid, signal.SIGKILL)
        elif what == "terminate a worker":
            os.kill(pid, signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGSTOP)
            if "while" in what:
                self._continue_later(pid, zygote)

    def _torment_zygote(self, what: str, pid: int) -> None:
        if not is_child(pid, os.getpid()) or time.monotonic() - self._zygote_killed < 3:
            return
        self._note(what, pid)
        if what == "kill the zygote":
            self._zygote_killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGSTOP)
            self._continue_later(pid, os.getpid())

    def _continue_later(self, pid: int, parent: int) -> None:
        pause = self._chance.choice([0.001, self._chance.expovariate(1 / 0.2)])
        asyncio.get_running_loop().call_later(pause, self._continue, pid, parent)

    @staticmethod
    def _continue(pid: int, parent: int) -> None:
        if is_child(pid, parent):
            os.kill(pid, signal.SIGCONT)

    def _resume(self) -> None:
        with suppress(aioipc.PoolClosed):
            self._pool.resume()

    def _note(self, what: str, pid: int) -> None:
        self.counts[what] += 1
        self.recent.append(f"at {time.monotonic() - self._began:.3f} s: {what} ({pid})")


def is_child(pid: int, parent: int) -> bool:
    """Whether it is, as far as /proc can tell, still the process that is meant."""
    found = process(pid)
    return found is not None and found.ppid == parent and not found.is_zombie
