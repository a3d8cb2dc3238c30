"""The zygote dies or stops: at each point of a start, under children in every state. What is wanted comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from aioipc import Supervisor, SupervisorSpec

from ..harness.processes import eventually_async
from . import every_state
from .recording import recorded
from .supervising import LONG, Journal
from .test_fault_sweep import bind, marked

__all__ = ["recorded"]

POINTS = [
    *(("zygote-before-fork", action) for action in ("kill", "segv", "exit", "raise", "stop")),
    *(("zygote-after-fork", action) for action in ("kill", "segv", "exit", "stop")),
    *(("before-launch", action) for action in ("kill", "segv", "exit", "raise", "stop")),
]


def test_death_at_each_point_of_a_start(recorded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many supervisors has its first zygote, or the first process of that, die or stop at one point."""
    asyncio.run(die_at_each_point(tmp_path, monkeypatch))


async def die_at_each_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    spec = SupervisorSpec([journal.standing(name, boot_timeout=6.0) for name in "ab"], intensity=None)
    supervisors, entering = [], []
    for name, action in POINTS:
        marker = tmp_path / f"{name}-{action}"
        monkeypatch.setenv("AIOIPC_FAILPOINTS", f"{name}={action}:{marker}")
        supervisors.append(Supervisor(spec))
        entering.append(asyncio.ensure_future(supervisors[-1].__aenter__()))
        await eventually_async(marker.exists, LONG, marker)
    monkeypatch.delenv("AIOIPC_FAILPOINTS")
    try:
        await asyncio.gather(*entering)
        for supervisor in supervisors:
            assert {child.state for child in supervisor.children()} == {"up"}
    finally:
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in supervisors))


async def test_death_under_children_in_every_state(
    recorded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop_of_services: str
) -> None:
    """On one loop it is killed, on the other one it is stopped."""
    how = signal.SIGKILL if loop_of_services == "asyncio" else signal.SIGSTOP
    monkeypatch.setenv("SWEPT_BY", token := str(tmp_path))
    for name, value in every_state.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    async with Supervisor(every_state.spec(tmp_path)) as supervisor:
        waiting = await every_state.reach(supervisor, tmp_path)
        (zygote,) = supervisor.statistics().zygotes.values()
        before = marked(token)
        os.kill(zygote, how)
        if how == signal.SIGSTOP:
            supervisor.signal_child("ready", signal.SIGKILL)  # which it does not do, and that is noticed
        (tmp_path / "release").touch()
        await asyncio.gather(*waiting)

        def all_back() -> bool:
            return all(
                child.state == ("down" if child.name in every_state.DOWN else "up") for child in supervisor.children()
            )

        await eventually_async(all_back, LONG, lambda: supervisor.children())
        await eventually_async(lambda: not before & marked(token), LONG)
        serving = {each.pid for child in supervisor.children() for each in child.processes if each.pid}
        assert len(serving) == len(supervisor.children()) - len(every_state.DOWN)
        port = int(next(c for c in supervisor.children() if c.name == "ready").listeners["http"].rpartition(":")[2])
    assert marked(token) == set()
    bind(port)
