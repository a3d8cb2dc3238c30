"""What a task can know about the worker that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PoolWorker:
    """The worker process of a pool that this code runs in."""

    slot: int
    """Its place in the pool, from 0; no other living worker of the pool has the same."""
    pid: int
    state: Any = None
    """What the pool's ``initializer`` returned here; ``None`` without one. A task may put something else there."""


_here: list[PoolWorker] = []


def current_worker() -> PoolWorker:
    """Return the worker that this code runs in; raises RuntimeError elsewhere than in a pool's worker."""
    if not _here:
        raise RuntimeError("this process is no worker of a Pool: current_worker() is for functions that run in one")
    return _here[0]


def become(worker: PoolWorker) -> None:
    """Say which worker this process is."""
    _here[:] = [worker]
