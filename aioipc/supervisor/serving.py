"""Which child, and which pool, serves under a name at the moment, while supervisors above it come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exceptions import PoolClosed
from .driver import Driver
from .leases import Path
from .node_state import Child

if TYPE_CHECKING:
    from ..pool.pool import Pool


def child_now(driver: Driver, path: Path) -> Child | None:
    """Return the child at these names; ``None`` while a supervisor above it does not run.

    Raises LookupError where there is none.
    """
    child: Child | None = None
    for depth, name in enumerate(path):
        if (node := driver.tree.nodes.get(path[:depth])) is None:
            return None
        child = node.state.child(name)
    return child


def is_serving(driver: Driver, path: Path) -> bool:
    """Tell whether all processes of a child are RUNNING; raises LookupError where there is no such child."""
    child = child_now(driver, path)
    if child is None or child.goal != "up":
        return False
    if child.spec.pool is not None:
        return _open_pool(driver, child) is not None
    return all(slot.state == "RUNNING" for slot in child.slots)


def has_failed(driver: Driver, path: Path) -> bool:
    """Tell whether a child was given up, its supervisor not; raises LookupError where there is no such child."""
    child = child_now(driver, path)
    return child is not None and child.condition == "failed" and not driver.tree.nodes[path[:-1]].state.stopping


def pool_now(driver: Driver, path: Path) -> Pool:
    """Return the pool of a child that serves at the moment; see `Supervisor.pool` for what it raises."""
    name = "/".join(path)
    child = child_now(driver, path)
    if child is not None and child.spec.pool is None:
        raise TypeError(f"child {name!r} is a {child.spec.kind}, no pool")
    if child is not None and (pool := _open_pool(driver, child)) is not None:
        return pool
    state = "EXITED" if child is None else child.slots[0].state
    raise PoolClosed(
        f"the pool {name} is {state} and takes no tasks; await supervisor.wait_ready({name!r}) waits until it does"
    )


def _open_pool(driver: Driver, child: Child) -> Pool | None:
    """Return the pool of a child where it takes tasks: one that was given up does not, which the core hears later."""
    process = child.slots[0].current
    known = driver.processes.get(process.key) if process is not None and process.state == "RUNNING" else None
    return known.pool if known is not None and known.handle.state == "RUNNING" else None
