"""Processes and their wake-ups, from /proc."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The direct children of all threads of a process."""
    found: list[int] = []
    for task in _listed(f"/proc/{pid}/task"):
        try:
            found.extend(map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()))
        except OSError:
            pass
    return found


def family_of(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for each in found:  # grows while we walk it
        found.extend(children_of(each))
    return found


async def wakeups_per_second(seconds: float) -> float:
    """How often the busiest process of our family goes from sleep to work while we do nothing.

    Counted are the voluntary context switches of all threads: each sleep is entered by one.
    """
    before, started = _switches(), time.perf_counter()
    await asyncio.sleep(seconds)
    after, elapsed = _switches(), time.perf_counter() - started
    return max(after[pid] - before[pid] for pid in before.keys() & after.keys()) / elapsed


def _switches() -> dict[int, int]:
    return {pid: sum(_of_task(pid, task) for task in _listed(f"/proc/{pid}/task")) for pid in family_of(os.getpid())}


def _of_task(pid: int, task: str) -> int:
    try:
        text = Path(f"/proc/{pid}/task/{task}/status").read_text()
    except OSError:
        return 0
    _, _, rest = text.partition("\nvoluntary_ctxt_switches:")
    return int(rest.split(maxsplit=1)[0])


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
