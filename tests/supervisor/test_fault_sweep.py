"""Every fault at every point of the life of a service: each child has one of its own, all at once.

Whatever the fault and the point: the child comes back as its spec says, or is down where that was asked for; nothing
that was always true of the model was not true of the processes; no process is left that nobody knows, and in the end
none at all, no port, no descriptor.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import aioipc
from aioipc import ChildSpec, Supervisor, SupervisorSpec

from ..harness.processes import eventually_async, processes
from .recording import recorded
from .supervising import LONG, port_of, replica
from .sweep_functions import FAULTS, POINTS, serve, starts

__all__ = ["recorded"]

HANGING = ("stop", "block", "gil", "deaf")
NO_FAULT = {"deaf": ("importing", "ready", "again", "replaced")}
"""Whoever is asked for nothing does not notice that it hears nothing."""
NAMES = [f"{fault}-{point}" for fault in FAULTS for point in POINTS if point not in NO_FAULT.get(fault, ())]
BEFORE_READY = ("importing", "starting", "again", "replacement")
ASKED_TO_STOP = ("leaving", "draining", "stopping")

ENDS = {"kill": "SIGKILL", "segv": "SIGSEGV", "memory": "exited with 1", "error": "exited with 1"}
HANGS = {"stop": "it was stopped (SIGSTOP)", "block": "a task blocked the loop", "gil": "a task held the GIL"}


def words(fault: str, point: str) -> tuple[str, ...]:
    """How the end of a process may be told."""
    if fault in ENDS:
        return (ENDS[fault],)
    if point in BEFORE_READY:
        return ("it was not ready after",)
    if point in ASKED_TO_STOP:
        return ("it did not stop in time", "it exited with 124")  # by its master, or by its own second thread
    return (HANGS[fault],)


def child(name: str, directory: Path) -> ChildSpec:
    """The child of this fault and point; those that hang have little time, so that their test has an end."""
    fault, _, point = name.partition("-")
    hanging = {"heartbeat_timeout": 4.0, "shutdown": 1.0} if fault in HANGING else {}
    if fault in HANGING and point in BEFORE_READY:
        hanging["boot_timeout"] = 8.0
    return ChildSpec(
        name,
        f"{serve.__module__}:serve",
        env={"SWEEP": str(directory), "SWEEP_CHILD": name},
        listeners={"http": "tcp://127.0.0.1:0"},
        gate=False,
        stderr="null",
        **hanging,  # type: ignore[arg-type]
    )


def marked(text: str) -> set[int]:
    """The processes that run with this in their environment."""
    found = set()
    for each in processes():
        try:
            environ = Path(f"/proc/{each.pid}/environ").read_bytes()
        except OSError:
            continue
        if not each.is_zombie and text.encode() in environ:
            found.add(each.pid)
    return found


class Sweep:
    """A supervisor and the stories of its children."""

    def __init__(self, supervisor: Supervisor, directory: Path) -> None:
        self.supervisor = supervisor
        self._directory = directory
        assert supervisor._driver is not None
        self.driver = supervisor._driver

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until that is so; it is looked at only when anything has happened."""
        async with asyncio.timeout(LONG):
            await self.driver.wait(condition)

    async def story(self, name: str) -> None:
        """Bring the child to its point, and see it come back."""
        point = name.partition("-")[2]
        state = self.driver.tree.root.state.child(name)
        slot = state.slots[0]
        if point in ("replaced", "leaving"):
            await self.supervisor.restart_child(name)
        elif point == "replacement":
            with pytest.raises(aioipc.WorkerBootError):
                await self.supervisor.restart_child(name)
        elif point in ("draining", "stopping"):
            if point == "stopping":
                restarting = asyncio.ensure_future(self.supervisor.restart_child(name))
                await eventually_async(lambda: starts(name, self._directory) == 2, LONG)
                await self.until(lambda: slot.successor is not None and slot.successor.pid is not None)
            await self.supervisor.terminate_child(name)
            assert slot.state == "EXITED"
            assert not state.processes()
            if point == "stopping":
                await restarting
            self.check_last_exit(name)
            await self.supervisor.restart_child(name)
        expected = max(number for _, number in POINTS[point]) + 1
        await self.until(lambda: slot.state == "RUNNING" and len(state.processes()) == 1 and slot.starts >= expected)
        if point not in ("draining", "stopping", "replacement"):  # after which another one has ended, and well
            self.check_last_exit(name)

    def check_last_exit(self, name: str) -> None:
        fault, _, point = name.partition("-")
        text = replica(self.supervisor, name).last_exit
        expected = words(fault, point)
        if point == "stopping":  # the one that was to be replaced may have ended after it, and well
            expected += ("it exited with 0",)
        assert any(each in text for each in expected), f"{name}: {text}"


async def test_every_fault_at_every_point(
    recorded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop_of_services: str
) -> None:
    monkeypatch.setenv("SWEPT_BY", token := str(tmp_path))
    children = [child(name, tmp_path) for name in NAMES]
    children.sort(key=lambda each: each.boot_timeout or 0.0)  # first those that have the least time to start
    spec = SupervisorSpec(children, intensity=None)
    async with Supervisor(spec) as supervisor:
        sweep = Sweep(supervisor, tmp_path)
        async with asyncio.TaskGroup() as group:
            for name in NAMES:
                group.create_task(sweep.story(name))
        serving = {replica(supervisor, name).pid for name in NAMES}
        zygotes = set(supervisor.statistics().zygotes.values())
        await eventually_async(lambda: marked(token) == serving | zygotes, LONG, lambda: (serving, marked(token)))
        ports = [port_of(supervisor, name) for name in NAMES]
    assert marked(token) == set()
    for port in ports:
        bind(port)


def bind(port: int) -> None:
    """Show that a port is free."""
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
