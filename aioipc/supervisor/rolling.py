"""How processes that run well are replaced: one by one when they retire, all of them in a reload (pure).

Replacement first: the successor must be ready before the old process is asked to drain; one that fails to get ready
changes nothing. At most ``max_unavailable`` slots of a child are in the course of that at once, counted until the old
process is gone. A child that cannot have two processes in a slot (``surge=False``) has the old one stopped first, as
long as no more than ``max_unavailable`` slots are not RUNNING.

In a reload the first process of the new generation that gets ready proves it for its child (starting.py). Until then
the old generation stays in force, and three failures in a row give the reload up; one does where the old process had
to go first.
"""

from __future__ import annotations

from .actions import Reloaded, ReloadNested
from .backoff import BOOT_BUDGET
from .events import NestedReloaded, Reload, RetireWanted
from .node_state import Child, NodeState, Roll, Slot
from .spec import ChildSpec, SupervisorSpec
from .starting import adopt, spawn
from .stopping import ask


def retire(node: NodeState, event: RetireWanted) -> None:
    """Take note that a process is to be replaced, unless it is on its way out already."""
    if (found := node.find(event.key)) is not None:
        _, slot, process = found
        if process is slot.current and process.state == "RUNNING" and not slot.retire:
            slot.retire = event.why


def roll(node: NodeState) -> None:
    """Do the next steps of whatever is to be replaced."""
    if node.stopping:
        return
    while node.reload is not None and _advance(node, node.reload):
        pass
    for child in node.children:
        if child.goal == "up" and not child.held:
            _replace_due(node, child)
            if child.roll is not None:
                _try_in_waiting(child, child.roll)


def is_due(child: Child, slot: Slot) -> bool:
    """Whether the slot's process is to be replaced, and nothing but time and the others keeps it from that."""
    process = slot.current
    if process is None or process.state != "RUNNING" or slot.successor is not None or slot.leaving is not None:
        return False
    outdated = child.roll is not None and process.generation != child.roll.generation and not process.spec.supervisor
    return child.wants(slot) and (outdated or bool(slot.retire))


def request_reload(node: NodeState, event: Reload) -> None:
    """Begin a reload, or have it wait for the end of the one under way."""
    node.last_generation = event.generation
    if node.reload is None:
        node.reload = event
        node.report("reloading", f"generation {event.generation}")
        return
    if (waiting := node.next_reload) is not None:
        _answer(node, waiting.generation, "another reload was asked for before it began")
    node.next_reload = event


def roll_failed(node: NodeState, child: Child, why: str, *, at_once: bool = False) -> None:
    """Count a process of the new generation that did not get ready; too many, or a newer one waits: give it up.

    ``at_once``: the first is too many, since the old one had to go before it could be tried, and is missed.
    """
    if child.roll is not None and node.reload is not None:
        child.roll.failures += 1
        if at_once or child.roll.failures >= BOOT_BUDGET or node.next_reload is not None:
            _abort(node, child, f"{child.name} cannot start: {why}")


def nested_reloaded(node: NodeState, event: NestedReloaded) -> None:
    """Take note of how the reload of a supervisor below has ended."""
    found = node.find(event.key)
    if found is None or found[0].roll is None or found[0].roll.generation != event.generation:
        return
    child, _, process = found
    if event.failure is not None:
        _abort(node, child, f"{child.name}: {event.failure}")
    else:
        process.generation = event.generation
        adopt(child)


# -- one child ---------------------------------------------------------------------------------------------


def _replace_due(node: NodeState, child: Child) -> None:
    due = [slot for slot in child.slots if is_due(child, slot) and slot.successor_at <= node.now]
    if due:
        room = max(0, child.spec.max_unavailable - _under_way(child))
        for slot in due[:room]:
            _replace(node, child, slot)


def _under_way(child: Child) -> int:
    """Return how many slots are in the course of being replaced, as ``max_unavailable`` counts them."""
    if child.spec.surge:
        return sum(slot.successor is not None or slot.leaving is not None for slot in child.slots)
    return child.unavailable


