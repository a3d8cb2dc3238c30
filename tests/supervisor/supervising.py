"""What the tests of the whole supervisor have in common."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aioipc
from aioipc import ChildSpec, ReplicaStatistics, Supervisor

from ..harness.processes import eventually_async
from . import supervised_functions as functions

LONG = 30.0


class Journal:
    """What the services of a test have written down."""

    def __init__(self, path: Path) -> None:
        self.env: Mapping[str, str] = {"JOURNAL": str(path)}
        self._path = path

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().split() if self._path.exists() else []

    def clear(self) -> None:
        self._path.write_text("")

    def standing(self, name: str, **options: Any) -> ChildSpec:
        """A service that writes down when it begins and ends."""
        return ChildSpec(name, functions.stand, env=self.env, **options)


def serving(name: str = "web", target: Any = functions.serve, **options: Any) -> ChildSpec:
    return ChildSpec(name, target, listeners={"http": "tcp://127.0.0.1:0"}, **options)


def replica(supervisor: Supervisor, name: str, number: int = 0) -> ReplicaStatistics:
    """The one that serves."""
    for child in supervisor.children():
        if child.name == name:
            return next(each for each in child.processes if (each.replica, each.role) == (number, "serving"))
    raise LookupError(name)


def pids(supervisor: Supervisor) -> dict[str, int | None]:
    """The pids of all that serve, by name and number."""
    every = [each for child in supervisor.children() if child.kind != "supervisor" for each in child.processes]
    return {f"{each.name}.{each.replica}": each.pid for each in every if each.role == "serving"}


def kill(supervisor: Supervisor, name: str, signum: int = signal.SIGKILL) -> int:
    """Kill the process that serves, and return its pid."""
    pid = replica(supervisor, name).pid
    assert pid is not None
    os.kill(pid, signum)
    return pid


async def until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    """Wait until that is so."""
    await eventually_async(lambda: bool(condition()), LONG, lambda: supervisor.children())


async def replaced(supervisor: Supervisor, name: str, pid: int | None) -> ReplicaStatistics:
    """Wait until another process than that one is RUNNING."""
    await until(supervisor, lambda: (now := replica(supervisor, name)).state == "RUNNING" and now.pid != pid)
    return replica(supervisor, name)


def port_of(supervisor: Supervisor, name: str = "web") -> int:
    address = next(child for child in supervisor.children() if child.name == name).listeners["http"]
    return int(address.rpartition(":")[2])


async def ask(port: int, text: str = "hello") -> list[str]:
    """Connect, send a line, return the words of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{text}\n".encode())
        return (await reader.read()).decode().split()
    finally:
        writer.close()
        await writer.wait_closed()


async def failure_of(supervisor: Supervisor) -> aioipc.SupervisorFailed:
    """Wait until it gives up, and return why."""
    try:
        async with asyncio.timeout(LONG):
            await supervisor.wait()
    except aioipc.SupervisorFailed as error:
        return error
    raise AssertionError("it ended well")
