"""Which processes are started when, and what it means that one is ready (pure; on the state of node_state.py).

Children start in order. A child that has not been ready yet keeps those behind it waiting that have not started yet
either, and nobody else: once a child has been up, its restarts are its own business, unless a strategy takes it down
together with its companions.
"""

from __future__ import annotations

import math

from .actions import Spawn, Up
from .events import ProcessKey, Spawned
from .node_state import Child, NodeState, Process, Slot
from .states import moved
from .stopping import ask


def start(node: NodeState) -> None:
    """Start what is to be started now."""
    if node.stopping:
        return
    is_open = True
    for child in node.children:
        if child.goal == "up":
            if is_open or child.started:
                _fill(node, child)
            _note_started(child)
            is_open = is_open and (child.started or not child.spec.gate)
    if not node.up and all(child.started for child in node.children if child.goal == "up"):
        node.up = True
        node.actions.append(Up(node.path))


def spawn(node: NodeState, child: Child, slot: Slot, *, trial: bool = False) -> Process:
    """Start a process of the child's spec, or of the generation on trial, for the slot."""
    roll = child.roll if trial else None
    spec, generation = (child.spec, child.generation) if roll is None else (roll.spec, roll.generation)
    limit = math.inf if spec.boot_timeout is None else spec.boot_timeout
    key = ProcessKey((*node.path, child.name), slot.number, next(node.serials))
    node.actions.append(Spawn(key, spec, generation))
    slot.starts += 1
    return Process(key, spec, generation, node.now, node.now + limit)


def spawned(node: NodeState, event: Spawned) -> None:
    """Take note that a process exists."""
    if (found := node.find(event.key)) is not None:
        process = found[2]
        process.pid = event.pid
        if process.state == "STARTING" and isinstance(process.spec.ready, int | float):
            process.ready_due = node.now + process.spec.ready


def ready(node: NodeState, key: ProcessKey) -> None:
    """Take note that a process is ready, unless it has been asked to stop meanwhile."""
    found = node.find(key)
    if found is None or found[2].state != "STARTING":
        return
    child, slot, process = found
    process.move("RUNNING")
    process.ready_at, process.deadline, process.ready_due = node.now, math.inf, math.inf
    node.report("ready", f"after {node.now - process.started_at:.3g} s", key=key)
    _adopt_if_on_trial(child, slot, process)
    child.proven = True
    slot.boot_failures = 0
    slot.successor_backoff.reset()
    if process is slot.successor and child.wants(slot) and not child.bounce and not node.stopping:
        _take_place(node, slot)  # else both are about to be stopped, in their turn


def due(node: NodeState) -> None:
    """See to those that are ready since their time has come."""
    for process in node.processes():
        if process.ready_due <= node.now:
            ready(node, process.key)


def may_start(node: NodeState, child: Child, slot: Slot) -> bool:
    """Whether nothing but the order of the children keeps the slot from having a process now."""
    return child.is_waiting(slot) and not child.held and slot.successor is None and slot.start_at <= node.now


def _fill(node: NodeState, child: Child) -> None:
    for slot in child.slots:
        if may_start(node, child, slot):
            if slot.rest == "BACKOFF":
                slot.move("STARTING")
            slot.retire = ""
            slot.current = spawn(node, child, slot, trial=slot.trial)


def _note_started(child: Child) -> None:
    if not (child.started or child.held):  # who is held may be RUNNING and yet be about to be stopped
        child.started = all(slot.state in ("RUNNING", "EXITED", "FATAL") for slot in child.slots if child.wants(slot))


def _adopt_if_on_trial(child: Child, slot: Slot, process: Process) -> None:
    """The first process of a new generation that gets ready has proven it: from here on it is the child's own."""
    roll = child.roll
    if roll is not None and process.generation == roll.generation:
        roll.failures = 0
        adopt(child)
    slot.trial = False


def adopt(child: Child) -> None:
    """Have the new generation in force for whatever is started."""
    roll = child.roll
    assert roll is not None
    if child.generation != roll.generation:
        if roll.spec.replicas != child.spec.replicas:  # else what a command has scaled it to stays
            child.resize(roll.spec.replicas)
        child.spec, child.generation = roll.spec, roll.generation
        for slot in child.slots:
            slot.trial = False


def _take_place(node: NodeState, slot: Slot) -> None:
    """Have the successor take the slot; who had it may go now."""
    old, slot.current, slot.successor = slot.current, slot.successor, None
    assert old is not None
    assert slot.leaving is None
    assert old.state == "RUNNING" or moved(old.state, "RUNNING")
    why, slot.retire = slot.retire or "a newer generation has taken its place", ""
    slot.leaving = old
    node.report("replaced", why, key=old.key)
    ask(node, old, why)
