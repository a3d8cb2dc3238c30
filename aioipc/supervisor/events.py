"""What the core of a supervisor is told: what happened, and what is commanded (values).

What happened comes from who drives the core, about processes that the core asked for. It may come at any moment and
late: what is said about a process that has ended is not heard. A command names a child of the supervisor that it is
given to; one that cannot be done is refused with an error and has changed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .spec import ChildSpec, SupervisorSpec


class ProcessKey(NamedTuple):
    """Which process: the names from the root down to the child, the number of the replica, and which one in a row."""

    path: tuple[str, ...]
    slot: int
    serial: int
    """Never used twice."""

    def __str__(self) -> str:
        return f"{'/'.join(self.path)}.{self.slot}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a supervisor gave up."""

    kind: Literal["boot", "intensity"]
    """A child did not get ready, or there were too many restarts."""
    reason: str
    key: ProcessKey | None = None
    """The process that was one too many."""

    def __str__(self) -> str:
        return self.reason


# -- what happened -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: due at `Node.next_deadline`, right at any time. The first one starts the children."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process exists. `Spawn` is answered by this or by `SpawnFailed`; `Exited` may come without it."""

    key: ProcessKey
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The process never came to be."""

    key: ProcessKey
    why: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The process says that it is ready. Not to be sent where the spec gives a number of seconds: the core counts."""

    key: ProcessKey


@dataclass(frozen=True, slots=True)
class Exited:
    """The process has ended, was reaped, and what it wrote has been read."""

    key: ProcessKey
    code: int | None
    """Its exit code, minus the signal that killed it, ``None`` where nobody could learn it."""
    why: str = ""
    """The same in words, and what else is known: out of memory, the end of its standard error."""
    cause: str = ""
    """What has ended several at once: all that say the same in a row count as one restart."""


@dataclass(frozen=True, slots=True)
class HeartbeatLost:
    """The process has been silent for longer than its ``heartbeat_timeout``."""

    key: ProcessKey
    why: str


@dataclass(frozen=True, slots=True)
class RetireWanted:
    """The process has served long enough (age, memory, count), or asks to be replaced."""

    key: ProcessKey
    why: str


@dataclass(frozen=True, slots=True)
class NestedReloaded:
    """The supervisor below has answered `ReloadNested`."""

    key: ProcessKey
    generation: int
    failure: str | None


# -- commands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartChild:
    """Add a child behind the others and start it. If it cannot get ready, it is FATAL; the supervisor goes on.

    Refused with `ValueError` where there is one of this name.
    """

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child, for as long as nobody starts it again. Refused with `LookupError` where there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a child that is stopped, has finished or failed; replace, as when they retire, the processes of one that
    runs. Refused with `LookupError` where there is none.
    """

    name: str


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Stop a child and forget it. Refused with `LookupError` where there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Have so many replicas of a child, at least one.

    Refused with `LookupError` where there is none, with `TypeError` and `ValueError` for a wrong number.
    """

    name: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Replace every process by one of a new generation: child by child in start order, as when they retire.

    The first replacement of a child is its trial: before it is ready, the old spec and the old generation stay in force
    for whatever must be started. ``spec`` is the new spec, ``None`` the same again; its new children are added and
    those that are not in it any more are removed when all others have been replaced. Children that `StartChild` has
    added stay. A reload that comes during another one waits for its end; of several that wait the last one is done.
    Each is answered by one `Reloaded`. Refused with `ValueError` where the number is not above the last one's, or a
    child is a supervisor in one spec and none in the other.
    """

    generation: int
    spec: SupervisorSpec | None = None


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop all children, then the supervisor: in reverse start order, each within its own limit.

    What is left at ``deadline`` is killed. ``quick`` kills everything at once. May come again: the earliest deadline
    and the quickest way win.
    """

    deadline: float
    quick: bool = False


ProcessEvent = Spawned | SpawnFailed | Ready | Exited | HeartbeatLost | RetireWanted | NestedReloaded
Command = StartChild | TerminateChild | RestartChild | DeleteChild | Scale | Reload | Shutdown
Event = Tick | ProcessEvent | Command
