"""The state of one supervisor: its children in start order, their slots, the processes in them (pure).

Plain mutable objects with one owner, the `Node` of reconcile.py. Records that are copied for each change were tried on
paper: each change here goes three levels deep, so every line would have been about copying; and nobody needs an old
state, since the events that led to it can be given again. What is decided about this state is in starting.py,
stopping.py, endings.py, rolling.py and commands.py, as functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .actions import Action, Report
from .backoff import BOOT_BUDGET, BackOff
from .events import Failure, ProcessKey, Reload
from .intensity import Intensity
from .spec import ChildSpec, SupervisorSpec
from .states import State, moved


@dataclass(slots=True, eq=False)
class Process:
    """One process, or one supervisor below this one, from its `Spawn` to its end."""

    key: ProcessKey
    spec: ChildSpec
    generation: int
    started_at: float
    deadline: float
    """By when it must be ready; once asked to stop, be gone; once killed, be gone although killed."""
    state: State = "STARTING"
    pid: int | None = None
    ready_due: float = math.inf
    """When it counts as ready, where that is only a matter of time."""
    ready_at: float | None = None
    killed: bool = False
    fault: str = ""
    """Why it was killed, if that was for a fault of its own: its end counts as a failure."""

    def move(self, state: State) -> None:
        """Go on to another state."""
        self.state = moved(self.state, state)

    @property
    def ending(self) -> bool:
        """Whether it has been asked to stop, or killed."""
        return self.state in ("DRAINING", "STOPPING")


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one replica: one process, and a second one while that is being replaced."""

    number: int
    rest: State = "STARTING"
    """Its state while it has no process of its own."""
    current: Process | None = None
    """The process that fills it."""
    successor: Process | None = None
    """The one that is to take its place as soon as it is ready."""
    leaving: Process | None = None
    """The one whose place was taken, until it is gone."""
    start_at: float = -math.inf
    """No process before."""
    successor_at: float = -math.inf
    """No successor before."""
    backoff: BackOff = field(default_factory=BackOff)
    successor_backoff: BackOff = field(default_factory=BackOff)
    boot_failures: int = 0
    """How many died in a row before they were ready."""
    retire: str = ""
    """Why its process is to be replaced, if it is."""
    trial: bool = False
    """The next process, or the one that starts, is one of the generation that is being tried."""
    starts: int = 0
    """How many processes have been started in it."""

    @property
    def state(self) -> State:
        """What the slot is."""
        return self.rest if self.current is None else self.current.state

    @property
    def occupied(self) -> bool:
        """Whether it has any process."""
        return any(True for _ in self.processes())

    def processes(self) -> Iterator[Process]:
        """Go through the processes it has."""
        for process in (self.leaving, self.current, self.successor):
            if process is not None:
                yield process

    def move(self, state: State) -> None:
        """Go on to another state, having no process (any more)."""
        self.rest = state if state == self.state else moved(self.state, state)
        self.current = None
        if state in ("EXITED", "FATAL"):
            self.retire, self.trial = "", False

    def want(self) -> None:
        """Want a process at once, whatever was before."""
        self.backoff.reset()
        self.boot_failures = 0
        self.start_at = -math.inf
        if self.current is None and self.rest in ("EXITED", "FATAL"):
            self.move("STARTING")


@dataclass(slots=True, eq=False)
class Roll:
    """The new generation of a child, while its processes are being replaced."""

    spec: ChildSpec
    generation: int
    failures: int = 0
    """How many in a row did not get ready."""
    asked: ProcessKey | None = None
    """The supervisor below that has been asked to reload."""


