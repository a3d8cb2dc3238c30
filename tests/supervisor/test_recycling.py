"""Services that have done their share of work are replaced under load: replacement first, one at a time, no loss."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from aioipc import Supervisor, SupervisorSpec
from aioipc.supervisor import checkup

from .supervising import LONG, ask, pids, port_of, serving


async def test_max_tasks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(checkup, "EVERY", 0.05)
    caplog.set_level(logging.INFO, "aioipc.supervisor")
    spec = SupervisorSpec([serving(replicas=3, max_tasks=20, jitter=0.5)])
    answered: list[str] = []
    most_at_once = 0

    def look(supervisor: Supervisor) -> None:
        """All slots have one that serves, and one of them at most another one, too."""
        nonlocal most_at_once
        (web,) = supervisor.children()
        others = [each for each in web.processes if each.role != "serving"]
        most_at_once = max(most_at_once, len(others))
        assert len(others) <= 1
        assert [each.state for each in web.processes if each.role == "serving"] == ["RUNNING"] * 3

    async with Supervisor(spec) as supervisor:
        port, first = port_of(supervisor), set(pids(supervisor).values())

        async def load(number: int) -> None:
            while first & set(pids(supervisor).values()):
                pid, _, text = await ask(port, f"{number}")
                assert text == f"{number}"
                answered.append(pid)
                look(supervisor)

        async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(load(number))
        assert supervisor.statistics().generation == 0
    done = {
        match[1]: int(match[2])
        for record in caplog.records
        if (match := re.search(r"\(pid (\d+)\) replacing: it has done (\d+) pieces of work", record.getMessage()))
    }
    assert {str(pid) for pid in first} <= set(done)
    assert min(done.values()) >= 10, "jitter takes away half of it at most"
    assert most_at_once == 1
    assert {str(pid) for pid in first} <= set(answered)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
