"""What the core of a supervisor wants done (values).

They are to be carried out in order. Whatever is done about a process is done between its `Spawn` and its `Exited` or
`SpawnFailed`; `Stop` and `Kill` may come before `Spawned` has: who carries them out keeps them behind the spawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .events import Failure, ProcessKey
from .spec import ChildSpec, SupervisorSpec


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process of this spec and generation; answer with `Spawned` or `SpawnFailed`."""

    key: ProcessKey
    spec: ChildSpec
    generation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the process to drain and end; it is killed at ``deadline`` (infinity for a supervisor without a limit).

    May come again with an earlier deadline; asking twice is asking once.
    """

    key: ProcessKey
    deadline: float
    why: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the process and its group at once; with ``dump`` after its stacks have been written to the log."""

    key: ProcessKey
    why: str
    dump: bool = False


@dataclass(frozen=True, slots=True)
class ReloadNested:
    """Have the supervisor below reload; answer with `NestedReloaded`, unless it ends."""

    key: ProcessKey
    generation: int
    spec: SupervisorSpec


@dataclass(frozen=True, slots=True)
class Report:
    """Something to log: what happened to whom, and why."""

    what: Literal[
        "ready",
        "exited",
        "failed",
        "replacing",
        "replaced",
        "replacement-failed",
        "reloading",
        "reloaded",
        "reload-failed",
        "stuck",
        "gave-up",
        "stopped",
        "removed",
    ]
    path: tuple[str, ...]
    """Of the child, or of the supervisor itself."""
    why: str
    level: Literal["info", "warning", "error"] = "info"
    key: ProcessKey | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """Every child has been ready once: the supervisor is. Comes at most once."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload has ended; ``failure`` says why it was given up, ``None`` that all were replaced."""

    path: tuple[str, ...]
    generation: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Escalate:
    """The supervisor gives up and stops its children; `Finished` follows."""

    path: tuple[str, ...]
    failure: Failure


@dataclass(frozen=True, slots=True)
class Finished:
    """The supervisor has ended; nothing else comes from it."""

    path: tuple[str, ...]
    failure: Failure | None
    left: tuple[ProcessKey, ...] = ()
    """Processes that not even SIGKILL has ended."""


Action = Spawn | Stop | Kill | ReloadNested | Report | Up | Reloaded | Escalate | Finished
