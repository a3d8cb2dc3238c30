"""What `Supervisor.statistics` and `Supervisor.children` return: values of one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .driver import Driver
from .node_state import Child, Process, Slot
from .states import State

if TYPE_CHECKING:
    from ..pool.statistics import PoolStatistics

SupervisorState = Literal["starting", "running", "reloading", "stopping", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """One replica of a child, and its process where it has one."""

    name: str
    """Of its child; below a supervisor, with the names that lead to it: "backend/db"."""
    replica: int
    """The number of the replica, from 0 on."""
    state: State
    """STARTING, RUNNING, DRAINING, STOPPING, BACKOFF, EXITED or FATAL."""
    pid: int | None
    """``None`` where it has no process, or not yet; of a pool, that of the zygote that forks its workers."""
    generation: int
    """How often the supervisor had been reloaded when its process was started."""
    uptime: float
    """Seconds since its process was asked for; 0 without one."""
    restarts: int
    """How many processes it has had before this one."""
    last_exit: str
    """How the process before this one ended, in words; empty where there was none."""
    memory: int
    """Bytes of memory that its process, or the workers of the pool, have for themselves."""
    work: int
    """How many pieces of work its process has counted (`WorkerContext.count_work`); of a pool, tasks that settled."""
    status: str
    """What its process says that it is doing (`WorkerContext.set_status`, or STATUS= by sd_notify); of a pool, how much
    it has to do."""
    role: Literal["serving", "replacement", "leaving"] = "serving"
    """While a process is being replaced there are two for one number: the one that is to take its place, or after that
    the one that has had it, beside the one that serves."""
    pool: PoolStatistics | None = None
    """Of a pool that has been opened: what it is doing, with its workers."""


@dataclass(frozen=True, slots=True)
class ChildStatistics:
    """One child of a supervisor, or of one below it."""

    name: str
    """With the names of the supervisors that lead to it: "backend/db"."""
    kind: Literal["function", "command", "pool", "supervisor"]
    """What its target is."""
    restart: Literal["permanent", "transient", "temporary"]
    """As in its spec."""
    replicas: int
    """How many there are to be."""
    ready: int
    """How many are RUNNING."""
    state: Literal["starting", "up", "failed", "down"]
    """"up": all are RUNNING, or have ended well; "failed": one is FATAL; "down": there is none, and none is wanted;
    "starting": on its way."""
    listeners: Mapping[str, str]
    """Where it listens, by name, with the real port where a free one was asked for."""
    processes: tuple[ReplicaStatistics, ...]
    """Its replicas; of a supervisor, or a pool, one; of a supervisor without a process."""


@dataclass(frozen=True, slots=True)
class SupervisorStatistics:
    """A supervisor and all that is below it."""

    state: SupervisorState
    """What it is doing as a whole."""
    generation: int
    """How often it has been reloaded, with success or not."""
    uptime: float
    """Seconds since it was entered."""
    restarts: int
    """How many processes had others in their place before them, all told."""
    overdue: int
    """How many processes did not stop in time when the supervisor was shut down, and were killed or cancelled."""
    zygotes: Mapping[int, int]
    """The process ids of the processes that fork its children, by generation."""
    children: tuple[ChildStatistics, ...]
    """In start order, those of a supervisor behind it."""


def children_of(driver: Driver) -> tuple[ChildStatistics, ...]:
    """Return all children, at any depth."""
    return tuple(_below(driver, ()))


def state_of(driver: Driver) -> SupervisorState:
    """Return what the supervisor is doing."""
    root = driver.tree.root.state
    if driver.finished is not None or driver.fault is not None:
        return "stopped" if driver.fault is None and root.failure is None else "failed"
    if root.stopping:
        return "stopping"
    if root.reload is not None:
        return "reloading"
    return "running" if driver.is_up else "starting"


def _below(driver: Driver, path: tuple[str, ...]) -> list[ChildStatistics]:
    found: list[ChildStatistics] = []
    if (node := driver.tree.nodes.get(path)) is not None:
        for child in node.state.children:
            below = (*path, child.name)
            found.append(_child(driver, below, child))
            if child.spec.supervisor is not None:
                found += _below(driver, below)
    return found


def _child(driver: Driver, path: tuple[str, ...], child: Child) -> ChildStatistics:
    return ChildStatistics(
        name="/".join(path),
        kind=child.spec.kind,
        restart=child.spec.restart,
        replicas=child.replicas,
        ready=child.ready,
        state=child.condition,
        listeners=driver.leases.addresses(path, child.spec),
        processes=tuple(each for slot in child.slots for each in _replicas(driver, path, child, slot)),
    )


def _replicas(driver: Driver, path: tuple[str, ...], child: Child, slot: Slot) -> list[ReplicaStatistics]:
    found = [_replica(driver, path, child, slot, slot.current, "serving")]
    if slot.successor is not None:
        found.append(_replica(driver, path, child, slot, slot.successor, "replacement"))
    if slot.leaving is not None:
        found.append(_replica(driver, path, child, slot, slot.leaving, "leaving"))
    return found


def _replica(
    driver: Driver,
    path: tuple[str, ...],
    child: Child,
    slot: Slot,
    process: Process | None,
    role: Literal["serving", "replacement", "leaving"],
) -> ReplicaStatistics:
    known = driver.processes.get(process.key) if process is not None else None
    pool = None if known is None else known.pool_statistics()
    ending = driver.endings.get((path, slot.number))
    return ReplicaStatistics(
        name="/".join(path),
        replica=slot.number,
        state=slot.state if process is None else process.state,
        pid=known.handle.pid if known is not None else None,
        generation=child.generation if process is None else process.generation,
        uptime=0.0 if process is None else max(0.0, time.monotonic() - process.started_at),
        restarts=max(0, slot.starts - 1),
        last_exit="" if ending is None else ending.text,
        memory=0 if known is None else known.handle.memory(),
        work=0 if known is None else known.handle.work,
        status="" if known is None else known.said or _load_of(pool),
        role=role,
        pool=pool,
    )


def _load_of(pool: PoolStatistics | None) -> str:
    if pool is None:
        return ""
    return f"{len(pool.workers)} workers; tasks: {pool.queued} queued, {pool.in_flight} in flight, {pool.done} done"
