"""The soak: reload after reload, and nothing grows: no descriptor, no thread, no process, no memory.

``AIOIPC_SOAK_RELOADS`` says how many reloads (half on each loop), ``AIOIPC_SOAK_WORKERS`` of how many workers (80
unless told). Meanwhile workers are killed, one reload in ten is of code that does not work, and connections are made.
A line is printed for every tenth. It takes long and is skipped where nobody asks for it: ``make soak-supervisor`` does
500.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc import Supervisor, SupervisorSpec, WorkerContext

from ..harness.processes import children, eventually_async, open_descriptors
from . import supervised_functions as functions
from .supervising import ask, kill, port_of, replaced, serving

RELOADS = int(os.environ.get("AIOIPC_SOAK_RELOADS", "0")) // 2
WORKERS = int(os.environ.get("AIOIPC_SOAK_WORKERS", "80"))
EACH = 10
WARM_UP = min(5 * EACH, RELOADS // 2)
"""Reloads after which memory is to stay as it is: caches are full then, and the allocator has what it needs."""
GROWTH = 0.05
LONG = 300.0


@dataclass(frozen=True)
class Figures:
    """What a supervisor has at one moment."""

    descriptors: int
    threads: int
    processes: int
    objects: int
    """Those that the garbage collector knows."""
    rss: int
    """KiB; of the master."""
    pss: int
    """Depends on who else on the machine has the same pages: to be looked at, not judged."""
    zygote_rss: int
    """Of a new process after each reload, which imports more when it is idle."""
    zygote_pss: int

    def __str__(self) -> str:
        counts = f"{self.descriptors} fds, {self.threads} threads, {self.processes} processes, {self.objects} objects"
        master, zygote = f"{self.rss} (PSS {self.pss})", f"{self.zygote_rss} (PSS {self.zygote_pss})"
        return f"{counts}; RSS of the master {master}, of the zygote {zygote} KiB"


def figures(supervisor: Supervisor) -> Figures:
    """Count what there is."""
    gc.collect()
    (zygote,) = supervisor.statistics().zygotes.values()
    return Figures(
        descriptors=len(open_descriptors()),
        threads=len(os.listdir("/proc/self/task")),
        processes=sum(1 + len(children(each.pid)) for each in children(os.getpid())),
        objects=len(gc.get_objects()),
        rss=memory("self", "Rss"),
        pss=memory("self", "Pss"),
        zygote_rss=memory(zygote, "Rss"),
        zygote_pss=memory(zygote, "Pss"),
    )


def memory(pid: int | str, name: str) -> int:
    """A figure of /proc/PID/smaps_rollup, in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


async def fail(worker: WorkerContext) -> None:
    raise RuntimeError("this code does not work")


def spec(target: Callable[[WorkerContext], Coroutine[Any, Any, None]] = functions.serve) -> SupervisorSpec:
    return SupervisorSpec([serving(target=target, replicas=WORKERS, max_unavailable=8, stderr="null")], intensity=None)


class Soak:
    """A supervisor that is reloaded, and what it had after the warm-up."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.warm: Figures | None = None

    async def round(self, number: int) -> None:
        """One reload, with a little trouble before."""
        supervisor = self.supervisor
        if number % EACH == 0:
            with pytest.raises(aioipc.ReloadFailed):
                await supervisor.reload(spec(fail))
        if number % 3 == 0:
            await replaced(supervisor, "web", kill(supervisor, "web"))
        await supervisor.reload()
        await eventually_async(self.is_settled, LONG, lambda: supervisor.statistics())
        assert (await ask(port_of(supervisor)))[-1] == "hello"

    def is_settled(self) -> bool:
        """Whether what was replaced is gone, and its zygote."""
        found = children(os.getpid())
        return len(found) == 1 and len(children(found[0].pid)) == WORKERS

    def look(self, number: int, seconds: float) -> None:
        """Print what there is, and compare it with what there was."""
        now = figures(self.supervisor)
        print(f"{seconds:6.0f} s, reload {number}: {now}", flush=True)
        if number == WARM_UP:
            self.warm = now
        if (before := self.warm) is not None:
            counts = [(each.descriptors, each.threads, each.processes) for each in (before, now)]
            assert counts[0] == counts[1], f"{before} after {WARM_UP} reloads, {now} after {number}"
            assert now.rss <= before.rss * (1 + GROWTH), f"{before} after {WARM_UP} reloads, {now} after {number}"


@pytest.mark.slow
@pytest.mark.skipif(not RELOADS, reason="takes long: make soak-supervisor, or AIOIPC_SOAK_RELOADS=500")
@pytest.mark.timeout(300 + RELOADS * (5 + WORKERS / 2))
async def test_reloads() -> None:
    faulthandler.cancel_dump_traceback_later()  # its time is no sign of a hang
    begin = time.monotonic()
    async with Supervisor(spec()) as supervisor:
        soak = Soak(supervisor)
        await eventually_async(soak.is_settled, LONG)
        soak.look(0, time.monotonic() - begin)
        for number in range(1, RELOADS + 1):
            await soak.round(number)
            if number % EACH == 0 or number in (WARM_UP, RELOADS):
                soak.look(number, time.monotonic() - begin)
    assert children(os.getpid()) == []
