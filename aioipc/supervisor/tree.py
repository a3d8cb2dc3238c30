"""A tree of supervisors, decided (pure): who drives it sees processes only, never the supervisors between.

To the `Node` above, a supervisor is a child as any other: it is spawned, gets ready, is asked to stop, ends. Here those
actions become events of the node below, and what becomes of that one becomes an event of the node above. So a
supervisor that gives up stops its own children first and then counts as a child that has failed, with exit code 1; one
that was stopped, with 0.
"""

from __future__ import annotations

import itertools
import math
from collections import deque

from ..exceptions import ClosedResourceError
from .actions import Action, Escalate, Finished, Kill, Reloaded, ReloadNested, Spawn, Stop, Up
from .events import (
    Event,
    Exited,
    NestedReloaded,
    ProcessEvent,
    ProcessKey,
    Ready,
    Reload,
    Shutdown,
    Spawned,
    SpawnFailed,
    Tick,
)
from .reconcile import Node
from .spec import SupervisorSpec

Path = tuple[str, ...]


class Tree:
    """A supervisor with all that is below it. Nothing is started before the first `step`.

    The actions it returns are those of `Node` that concern processes, `Report` of every level, and of `Up`, `Reloaded`,
    `Escalate` and `Finished` those of the root.
    """

    def __init__(self, spec: SupervisorSpec, *, generation: int = 0) -> None:
        self._serials = itertools.count(1)
        self.root: Node = Node(spec, generation=generation, serials=self._serials)
        self.nodes: dict[Path, Node] = {(): self.root}
        """Every supervisor there is now, by the names that lead to it."""
        self._keys: dict[Path, ProcessKey] = {}

    def step(self, event: Event, now: float, *, at: Path = ()) -> list[Action]:
        """Take one event at ``now`` (seconds, monotonic) and return what to do.

        A command is for the supervisor ``at`` those names; raises `LookupError` where there is none, and what
        `Node.step` raises. What happened to a process finds its own way. A `Tick` is for all.
        """
        if isinstance(event, Exited | SpawnFailed):
            self._is_gone(event.key)
        waiting: deque[tuple[Path, Event]] = deque()
        if isinstance(event, Tick):
            waiting += ((path, event) for path in sorted(self.nodes, key=len, reverse=True))
        else:
            waiting.append((self._place(event, at), event))
        actions: list[Action] = []
        while waiting:
            path, each = waiting.popleft()
            follows: list[tuple[Path, Event]] = []
            for action in self._step(path, each, now, given=each is event):
                follows += self._pass_on(path, action, actions)
            waiting.extendleft(reversed(follows))  # first: nobody decides on what has changed already
        return actions

    def next_deadline(self) -> float | None:
        """Return when a `Tick` is due if nothing happens before, ``None`` if only events can change anything."""
        return min((when for node in self.nodes.values() if (when := node.next_deadline()) is not None), default=None)

    @property
    def generations(self) -> set[int]:
        """The generations that something runs of, or may still be started of."""
        found = set()
        for node in self.nodes.values():
            state = node.state
            found |= {state.generation} | {child.generation for child in state.children}
            found |= {process.generation for process in state.processes()}
            found |= {reload.generation for reload in (state.reload, state.next_reload) if reload is not None}
        return found

    def _step(self, path: Path, event: Event, now: float, *, given: bool) -> list[Action]:
        if (node := self.nodes.get(path)) is None:
            return []
        try:
            actions = node.step(event, now)
        except (ValueError, ClosedResourceError) as error:
            if given or not isinstance(event, Reload):
                raise
            return [Reloaded(path, event.generation, str(error))]
        if node.state.stopping:
            self._hand_down(path, node.state.deadline)
        return actions

    def _hand_down(self, path: Path, deadline: float) -> None:
        """Have no supervisor below promise its processes more time than there is, even before its turn to stop."""
        for other, node in self.nodes.items():
            if other[: len(path)] == path:
                node.state.deadline = min(node.state.deadline, deadline)

    def _place(self, event: Event, at: Path) -> Path:
        if isinstance(event, ProcessEvent):
            return event.key.path[:-1]
        if at not in self.nodes:
            raise LookupError(f"there is no supervisor {'/'.join(at)!r}")
        return at

    def _is_gone(self, key: ProcessKey) -> None:
        """Forget a process that was waited for no longer, and has ended after all."""
        for node in self.nodes.values():
            if key in node.state.left:
                node.state.left.remove(key)

    def _pass_on(self, path: Path, action: Action, actions: list[Action]) -> list[tuple[Path, Event]]:
        """Add the action to what is to be done, or return the events that it means within the tree."""
        if isinstance(action, Spawn | Stop | Kill | ReloadNested):
            if (below := self._below(action)) is not None:
                return below
        elif path and isinstance(action, Up | Reloaded | Escalate | Finished):
            return self._above(path, action)
        actions.append(action)
        return []

    def _below(self, action: Spawn | Stop | Kill | ReloadNested) -> list[tuple[Path, Event]] | None:
        """Return what the supervisor below is told; ``None`` where the action is about a process."""
        key = action.key
        match action:
            case Spawn(spec=spec, generation=generation):
                if spec.supervisor is None:
                    return None
                node = Node(spec.supervisor, path=key.path, generation=generation, serials=self._serials)
                node.state.deadline = self.nodes[key.path[:-1]].state.deadline
                self.nodes[key.path] = node
                self._keys[key.path] = key
                return [(key.path[:-1], Spawned(key)), (key.path, Tick())]
            case _ if self._keys.get(key.path) != key:
                return None
            case Stop(deadline=deadline):
                return [(key.path, Shutdown(deadline))]
            case Kill():
                return [(key.path, Shutdown(-math.inf, quick=True))]
            case ReloadNested(generation=generation, spec=spec):
                return [(key.path, Reload(generation, spec))]

    def _above(self, path: Path, action: Up | Reloaded | Escalate | Finished) -> list[tuple[Path, Event]]:
        """Return what the supervisor above is told."""
        key, parent = self._keys[path], path[:-1]
        match action:
            case Up():
                return [(parent, Ready(key))]
            case Reloaded(generation=generation, failure=failure):
                return [(parent, NestedReloaded(key, generation, failure))]
            case Finished(failure=failure, left=left):
                self.nodes[parent].state.left += left
                del self.nodes[path], self._keys[path]
                return [(parent, Exited(key, 0 if failure is None else 1, str(failure or "it was stopped")))]
            case Escalate():
                return []
