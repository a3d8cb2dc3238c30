"""Start services and commands without a supervisor: a zygote, handles, an owner that writes down what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from aioipc.supervisor.child import ExitReport
from aioipc.supervisor.command_handle import CommandHandle
from aioipc.supervisor.launch import Launch
from aioipc.supervisor.launched_process import LaunchedProcess
from aioipc.supervisor.output_lines import OutputLine
from aioipc.supervisor.relays import RelayOptions
from aioipc.supervisor.service_handle import ENTRY, ServiceHandle
from aioipc.supervisor.zygote import Zygote

from ..harness.processes import eventually_async

LONG = 30.0
PLAIN = Launch()


class Owner:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.process: Any = None
        self.report: ExitReport | None = None
        self.stderr = ""

    def _hear(self, *event: Any) -> None:
        assert self.report is None, event
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.events]

    def spawned(self, process: LaunchedProcess, pid: int) -> None:
        self._hear("spawned", pid)

    def refused(self, process: LaunchedProcess, reason: str, errno: int | None) -> None:
        self._hear("refused", reason, errno)
        self.report = ExitReport(None, reason, errno=errno)

    def ready(self, process: LaunchedProcess) -> None:
        self._hear("ready")

    def status(self, process: LaunchedProcess, text: str) -> None:
        self._hear("status", text)

    def stopping_by_itself(self, process: LaunchedProcess, why: str) -> None:
        self._hear("stopping", why)

    def exited(self, process: LaunchedProcess, report: ExitReport) -> None:
        self._hear("exited", report.exitcode)
        self.stderr = process.stderr_tail()
        self.report = report

    async def heard(self, name: str, count: int = 1) -> Any:
        """Wait until it was told that, and return what."""
        await eventually_async(
            lambda: self.names.count(name) >= count or self.report is not None, LONG, lambda: (name, self.events)
        )
        found = [event for event in self.events if event[0] == name]
        assert len(found) >= count, (self.events, self.report, self.stderr)
        return found[-1][1] if len(found[-1]) > 1 else None

    async def ended(self) -> ExitReport:
        """Wait for the end."""
        await eventually_async(lambda: self.report is not None, LONG, lambda: self.events)
        assert self.report is not None
        return self.report


class Launcher:
    """A zygote and what was started with it."""

    def __init__(self, zygote: Zygote) -> None:
        self.zygote = zygote
        self.loop = asyncio.get_running_loop()
        self.lines: list[OutputLine] = []
        self.owners: list[Owner] = []
        self.losses = 0
        """How often the zygote dies in this test."""

    def service(
        self, function: Callable[..., Any] | str, launch: Launch = PLAIN, *, name: str = "web", **options: Any
    ) -> Owner:
        """Start a service."""
        owner = Owner()
        options = {"heartbeat_timeout": 30.0, "shutdown": 20.0, **options}
        relay = RelayOptions(options.pop("logs", False), self.lines.append)
        fresh = options.pop("fresh", False)
        owner.process = ServiceHandle(
            self.loop, name, len(self.owners), owner, function=function, launch=launch, relay=relay, **options
        )
        self._start(owner, fresh=fresh)
        return owner

    def command(
        self,
        *argv: str,
        launch: Launch = PLAIN,
        listeners: Mapping[str, int] = MappingProxyType({}),
        **options: Any,
    ) -> Owner:
        """Start a command."""
        owner = Owner()
        owner.process = CommandHandle(
            *(self.loop, "run", len(self.owners), owner),
            argv=argv,
            launch=launch,
            relay=RelayOptions(False, self.lines.append),
            listeners=listeners,
            **options,
        )
        self._start(owner)
        return owner

    def _start(self, owner: Owner, *, fresh: bool = False) -> None:
        self.owners.append(owner)
        owner.process.spawn(self.zygote, fresh=fresh)

    def texts(self, stream: str = "stdout") -> list[str]:
        """What was captured."""
        return [line.text for line in self.lines if line.stream == stream]


@asynccontextmanager
async def launcher(preload: tuple[str, ...] = ()) -> AsyncIterator[Launcher]:
    """A zygote; on leaving, everything is killed and gone."""
    lost: list[str] = []
    up: list[str | None] = []
    zygote = Zygote(
        asyncio.get_running_loop(),
        entry=ENTRY,
        preload=preload,
        on_up=up.append,
        on_lost=lambda how, stderr: lost.append(f"{how}: {stderr}"),
        on_doom=lambda: None,
    )
    made = Launcher(zygote)
    try:
        yield made
    finally:
        for owner in made.owners:
            owner.process.kill("the test is over")
        for owner in made.owners:
            await owner.ended()
        await zygote.aclose()
    assert len(lost) == made.losses, lost
    assert up in ([], [None])


def proc_status(pid: int, field: str) -> str:
    """A line of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)[field].strip()
