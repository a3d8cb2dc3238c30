"""Writes down what a driver tells its core, and judges it by the model.

What happened to real processes is told to a second core, in the same order and at the same times: it must decide the
same, and everything that is always true of the model (world.py) must have been true of the processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from aioipc.supervisor import driver
from aioipc.supervisor.actions import Action
from aioipc.supervisor.events import (
    Event,
    Exited,
    HeartbeatLost,
    ProcessKey,
    Ready,
    Shutdown,
    Spawned,
    SpawnFailed,
)
from aioipc.supervisor.spec import SupervisorSpec
from aioipc.supervisor.states import State
from aioipc.supervisor.tree import Path, Tree

from .world import World


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what was decided on it."""

    event: Event
    now: float
    at: Path
    actions: list[Action]
    states: dict[tuple[Path, int], State] = field(default_factory=dict)
    """What each slot was after it."""


class RecordedTree(Tree):
    """A tree that keeps its history."""

    def __init__(self, spec: SupervisorSpec, *, generation: int = 0) -> None:
        super().__init__(spec, generation=generation)
        self.spec = spec
        self.steps: list[Step] = []

    def step(self, event: Event, now: float, *, at: Path = ()) -> list[Action]:
        actions = super().step(event, now, at=at)  # a command that is refused has changed nothing
        self.steps.append(Step(event, now, at, list(actions), _states(self)))
        return actions

    def check(self) -> None:
        """Raise AssertionError where what happened is not what the model allows."""
        assert self.steps, "nothing has happened"
        spec = self.spec
        world = World(*spec.children, strategy=spec.strategy, intensity=spec.intensity, period=spec.period)
        for number, step in enumerate(self.steps):
            world.now = step.now
            _tell(world, step)
            where = f"step {number}, {step.event}"
            assert world.actions == step.actions, where
            assert _states(world.tree) == step.states, where


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every supervisor of this test judged by the model when the test is over."""
    trees: list[RecordedTree] = []

    class Tree(RecordedTree):
        def __init__(self, spec: SupervisorSpec, *, generation: int = 0) -> None:
            super().__init__(spec, generation=generation)
            trees.append(self)

    monkeypatch.setattr(driver, "Tree", Tree)
    yield
    for tree in trees:
        tree.check()


def _states(tree: Tree) -> dict[tuple[Path, int], State]:
    found: dict[tuple[Path, int], State] = {}
    for path, node in tree.nodes.items():
        for child in node.state.children:
            for slot in child.slots:
                found[(*path, child.name), slot.number] = slot.state
    return found


def _tell(world: World, step: Step) -> None:
    """Tell the world what happened, as its own methods would."""
    event = step.event
    known = world.live.get(_key(event)) if _key(event) is not None else None  # type: ignore[arg-type]
    if isinstance(event, Exited | SpawnFailed):
        world._end(event)
        return
    if known is not None and isinstance(event, Spawned | Ready):
        known.confirmed = True
    if known is not None and isinstance(event, Ready) and known.stop_by is None and known.killed_at is None:
        known.ready_at = known.ready_at or world.now
    if known is not None and isinstance(event, HeartbeatLost):
        known.silent = True
    if isinstance(event, Shutdown):
        world.quick = world.quick or event.quick
    world.do(event, step.at)


def _key(event: Event) -> ProcessKey | None:
    return getattr(event, "key", None)
