"""What operators and programs tell a running supervisor to do (pure): see the commands in events.py.

Each is checked first: what is refused has changed nothing.
"""

from __future__ import annotations

from .checks import check_replicas
from .events import DeleteChild, Reload, RestartChild, Scale, StartChild, TerminateChild
from .node_state import Child, NodeState
from .rolling import request_reload, revive
from .spec import ChildSpec, SupervisorSpec


def start_child(node: NodeState, event: StartChild) -> None:
    """See `StartChild`."""
    if not isinstance(event.spec, ChildSpec):
        raise TypeError(f"a child must be a ChildSpec, not {event.spec!r}")
    if any(child.name == event.spec.name for child in node.children):
        raise ValueError(f"there is a child {event.spec.name!r} already")
    added = Child(event.spec, node.generation, dynamic=True, tolerated=True)
    node.children.append(added)


def terminate_child(node: NodeState, event: TerminateChild) -> None:
    """See `TerminateChild`."""
    _stop(node.child(event.name))


def delete_child(node: NodeState, event: DeleteChild) -> None:
    """See `DeleteChild`."""
    child = node.child(event.name)
    _stop(child)
    child.goal = "deleted"


def restart_child(node: NodeState, event: RestartChild) -> None:
    """See `RestartChild`."""
    child = node.child(event.name)
    if child.goal != "up":
        child.started = False
    for slot in child.slots:
        if slot.current is not None and slot.current.state == "RUNNING":
            slot.retire = slot.retire or "a restart was asked for"
    revive(child)


def scale(node: NodeState, event: Scale) -> None:
    """See `Scale`."""
    child = node.child(event.name)
    check_replicas(event.replicas)
    if child.spec.kind in ("pool", "supervisor") and event.replicas != 1:
        hint = "; its PoolSpec says how many workers it has" if child.spec.kind == "pool" else ""
        raise ValueError(f"replicas must be 1 for a {child.spec.kind}, not {event.replicas}{hint}")
    child.resize(event.replicas)


def reload(node: NodeState, event: Reload) -> None:
    """See `Reload`."""
    if event.generation <= node.last_generation:
        raise ValueError(f"generation must be above {node.last_generation}, not {event.generation}")
    if event.spec is not None:
        _check_kinds(node, event.spec)
    request_reload(node, event)


def _check_kinds(node: NodeState, spec: SupervisorSpec) -> None:
    known = {child.name: child for child in node.children}
    for each in spec.children:
        if (child := known.get(each.name)) is None:
            continue
        if child.goal == "deleted":
            raise ValueError(f"child {each.name!r} is still being removed")
        if (child.spec.supervisor is None) != (each.supervisor is None):
            raise ValueError(f"child {each.name!r} cannot turn from a {child.spec.kind} into a {each.kind}")


def _stop(child: Child) -> None:
    child.goal = "down"
    child.bounce = child.held = False
    child.roll = None
    for slot in child.slots:
        slot.retire, slot.trial = "", False
        if slot.state == "FATAL":
            slot.move("EXITED")
