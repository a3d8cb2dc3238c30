"""What follows from the end of a process (pure; on the state of node_state.py).

Whoever was told to end has ended as planned, however it did: no restart is counted. Else it is up to the restart kind:

    ended         permanent   transient   temporary
    well          restart     -           -
    otherwise     restart     restart     -

After it was ready, that is a restart that counts against the intensity, and which the strategy may extend to others.
What was done to it from outside, such as the death of its zygote, is a restart at any time, and one for all that it has
ended at once.

Before it was ready, it is a failed boot: three in a row, with no replica that is well, are one too many (decision 12);
while a supervisor starts, also with one that is well, or the start would never end. A process that could not even be
spawned is a failed boot too, but no reason to give up a child that has been ready before: the machine is short of
something then, and may not be for long.
"""

from __future__ import annotations

from .backoff import BOOT_BUDGET
from .events import Failure, ProcessKey
from .node_state import Child, NodeState, Process, Slot
from .rolling import roll_failed
from .spec import ChildSpec
from .stopping import give_up
from .strategies import companions


def ended(
    node: NodeState, key: ProcessKey, code: int | None, why: str, *, never_was: bool = False, cause: str = ""
) -> None:
    """Take note of the end of a process, and decide what is to become of its slot."""
    found = node.find(key)
    if found is None:
        return
    child, slot, process = found
    planned = process.ending and not process.fault
    well = code in process.spec.exit_codes and not process.fault and not never_was
    why = why or f"exit code {code}"
    if process.fault and not why.startswith(process.fault):
        why = f"{process.fault}; {why}"
    node.report("exited", why, "info" if planned or well else "warning", key=key)
    if process is slot.leaving:
        slot.leaving = None
    elif process is slot.successor:
        slot.successor = None
        if not planned:
            _replacement_failed(node, child, slot, process, why)
    elif node.stopping or not child.wants(slot):
        slot.move("EXITED")
    elif child.bounce:
        slot.move("EXITED" if process.spec.restart == "temporary" else "STARTING")
    elif planned:
        slot.move("STARTING")
    elif not comes_back(process.spec, well=well):
        slot.move("EXITED")
    elif process.ready_at is not None:
        _crashed(node, child, slot, process, why, cause)
    else:
        _boot_failed(node, child, slot, key, why, "" if process.fault else cause, never_was=never_was)


def comes_back(spec: ChildSpec, *, well: bool) -> bool:
    """Whether a child that ended by itself is started again."""
    return spec.restart == "permanent" or (spec.restart == "transient" and not well)


def _crashed(node: NodeState, child: Child, slot: Slot, process: Process, why: str, cause: str) -> None:
    assert process.ready_at is not None
    pause = slot.backoff.failed(node.now - process.ready_at)
    if _is_one_too_many(node, slot, process.key, why, cause):
        return
    if slot.successor is not None and not slot.successor.ending:
        slot.move("STARTING")  # the one that was to replace it does so at once
        slot.current, slot.successor = slot.successor, None
        slot.trial = slot.current.generation != child.generation
        slot.retire = ""
    else:
        slot.move("BACKOFF")
    slot.start_at = node.now + pause
    _take_companions(node, child)


def _is_one_too_many(node: NodeState, slot: Slot, key: ProcessKey, why: str, cause: str) -> bool:
    """Count a restart, if that is not done for its cause already, and give up where it is one too many."""
    is_counted = cause != "" and cause == node.last_cause
    node.last_cause = cause
    if is_counted or not node.intensity.add(node.now):
        return False
    slot.move("FATAL")
    spec = node.spec
    text = f"more than {spec.intensity} restarts within {spec.period:g} s; the last to end was {key}: {why}"
    give_up(node, Failure("intensity", text, key))
    return True


def _take_companions(node: NodeState, child: Child) -> None:
    """Have the strategy's others stop, and start again together with the one that failed."""
    for place in companions(node.spec.strategy, node.children.index(child), len(node.children)):
        other = node.children[place]
        if other.goal == "up":
            other.bounce = other.held = True
            other.started = False
            child.held, child.started = True, False
            for slot in other.slots:
                if slot.current is None and slot.rest == "EXITED" and other.spec.restart != "temporary":
                    slot.want()


def _boot_failed(
    node: NodeState, child: Child, slot: Slot, key: ProcessKey, why: str, cause: str, *, never_was: bool
) -> None:
    slot.start_at = node.now + slot.backoff.failed()
    if slot.trial:
        slot.trial = False
        slot.move("BACKOFF")
        roll_failed(node, child, why, at_once=not child.spec.surge)
        return
    if cause:
        if not _is_one_too_many(node, slot, key, why, cause):
            slot.move("BACKOFF")
        return
    slot.boot_failures += 1
    others_serve = child.ready > 0 and (node.up or child.started or child.tolerated)
    if slot.boot_failures < BOOT_BUDGET or others_serve or (never_was and child.proven):
        slot.move("BACKOFF")
        return
    slot.move("FATAL")
    text = f"{child.name} cannot start: {slot.boot_failures} in a row ended before they were ready; the last one: {why}"
    if child.tolerated and not child.proven:
        child.goal = "down"
        node.report("failed", text, "error", name=child.name)
    else:
        give_up(node, Failure("boot", text, key))


def _replacement_failed(node: NodeState, child: Child, slot: Slot, process: Process, why: str) -> None:
    slot.successor_at = node.now + slot.successor_backoff.failed()
    first, *more = why.split("\n", 1)
    node.report("replacement-failed", "\n".join([f"{first}; the old one stays", *more]), "error", key=process.key)
    if child.roll is not None and process.generation == child.roll.generation:
        roll_failed(node, child, why)
