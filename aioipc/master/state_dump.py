"""What SIGUSR1 writes to the log: everything that runs, a line each (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..supervisor.supervisor_statistics import ChildStatistics, ReplicaStatistics, SupervisorStatistics

if TYPE_CHECKING:
    from ..pool.statistics import WorkerStatistics


def dump_lines(statistics: SupervisorStatistics) -> Iterator[str]:
    """Go through the lines."""
    zygotes = ", ".join(f"{generation} by pid {pid}" for generation, pid in statistics.zygotes.items())
    yield (
        f"the supervisor is {statistics.state}: up {statistics.uptime:.0f} s, generation {statistics.generation}, "
        f"restarts {statistics.restarts}; generations forked: {zygotes or 'none'}"
    )
    for child in statistics.children:
        yield _child(child)
        for process in child.processes:
            if child.kind != "supervisor":
                yield f"  {_process(child, process)}"
            for worker in process.pool.workers if process.pool is not None else ():
                yield f"    {_worker(process.name, worker)}"


def _child(child: ChildStatistics) -> str:
    where = "".join(f", {name} at {address}" for name, address in child.listeners.items())
    return (
        f"{child.name} ({child.kind}, {child.restart}): {child.state}, {child.ready} of {child.replicas} ready{where}"
    )


def _process(child: ChildStatistics, process: ReplicaStatistics) -> str:
    name = f"the pool {child.name}" if child.kind == "pool" else f"{child.name}.{process.replica}"
    parts = [f"{name} {process.state}"]
    if process.role != "serving":
        parts.append(process.role)
    if process.pid is not None:
        parts.append(f"pid {process.pid}")
        parts.append(f"up {process.uptime:.0f} s")
        parts.append(f"{process.memory / (1 << 20):.0f} MiB")
    parts += [f"generation {process.generation}", f"restarts {process.restarts}"]
    if process.work:
        parts.append(f"work {process.work}")
    if process.last_exit:
        parts.append(f"last exit: {process.last_exit}")
    if process.status:
        parts.append(f"says: {process.status}")
    return ", ".join(parts)


def _worker(pool: str, worker: WorkerStatistics) -> str:
    tasks = f"tasks: {worker.in_flight} in flight, {worker.finished} finished"
    return f"{pool}.{worker.slot} {worker.state}, pid {worker.pid}, up {worker.age:.0f} s, {tasks}"
