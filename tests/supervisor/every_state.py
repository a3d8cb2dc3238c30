"""Children in every state at once: what is there when a zygote, or the master itself, dies at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from aioipc import ChildSpec, Supervisor, SupervisorSpec, WorkerContext

from ..harness.processes import eventually_async
from .supervising import LONG
from .sweep_functions import FAULTS, count_start, directory, starts

HANGING = ("stop", "block", "gil", "deaf")
PLAIN = ("ready", "replaced", "leaving", "draining", "stopping")
DOWN = ("draining", "stopping")
"""Those that were told to end."""
CRASHES = 5
"""So many in a row that the pauses are long enough to look at them."""
COMMAND = "trap '' TERM HUP; sleep 600 & echo >&$NOTIFY_FD; wait"
FUGITIVE = "setsid sleep 600 & " + COMMAND
"""Has a grandchild in a session of its own."""


async def hold(worker: WorkerContext) -> None:
    """Stay in the state that the child is called after, until the test releases it."""
    name, number = worker.name, count_start(worker.name)
    if name == "starting" or (name in ("replaced", "stopping") and number == 2):
        await _released()
    await worker.ready()
    if name in HANGING and number == 1:
        await asyncio.sleep(0.05)  # so that it is known to be ready
        await FAULTS[name]()
    if name == "backoff" and not (directory() / "release").exists():
        await asyncio.sleep(0.01)
        sys.exit(3)
    await worker.stopping()
    if name in ("leaving", "draining"):
        await _released()


async def _released() -> None:
    release = directory() / "release"
    while not release.exists():
        with contextlib.suppress(asyncio.CancelledError):  # whoever is asked to stop before it is ready is cancelled
            await asyncio.sleep(0.05)


def environment(where: Path) -> dict[str, str]:
    """What is to be in the environment of the master: by it a process that is asked for stops before it is set up."""
    (where / "asked").touch()
    return {"AIOIPC_FAILPOINTS": f"before-launch=stop:{where / 'asked'}"}


def spec(where: Path, command: str = COMMAND) -> SupervisorSpec:
    """The children that are to be up first."""
    children = [child(name, where) for name in (*HANGING, *PLAIN)]
    children.append(ChildSpec("command", ["sh", "-c", command], ready="newline", gate=False, shutdown=0.5))
    return SupervisorSpec(children, intensity=None)


def child(name: str, where: Path) -> ChildSpec:
    """One that stays in its state."""
    long: dict[str, Any] = {"boot_timeout": 600.0, "heartbeat_timeout": 600.0, "shutdown": 600.0}
    listeners = {"http": "tcp://127.0.0.1:0"} if name == "ready" else {}
    return ChildSpec(name, f"{__name__}:hold", env={"SWEEP": str(where)}, listeners=listeners, gate=False, **long)


async def reach(supervisor: Supervisor, where: Path) -> list[asyncio.Task[None]]:
    """Bring each child into its state; the calls that wait for something to go on are returned."""
    assert supervisor._driver is not None
    root = supervisor._driver.tree.root.state
    waiting = [asyncio.ensure_future(supervisor.restart_child(name)) for name in ("replaced", "leaving", "stopping")]
    await supervisor.start_child(child("starting", where))
    await eventually_async(lambda: starts("starting", where) == 1, LONG)  # it has passed the point
    (where / "asked").unlink()
    await supervisor.start_child(child("asked", where))
    await eventually_async(lambda: (where / "asked").exists(), LONG)
    await supervisor.start_child(child("backoff", where))
    slots = {name: root.child(name).slots[0] for name in (*PLAIN, "starting", "asked", "backoff")}
    await eventually_async(lambda: starts("replaced", where) == starts("stopping", where) == 2, LONG)
    waiting += [asyncio.ensure_future(supervisor.terminate_child(name)) for name in DOWN]

    def all_there() -> bool:
        return (
            slots["leaving"].leaving is not None
            and slots["draining"].state == "DRAINING"
            and slots["stopping"].successor is not None
            and slots["stopping"].successor.state == "STOPPING"
            and slots["starting"].state == slots["asked"].state == "STARTING"
            and (slots["backoff"].state == "BACKOFF" and slots["backoff"].starts >= CRASHES)
        )

    await eventually_async(all_there, LONG, lambda: supervisor.children())
    return waiting
