"""One supervisor, decided: `Node.step` takes what happened and returns what is to be done (pure, decision 15).

    driver                          Node
      | -- Exited, Ready, Tick … -->  | notes it (endings, starting, rolling, commands)
      |                               | then looks at the whole state, until nothing more follows:
      |                               |   who is to be stopped, whose turn is it     stopping.py
      |                               |   who is to be replaced                      rolling.py
      |                               |   who is to be started, whose turn is it     starting.py
      | <-- Spawn, Stop, Kill … ----- |

No event starts a chain of steps that others could break into: whatever is going on (a start in order, a stop in order,
a reload) is something that the state shows, and each step does what of it can be done now. So events may come in any
order and at any moment. A tree of supervisors is in tree.py; the state, and why it is mutable, in node_state.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from ..exceptions import ClosedResourceError
from . import commands, endings, rolling, starting, stopping
from .actions import Action
from .events import (
    DeleteChild,
    Event,
    Exited,
    HeartbeatLost,
    NestedReloaded,
    Ready,
    Reload,
    RestartChild,
    RetireWanted,
    Scale,
    Shutdown,
    Spawned,
    SpawnFailed,
    StartChild,
    TerminateChild,
    Tick,
)
from .intensity import Intensity
from .node_state import Child, NodeState
from .spec import SupervisorSpec

_ENDLESS = 1000


class Node:
    """A supervisor and its children, one level. ``path`` are the names that lead to it from the root.

    ``serials`` numbers the processes; all nodes of a tree share it. Nothing is started before the first `step`.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        *,
        path: tuple[str, ...] = (),
        generation: int = 0,
        serials: Iterator[int] | None = None,
    ) -> None:
        numbers = itertools.count(1) if serials is None else serials
        intensity = Intensity(spec.intensity, spec.period)
        self.state: NodeState = NodeState(path, spec, generation, numbers, intensity, last_generation=generation)
        self.state.children += [Child(each, generation) for each in spec.children]

    def step(self, event: Event, now: float) -> list[Action]:
        """Take one event at ``now`` (seconds, monotonic; earlier than before counts as before); return what to do.

        An event about a process that has ended, and any but a command once the node has finished, does nothing. A
        command raises as its class says, and `ClosedResourceError` once the node is stopping, but for `Shutdown`.
        """
        node = self.state
        if node.stopping and isinstance(event, _REFUSED_AT_END):
            raise ClosedResourceError("the supervisor is stopping")
        node.now = max(now, node.now)
        if not node.finished:
            _HANDLERS[type(event)](node, event)
            _settle(node)
        actions, node.actions = node.actions, []
        return actions

    def next_deadline(self) -> float | None:
        """Return when a `Tick` is due if nothing happens before, ``None`` if only events can change anything."""
        when = min(_deadlines(self.state), default=math.inf)
        return None if when == math.inf else when


def _settle(node: NodeState) -> None:
    """Do what follows, until nothing more does."""
    for _ in range(_ENDLESS):
        done = len(node.actions)
        starting.due(node)
        stopping.expire(node)
        stopping.take_down(node)
        rolling.roll(node)
        starting.start(node)
        stopping.tidy(node)
        if len(node.actions) == done:
            return
    raise AssertionError(f"no end of actions: {node.actions[-3:]}")


def _deadlines(node: NodeState) -> Iterator[float]:
    """Go through the moments after now at which something is to be done."""
    if node.stopping and any(not process.killed for process in node.processes()):
        yield from _future(node, node.deadline)
    for child in node.children:
        if node.stopping and child.processes():
            yield from _future(node, child.turn_until)
        for slot in child.slots:
            for process in slot.processes():
                yield from _future(node, process.deadline, process.ready_due)
            if child.is_waiting(slot):
                yield from _future(node, slot.start_at)
            if rolling.is_due(child, slot):
                yield from _future(node, slot.successor_at)


def _future(node: NodeState, *moments: float) -> Iterator[float]:
    return (moment for moment in moments if moment > node.now)


def _nothing(node: NodeState, event: Tick) -> None:
    """Time alone is looked at in every step."""


def _spawn_failed(node: NodeState, event: SpawnFailed) -> None:
    endings.ended(node, event.key, None, event.why, never_was=True)


def _heartbeat_lost(node: NodeState, event: HeartbeatLost) -> None:
    if (found := node.find(event.key)) is not None:
        stopping.kill_faulty(node, found[2], event.why)


_HANDLERS: dict[type[Event], Callable[[NodeState, Any], None]] = {
    Tick: _nothing,
    Spawned: starting.spawned,
    SpawnFailed: _spawn_failed,
    Ready: lambda node, event: starting.ready(node, event.key),
    Exited: lambda node, event: endings.ended(node, event.key, event.code, event.why, cause=event.cause),
    HeartbeatLost: _heartbeat_lost,
    RetireWanted: rolling.retire,
    NestedReloaded: rolling.nested_reloaded,
    StartChild: commands.start_child,
    TerminateChild: commands.terminate_child,
    RestartChild: commands.restart_child,
    DeleteChild: commands.delete_child,
    Scale: commands.scale,
    Reload: commands.reload,
    Shutdown: stopping.begin_shutdown,
}
_REFUSED_AT_END = (StartChild, TerminateChild, RestartChild, DeleteChild, Scale, Reload)
