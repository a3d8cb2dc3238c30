"""Reload with another spec: children come, go and change, listeners with them, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import aioipc
from aioipc import ChildSpec, Supervisor, SupervisorSpec

from . import supervised_functions as functions
from .supervising import Journal, ask, pids, port_of, replica, serving, until


@asynccontextmanager
async def clients(port: int, count: int = 4) -> AsyncIterator[list[list[str]]]:
    """Ask, each time by a new connection, for as long as the block runs; every connection must be answered."""
    answers: list[list[str]] = []

    async def go_on() -> None:
        while not done:
            answer = await ask(port)
            assert len(answer) == 3, answer
            answers.append(answer)

    done = False
    tasks = [asyncio.ensure_future(go_on()) for _ in range(count)]
    try:
        yield answers
    finally:
        done = True
        await asyncio.gather(*tasks)


async def test_a_new_spec(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    inner = SupervisorSpec([journal.standing("db")])
    old = SupervisorSpec([journal.standing("gone"), ChildSpec("backend", inner), serving(replicas=2)])
    async with Supervisor(old) as supervisor:
        await supervisor.start_child(journal.standing("added"))
        before, port = pids(supervisor), port_of(supervisor)
        inner = SupervisorSpec([journal.standing("db"), journal.standing("cache")])
        new = SupervisorSpec([serving(replicas=1), ChildSpec("backend", inner), journal.standing("fresh")])
        await supervisor.reload(new)
        await until(supervisor, lambda: "gone" not in [child.name for child in supervisor.children()])
        await until(supervisor, lambda: len(pids(supervisor)) == 5)
        after = pids(supervisor)
        assert sorted(after) == ["added.0", "backend/cache.0", "backend/db.0", "fresh.0", "web.0"]
        assert not set(after.values()) & set(before.values())
        assert port_of(supervisor) == port
        assert (await ask(port))[1] == "1"
        with pytest.raises(aioipc.ReloadFailed, match="bad cannot start"):
            await supervisor.reload(SupervisorSpec([*new.children, ChildSpec("bad", functions.fail)]))
        assert replica(supervisor, "web").generation == 2
        bad = journal.standing("g", listeners={"http": "unix:///no-such-directory/socket"})
        with pytest.raises(OSError, match="no-such-directory"):
            await supervisor.reload(SupervisorSpec([bad]))
        with pytest.raises(ValueError, match="cannot turn from a supervisor into a function"):
            await supervisor.reload(SupervisorSpec([journal.standing("backend")]))
        assert [name for name, pid in pids(supervisor).items() if pid is None] == ["bad.0"]  # it can be restarted
        assert len(pids(supervisor)) == 6


async def test_a_cancelled_reload_goes_on_and_leaves_nothing(tmp_path: Path) -> None:
    async with Supervisor(SupervisorSpec([Journal(tmp_path / "journal").standing("web")])) as supervisor:
        reloading = asyncio.create_task(supervisor.reload())
        await until(supervisor, lambda: len(supervisor.children()[0].processes) == 2)
        reloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reloading
        await supervisor.reload()
        assert replica(supervisor, "web").generation == 2
        assert supervisor._driver is not None
        assert not supervisor._driver._reloads


async def test_listeners_of_a_child_change(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    spec = ChildSpec("web", functions.serve, listeners={"http": f"unix://{path}"})
    async with Supervisor(SupervisorSpec([spec])) as supervisor:
        assert path.is_socket()
        await supervisor.reload(SupervisorSpec([serving()]))
        await until(supervisor, lambda: not path.exists())
        assert (await ask(port_of(supervisor)))[1] == "1"


async def test_each_replica_has_its_own_listener() -> None:
    async with Supervisor(SupervisorSpec([serving(replicas=3, reuse_port=True)])) as supervisor:
        port = port_of(supervisor)
        await supervisor.scale("web", 1)
        async with clients(port, 2):
            await supervisor.reload()
        assert port_of(supervisor) == port
