"""When what was asked of a child is done, and the errors that say how a child, or the supervisor, has failed."""

from __future__ import annotations

from collections.abc import Set

from ..exceptions import SupervisorFailed, WorkerBootError
from .driver import Driver
from .events import Failure, ProcessKey
from .leases import Path
from .node_state import Child


def is_lost(child: Child) -> bool:
    """Tell whether it cannot get ready, or was given up."""
    return child.cannot_start or child.condition == "failed"


def is_started(child: Child) -> bool:
    """Tell whether it is up, or will not be."""
    return child.cannot_start or child.condition != "starting"


def is_replaced(child: Child, old: Set[ProcessKey]) -> bool:
    """Tell whether its processes are up, no ``old`` one is left and none is being replaced; or it will not be."""
    if is_lost(child) or child.condition == "down":
        return True
    under_way = any(slot.retire or slot.successor is not None or slot.leaving is not None for slot in child.slots)
    return child.condition == "up" and not under_way and not has_any(child, old)


def is_scaled(child: Child) -> bool:
    """Tell whether as many replicas as it is to have are up, and no more are there; or it will not be."""
    surplus = any(slot.number >= child.replicas for slot in child.slots)
    return is_lost(child) or child.condition == "down" or (child.condition == "up" and not surplus)


def has_any(child: Child, keys: Set[ProcessKey]) -> bool:
    """Tell whether any of these processes is left."""
    return any(process.key in keys for process in child.processes())


def raise_boot_failure(driver: Driver, path: Path, child: Child) -> None:
    """Raise WorkerBootError where the child, or the last replacement of one of its processes, could not get ready."""
    if not is_lost(child) and path not in driver.problems:
        return
    ending = driver.last_ending(path)
    text = driver.problems.get(path) or f"{'/'.join(path)} cannot start: {'' if ending is None else ending.text}"
    stderr, code = ("", None) if ending is None else (ending.stderr, ending.code)
    raise WorkerBootError(text, stderr=stderr, exitcode=code)


def supervisor_failed(driver: Driver, failure: Failure) -> SupervisorFailed:
    """Return the error that says why the supervisor gave up, with the last words of the process that was to blame."""
    key = failure.key
    ending = None if key is None else driver.last_ending(key.path)
    return SupervisorFailed(
        failure.reason,
        kind=failure.kind,
        child="" if key is None else "/".join(key.path),
        replica=None if key is None else key.slot,
        exitcode=None if ending is None else ending.code,
        stderr="" if ending is None else ending.stderr,
    )
