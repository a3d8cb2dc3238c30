"""Who is asked to stop when, who is killed, and when all is over (pure; on the state of node_state.py).

What is stopped together is stopped in reverse start order, each child when the one behind it is gone; the replicas of
a child at once. Each process has its own limit, capped by the one deadline of the whole, at which everything that is
left is killed. A child that hangs does not use up the time of the others: when its equal share of the time that is left
is over, the next one is asked to stop beside it. So everybody is asked before the deadline, and none gets less time.
"""

from __future__ import annotations

import math

from .actions import Escalate, Finished, Kill, Reloaded, Stop
from .events import Failure, Shutdown
from .node_state import Child, NodeState, Process, Slot

KILL_GRACE = 5.0
"""Seconds after SIGKILL for which an end waits for a process that the kernel does not let go (state D)."""
GIVE_UP = 8.0
"""Seconds that the others get to stop after a failed boot: what must be killed then is gone within 10 (decision 12)."""


def ask(node: NodeState, process: Process, why: str) -> None:
    """Ask a process to drain and end, or kill it if its spec says so; asked already: do nothing."""
    if process.ending:
        return
    if process.spec.shutdown == "brutal_kill":
        kill(node, process, why)
        return
    limit = process.spec.shutdown
    process.deadline = min(node.deadline, math.inf if limit is None else node.now + float(limit))
    process.ready_due = math.inf
    process.move("DRAINING" if process.state == "RUNNING" else "STOPPING")
    node.actions.append(Stop(process.key, process.deadline, why))


def kill(node: NodeState, process: Process, why: str, *, dump: bool = False) -> None:
    """Kill a process; killed already: do nothing."""
    if process.killed:
        return
    process.killed = True
    process.ready_due = math.inf
    # A supervisor below kills its own processes and waits for them no longer than this.
    process.deadline = math.inf if process.spec.supervisor else node.now + KILL_GRACE
    if process.state != "STOPPING":
        process.move("STOPPING")
    node.actions.append(Kill(process.key, why, dump))


def kill_faulty(node: NodeState, process: Process, why: str) -> None:
    """Kill a process for a fault of its own; what it was doing goes to the log first."""
    if not process.ending:
        process.fault = why
    kill(node, process, why, dump=True)


def expire(node: NodeState) -> None:
    """Act on every deadline that has passed."""
    if node.stopping and node.deadline <= node.now:
        for process in node.processes():
            kill(node, process, "the deadline of the shutdown has passed")
    for child in node.children:
        for slot in child.slots:
            for process in list(slot.processes()):
                if process.deadline <= node.now:
                    _overdue(node, slot, process)


def take_down(node: NodeState) -> None:
    """Ask those to stop that are not wanted (any more), as far as it is their turn."""
    for child in node.children:
        _stop_unwanted(node, child)
    if node.stopping:
        _stop_in_order(node, node.children, "the supervisor stops")
    elif any(child.held for child in node.children):
        _bounce(node)


def begin_shutdown(node: NodeState, event: Shutdown) -> None:
    """Stop everything, or do it faster."""
    if event.deadline < node.deadline:
        node.deadline = event.deadline
        _shorten_turns(node)
    if event.quick:
        for process in node.processes():
            kill(node, process, "everything is to end at once")
    _stop_all(node, "the supervisor stops")


def _shorten_turns(node: NodeState) -> None:
    """Have those whose turn it is leave enough of what is left, which has become less, to those before them."""
    left = [child for child in node.children if child.processes()]
    for place, child in enumerate(left, 1):
        if child.turn_until != math.inf:
            child.turn_until = min(child.turn_until, _share(node, place))


def give_up(node: NodeState, failure: Failure) -> None:
    """Stop everything because the supervisor has failed, and say so to the one above."""
    node.failure = failure
    node.report("gave-up", failure.reason, "error")
    node.actions.append(Escalate(node.path, failure))
    if failure.kind == "boot":
        node.deadline = min(node.deadline, node.now + GIVE_UP)
    _stop_all(node, f"the supervisor gave up: {failure.reason}")