@dataclass(slots=True, eq=False)
class Child:
    """A child with its slots."""

    spec: ChildSpec
    """What is started in a slot, but for a trial."""
    generation: int
    replicas: int = 0
    """How many slots are to be filled; see `resize`."""
    dynamic: bool = False
    """It was added by a command, so a reload with a new spec does not drop it."""
    tolerated: bool = False
    """It was not there from the start: if it never gets ready, that is not the end of the supervisor."""
    goal: Literal["up", "down", "deleted"] = "up"
    slots: list[Slot] = field(default_factory=list)
    started: bool = False
    """It has been ready since it was last started as a whole, so those behind it need not wait."""
    proven: bool = False
    """One of its processes has been ready once."""
    bounce: bool = False
    """All its processes are to be gone before it is started again, since one of its companions failed."""
    held: bool = False
    """It is not started before its companions are gone, and it either."""
    roll: Roll | None = None
    turn_until: float = math.inf
    """When those before it are asked to stop even if it has not; while it stops together with others."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    def __post_init__(self) -> None:
        self.resize(self.spec.replicas)

    def resize(self, replicas: int) -> None:
        """Have so many slots filled; those above go when they are empty."""
        slots = {slot.number: slot for slot in self.slots}
        for number in range(self.replicas, replicas):
            if number in slots:
                slots[number].want()
            else:
                self.slots.append(Slot(number))
        self.replicas = replicas

    def processes(self) -> list[Process]:
        """Return all its processes."""
        return [process for slot in self.slots for process in slot.processes()]

    def wants(self, slot: Slot) -> bool:
        """Whether the slot is one of those that are to be filled."""
        return self.goal == "up" and slot.number < self.replicas

    def is_waiting(self, slot: Slot) -> bool:
        """Whether the slot is to be filled and has no process yet."""
        return self.wants(slot) and slot.current is None and slot.rest in ("STARTING", "BACKOFF")

    @property
    def serving(self) -> list[Process]:
        """The processes that fill the slots that are to be filled."""
        return [slot.current for slot in self.slots if slot.current is not None and self.wants(slot)]

    @property
    def ready(self) -> int:
        """How many of its slots are RUNNING."""
        return sum(slot.state == "RUNNING" for slot in self.slots)

    @property
    def unavailable(self) -> int:
        """How many of its slots are on their way to be RUNNING again."""
        return sum(self.wants(slot) and slot.state not in ("RUNNING", "EXITED", "FATAL") for slot in self.slots)

    @property
    def cannot_start(self) -> bool:
        """Whether a replica has died before it was ready so often that there is no point in waiting for it."""
        return any(self.wants(slot) and slot.boot_failures >= BOOT_BUDGET for slot in self.slots)

    @property
    def condition(self) -> Literal["starting", "up", "failed", "down"]:
        """How it is: all slots RUNNING or well finished; one FATAL; no process and none wanted; else on its way."""
        states = {slot.state for slot in self.slots}
        if "FATAL" in states:
            return "failed"
        if not self.processes() and states <= {"EXITED"}:
            return "down"
        return "up" if self.goal == "up" and states <= {"RUNNING", "EXITED"} else "starting"


@dataclass(slots=True, eq=False)
class NodeState:
    """A supervisor with its children."""

    path: tuple[str, ...]
    spec: SupervisorSpec
    generation: int
    """What children are started with that a command adds: the last one that all were reloaded to."""
    serials: Iterator[int]
    intensity: Intensity
    last_cause: str = ""
    """What ended several processes at once, the last time; it is counted already."""
    children: list[Child] = field(default_factory=list)
    now: float = -math.inf
    up: bool = False
    stopping: bool = False
    deadline: float = math.inf
    """When what is left is killed, once it is stopping."""
    failure: Failure | None = None
    finished: bool = False
    left: list[ProcessKey] = field(default_factory=list)
    last_generation: int = 0
    """The highest number that was asked for."""
    reload: Reload | None = None
    """The one under way."""
    next_reload: Reload | None = None
    actions: list[Action] = field(default_factory=list)
    """What has been decided in this step."""

    def child(self, name: str) -> Child:
        """Return the child of this name; raises LookupError where there is none."""
        for child in self.children:
            if child.name == name and child.goal != "deleted":
                return child
        raise LookupError(f"there is no child {name!r}")

    def find(self, key: ProcessKey) -> tuple[Child, Slot, Process] | None:
        """Return the process and where it is; ``None`` if it has ended."""
        for child in self.children:
            if child.name == key.path[-1]:
                for slot in child.slots:
                    for process in slot.processes():
                        if process.key == key:
                            return child, slot, process
        return None

    def processes(self) -> list[Process]:
        """Return all processes of all children."""
        return [process for child in self.children for process in child.processes()]

    def report(
        self, what: str, why: str, level: str = "info", *, key: ProcessKey | None = None, name: str = ""
    ) -> None:
        """Decide to log something about a process, a child, or the supervisor itself."""
        path = key.path if key is not None else (*self.path, name) if name else self.path
        self.actions.append(Report(what, path, why, level, key))  # type: ignore[arg-type]
