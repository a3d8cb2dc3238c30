"""What a supervisor is to run, as values (pure): `ChildSpec` and `SupervisorSpec`.

Both are checked field by field when they are made, so that nothing has been started yet when something is wrong
(spec_checks.py). They are frozen; a changed one is made by ``dataclasses.replace``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from .checks import check_positive_seconds
from .pool_target import PoolTarget
from .spec_checks import Kind, check_child, check_intensity, kind_of, show_given
from .strategies import STRATEGIES, Strategy

Restart = Literal["permanent", "transient", "temporary"]


@dataclass(frozen=True, repr=False)
class ChildSpec:
    """One child of a supervisor: what to run, how often, how it is started, judged and stopped. Times are seconds.

    Raises `TypeError` and `ValueError` that name the child, the field, its value and what is allowed.
    """

    name: str
    """What it is called everywhere: letters, digits, "_" and "-"."""
    target: Callable[[Any], Awaitable[None]] | str | Sequence[str | os.PathLike[str]] | PoolTarget | SupervisorSpec
    """An async function, or "module:function" (then the master never imports it), that gets a `WorkerContext`; the
    command line of a program, as a list; a `PoolSpec`; or a `SupervisorSpec`, a supervisor below this one."""
    _: KW_ONLY
    replicas: int = 1
    """How many processes do the same."""
    restart: Restart = "permanent"
    """Whether it is started again when it ends by itself: always; "transient": unless it ended well (`exit_codes`);
    "temporary": never, not even with others (see `SupervisorSpec.strategy`)."""
    exit_codes: Collection[int] = (0,)
    """Exit codes that mean that it ended well; minus the number of a signal that killed it."""
    shutdown: float | Literal["brutal_kill"] | None = None
    """How long it may take to stop before it is killed, never past the deadline of the whole; "brutal_kill": killed at
    once. ``None`` is 25 s; for a pool what its `PoolSpec` says; for a supervisor, whose children have limits of their
    own, no other limit."""
    stop_signal: str | int | None = None
    """Which signal asks a command to stop, by name or number; ``None`` is "TERM". A function is asked by its link."""
    stop_group: bool = True
    """Whether that signal goes to all that the command has started, too; False: to it alone, for a program that stops
    its own processes, such as nginx or PostgreSQL. What is killed is killed with all of them in any case."""
    drain_delay: float = 0.0
    """How long a process that is asked to stop goes on as before, out of the time that `shutdown` gives it: whoever
    sends it work, such as a load balancer, has so long to look elsewhere. While it is replaced, both serve."""
    ready: Literal["call", "notify", "newline"] | float | None = None
    """How readiness is known. Of a function: ``await worker.ready()`` ("call", the default). Of a command: sd_notify's
    READY=1 ("notify"), a newline on the descriptor that NOTIFY_FD names ("newline"). Of both: that it still runs after
    so many seconds (1 s is the default of a command). Of a supervisor that its children are, of a pool that a worker
    is; leave it out."""
    gate: bool = True
    """Whether the children behind it in the order are not started before it has been ready once."""
    boot_timeout: float | None = None
    """How long it may take to get ready before it is killed; ``None`` is 60 s; for a supervisor, and a pool, whose
    workers have a limit of their own, no other limit."""
    heartbeat_timeout: float | None = None
    """How long it may be silent, once ready, before it is killed. ``None`` is 30 s for a function. A command has none,
    unless it is told by ``ready="notify"`` to send WATCHDOG=1."""
    listeners: Mapping[str, str] = field(default_factory=dict)
    """Listening sockets that the master holds and shares with it, by name: "tcp://host:port", "unix:///path", with
    "?mode=660" behind it for others than its user, or "fd://name" for one that a service manager has passed (see
    `Supervisor`'s ``socket_activation``)."""
    reuse_port: bool = False
    """Give each replica a socket of its own for each TCP listener (SO_REUSEPORT), also held by the master."""
    env: Mapping[str, str | None] = field(default_factory=dict)
    """Environment variables on top of the master's; ``None`` takes one away."""
    cwd: str | os.PathLike[str] | None = None
    """Its working directory; ``None`` is the master's."""
    app_dir: str | os.PathLike[str] | None = None
    """Where the module of a function "module:function" is looked up first; ``None`` is its working directory."""
    umask: int | None = None
    """Its file mode creation mask; ``None`` is the master's."""
    nice: int = 0
    """Added to the master's niceness, -20 to 19."""
    affinity: Collection[int] | None = None
    """The numbers of the CPUs that it may use; ``None`` is those of the master."""
    rlimits: Mapping[str, int | tuple[int, int] | None] = field(default_factory=dict)
    """Resource limits, by the names of ``getrlimit(2)`` such as "nofile": soft and hard, or one for both; ``None`` is
    no limit."""
    user: str | int | None = None
    """The user that it runs as, by name or number; only root may choose. With it come its groups, and HOME, USER and
    LOGNAME; where a number has no entry in the list of users, HOME is "/", and the others are not set.
    """
    group: str | int | None = None
    """The group that it runs as; ``None`` is the user's own."""
    max_age: float | None = None
    """How long a process serves before it is replaced."""
    max_memory: int | None = None
    """How many bytes of memory it may have before it is replaced."""
    max_tasks: int | None = None
    """How many pieces of work, by its own count, it may do before it is replaced."""
    jitter: float = 0.1
    """By which part of itself (0 to 1) `max_age` and `max_tasks` are less, at most, by chance for each process."""
    surge: bool | None = None
    """Whether a replacement is ready before the old process is asked to stop. ``None``: yes, except for a command
    without listeners, which may hold something that only one can hold: the old one goes first then."""
    max_unavailable: int = 1
    """How many replicas are in the course of being replaced at once."""
    concurrency: int = 1
    """How many pieces of work a process does at once; told to it as ``worker.concurrency``."""
    title: str | None = None
    """Its process title; ``None`` is its name and the number of the replica."""
    stdin: Literal["null", "inherit"] = "null"
    """Its standard input: none, or the master's, where it has one."""
    stdout: Literal["inherit", "capture", "null"] = "inherit"
    """Its standard output: the master's, through the master line by line with name and pid, or nowhere."""
    stderr: Literal["inherit", "capture", "null"] = "inherit"
    """Its standard error; until it is ready, that is captured in any case."""

    def __post_init__(self) -> None:
        for name, value in check_child(self).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        options = show_given(self, skip=2)
        return f"ChildSpec({self.name!r}, {self.target!r}{', ' if options else ''}{options})"

    @property
    def kind(self) -> Kind:
        """Which kind of target it has."""
        return "supervisor" if isinstance(self.target, SupervisorSpec) else kind_of(self.target)

    @property
    def pool(self) -> PoolTarget | None:
        """The target, where that is a pool."""
        return self.target if isinstance(self.target, PoolTarget) else None

    @property
    def supervisor(self) -> SupervisorSpec | None:
        """The target, where that is a supervisor."""
        return self.target if isinstance(self.target, SupervisorSpec) else None


@dataclass(frozen=True)
class SupervisorSpec:
    """A supervisor: its children in start order, and what it does when one of them fails.

    Raises `TypeError` and `ValueError` that name the field, its value and what is allowed.
    """

    children: Sequence[ChildSpec] = ()
    """They are started in this order, each when the one before is ready (see `ChildSpec.gate`), and stopped in reverse
    order, each when the one behind it is gone."""
    _: KW_ONLY
    strategy: Strategy = "one_for_one"
    """Who is restarted with a child that failed: "one_for_one" nobody, "one_for_all" all others, "rest_for_one" those
    behind it in the order."""
    intensity: int | None = 5
    """How many restarts within `period` there may be; one more, and the supervisor stops all its children and fails
    itself, which is for the supervisor above it to deal with. ``None`` is any number."""
    period: float = 10.0
    """Seconds."""

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}, not {self.strategy!r}")
        check_intensity(self.intensity)
        object.__setattr__(self, "period", check_positive_seconds("period", self.period))
        object.__setattr__(self, "children", _checked_children(self.children))


def _checked_children(children: Any) -> tuple[ChildSpec, ...]:
    if isinstance(children, str) or not isinstance(children, Sequence):
        raise TypeError(f"children must be a sequence of ChildSpec, not {children!r}")
    names: set[str] = set()
    for child in children:
        if not isinstance(child, ChildSpec):
            raise TypeError(f"children must be a sequence of ChildSpec, not of {child!r}")
        if child.name in names:
            raise ValueError(f"children must have names of their own: {child.name!r} is there twice")
        names.add(child.name)
    return tuple(children)