def _replace(node: NodeState, child: Child, slot: Slot) -> None:
    assert slot.current is not None
    why = slot.retire or "a newer generation takes its place"
    node.report("replacing", why, key=slot.current.key)
    if child.spec.surge:
        slot.successor = spawn(node, child, slot, trial=child.roll is not None)
    else:
        slot.retire, slot.trial = "", child.roll is not None
        ask(node, slot.current, why)


def _try_in_waiting(child: Child, roll: Roll) -> None:
    """Where the old generation does not work there is nothing to lose."""
    serves = bool(child.serving)
    for slot in child.slots:
        if child.is_waiting(slot) and (slot.boot_failures or not serves):
            slot.trial = child.generation != roll.generation


# -- all of them -------------------------------------------------------------------------------------------


def _advance(node: NodeState, reload: Reload) -> bool:
    """Go on with the child whose turn it is; return whether that ended the reload."""
    for child in node.children:
        if child.goal == "deleted" or _is_dropped(child, reload.spec):
            continue
        if child.roll is None:
            if child.generation == reload.generation:
                continue
            child.roll = Roll(_new_spec(child, reload.spec), reload.generation)
        if not _is_complete(node, child, child.roll):
            return False
        child.roll = None
    _complete(node, reload)
    return True


def _is_complete(node: NodeState, child: Child, roll: Roll) -> bool:
    """Whether nothing of an older generation is left in a child, but for what is on its way out."""
    serving = child.serving
    if not serving and not any(child.is_waiting(slot) for slot in child.slots):  # nothing to keep, nothing to prove
        adopt(child)
        if child.condition == "failed":
            revive(child)
        return True
    for process in serving:
        if process.spec.supervisor and process.generation != roll.generation and roll.asked != process.key:
            roll.asked = process.key
            assert roll.spec.supervisor is not None
            node.actions.append(ReloadNested(process.key, roll.generation, roll.spec.supervisor))
    is_new = all(process.generation == roll.generation for process in serving)
    return (
        is_new and child.generation == roll.generation and not any(slot.trial or slot.successor for slot in child.slots)
    )


def revive(child: Child) -> None:
    """Start a child that is stopped, has finished or failed."""
    child.goal = "up"
    for slot in child.slots:
        slot.want()


def _complete(node: NodeState, reload: Reload) -> None:
    """Everything that stays has been replaced: now for what comes and what goes."""
    if reload.spec is not None:
        _change_children(node, reload, reload.spec)
        node.spec = reload.spec
        node.intensity.change(reload.spec.intensity, reload.spec.period)
    node.generation = reload.generation
    node.report("reloaded", f"generation {reload.generation}")
    _end(node, reload, None)


def _change_children(node: NodeState, reload: Reload, spec: SupervisorSpec) -> None:
    known = {child.name: child for child in node.children}
    order: list[Child] = []
    for each in spec.children:
        if each.name in known:
            child = known.pop(each.name)
            child.dynamic = False  # one that a command has added is of the spec from now on
            order.append(child)
        else:
            order.append(Child(each, reload.generation, tolerated=True))
    for child in node.children:
        if child not in order:
            if not child.dynamic:
                child.goal = "deleted"
            order.append(child)
    node.children[:] = order


def _abort(node: NodeState, child: Child, why: str) -> None:
    """Give a reload up: what has been replaced stays, and so does what has not."""
    reload, child.roll = node.reload, None
    assert reload is not None
    for slot in child.slots:
        slot.trial = False
        if slot.successor is not None and slot.successor.generation == reload.generation != child.generation:
            ask(node, slot.successor, "the reload was given up")
    node.report("reload-failed", f"generation {reload.generation}: {why}", "error")
    _end(node, reload, why)


def _end(node: NodeState, reload: Reload, failure: str | None) -> None:
    _answer(node, reload.generation, failure)
    following = node.next_reload
    node.reload = node.next_reload = None
    if following is not None:
        request_reload(node, following)


def _answer(node: NodeState, generation: int, failure: str | None) -> None:
    node.actions.append(Reloaded(node.path, generation, failure))


def _is_dropped(child: Child, spec: SupervisorSpec | None) -> bool:
    return spec is not None and not child.dynamic and child.name not in {each.name for each in spec.children}


def _new_spec(child: Child, spec: SupervisorSpec | None) -> ChildSpec:
    for each in spec.children if spec is not None else ():
        if each.name == child.name:
            return each
    return child.spec