def tidy(node: NodeState) -> None:
    """Forget slots, children and, at the end, the node itself that are over."""
    for child in list(node.children):
        child.slots = [slot for slot in child.slots if slot.number < child.replicas or slot.occupied]
        ended = child.dynamic and child.spec.restart == "temporary" and child.condition == "down" and not node.stopping
        if (child.goal == "deleted" or ended) and not child.processes():
            node.children.remove(child)
            node.report("removed", "its processes are gone", name=child.name)
    if node.stopping and not node.finished and not node.processes():
        node.finished = True
        node.report("stopped", str(node.failure or "all processes are gone"))
        node.actions.append(Finished(node.path, node.failure, tuple(node.left)))


def _rest(slot: Slot) -> None:
    """Have a slot that waits for a process wait no more."""
    if slot.current is None and slot.rest in ("STARTING", "BACKOFF"):
        slot.move("EXITED")


def _overdue(node: NodeState, slot: Slot, process: Process) -> None:
    if process.state == "STARTING":
        hint = ": it has not called worker.ready()" if process.spec.ready == "call" else ""
        kill_faulty(node, process, f"it was not ready after {process.spec.boot_timeout:g} s{hint}")
    elif not process.killed:
        kill(node, process, "it did not stop in time", dump=True)
    else:
        node.report("stuck", "it was killed, and is still there", "error", key=process.key)
        process.deadline = math.inf
        if node.stopping:
            _abandon(node, slot, process)


def _abandon(node: NodeState, slot: Slot, process: Process) -> None:
    """Wait no longer for what cannot be killed."""
    node.left.append(process.key)
    if process is slot.current:
        slot.move("EXITED")
    elif process is slot.successor:
        slot.successor = None
    else:
        slot.leaving = None


def _stop_unwanted(node: NodeState, child: Child) -> None:
    """Stop at once, in no order, what a command or a finished process has left without a purpose."""
    for slot in child.slots:
        if not child.wants(slot):
            _rest(slot)
            for process in slot.processes():
                ask(node, process, "it was asked for" if child.goal != "up" else "there is one too many")
        elif slot.successor is not None and slot.current is None and not (node.stopping or child.bounce):
            ask(node, slot.successor, "there is nothing to replace any more")


def _bounce(node: NodeState) -> None:
    """Take down the companions of one that failed; when they are gone, everything may start again."""
    group = [child for child in node.children if child.bounce]
    if _stop_in_order(node, group, "a companion failed"):
        for child in node.children:
            child.bounce = child.held = False


def _stop_in_order(node: NodeState, children: list[Child], why: str) -> bool:
    """Ask the last child that has processes to stop, and those before it where its turn is over.

    Returns whether none has any.
    """
    left = [child for child in children if child.processes()]
    while left:
        child = left[-1]
        if child.turn_until == math.inf:
            child.turn_until = _share(node, len(left))
        for process in child.processes():
            ask(node, process, why)
        if node.now < child.turn_until:
            return False
        left.pop()
    return not any(child.processes() for child in children)


def _share(node: NodeState, among: int) -> float:
    """Return until when one of so many children has the time that is left for itself."""
    if not node.stopping or math.isinf(node.deadline):
        return math.inf
    return node.now + max(0.0, node.deadline - node.now) / among


def _stop_all(node: NodeState, why: str) -> None:
    node.stopping = True
    for child in node.children:
        child.roll = None
        for slot in child.slots:
            slot.retire, slot.trial = "", False
            _rest(slot)
    for reload in (node.reload, node.next_reload):
        if reload is not None:
            node.actions.append(Reloaded(node.path, reload.generation, why))
    node.reload = node.next_reload = None
    for process in node.processes():
        _hurry(node, process)


def _hurry(node: NodeState, process: Process) -> None:
    """Have a process that is on its way out keep to the deadline of the whole."""
    if process.killed:
        if process.spec.supervisor is None:
            process.deadline = min(process.deadline, node.now + KILL_GRACE)
    elif process.ending and node.deadline < process.deadline:
        process.deadline = node.deadline
        node.actions.append(Stop(process.key, process.deadline, "the supervisor stops"))
