"""What a pool tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker, as it was when it was asked for."""

    slot: int
    """Its place in the pool, the lowest number that is free when it is asked for."""
    pid: int | None
    """``None`` until the process exists."""
    state: str
    """STARTING, RUNNING, DRAINING or STOPPING."""
    in_flight: int
    """Tasks it has, running or waiting in it."""
    finished: int
    """Tasks it has answered."""
    age: float
    """Seconds since it was asked for."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool, as it was when it was asked for. Counts are of tasks since the pool was opened."""

    workers: tuple[WorkerStatistics, ...]
    zygote_pid: int
    queued: int
    """Accepted and not yet with a worker."""
    in_flight: int
    """With a worker."""
    submitted: int
    done: int
    failed: int
    cancelled: int
    timed_out: int
    """Attempts ended by their timeout."""
    retried: int
    """Attempts made again, after a crash or an exception in ``retry_on``."""
    quarantined: int
    crashes: int
    """Workers that died while they ran tasks."""
    restarts: int
    """Workers started in place of one that had died."""
    recycled: int
    """Workers replaced because of their age, their memory or the number of tasks they had run."""
    pending: int
    """Accepted and not settled."""
    pending_bytes: int
    """Size of those, as they are sent."""
    paused: bool
    """Whether nothing is handed to workers, by `Pool.pause`."""
