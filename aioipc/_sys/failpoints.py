"""Named points at which a fault test can make a process die, stop or hang.

The environment variable ``AIOIPC_FAILPOINTS`` holds items ``name=action[:marker]`` separated by ``;``.
Actions: ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``segv``, ``exit`` (``os._exit(7)``), ``raise``.
With a marker (a path), the point acts once over all processes: in the one that creates that file first;
the file then also proves that the point was hit. Without the variable a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "zygote-before-fork",
    "zygote-after-fork",
    "before-exec",
    "before-ready",
    "idle",
    "task-received",
    "mid-task",
    "result-computed",
    "mid-write",
    "draining",
)

OWNER_NAMES = (
    "record-written",
    "object-made",
    "record-completed",
    "object-removed",
)
"""Those in the life of an object that outlives its process (`aioipc.kernel.claims`)."""

SERVICE_NAMES = (
    "before-launch",
    "before-exit",
)
"""Those that only a service has: before anything of its launch is applied, and when its function has ended."""

ACTIONS = ("kill", "stop", "segv", "exit", "raise")

armed: dict[str, tuple[str, str]] = {}


def load(environ: dict[str, str] | os._Environ[str]) -> None:
    """Arm the points that the environment names; raises ValueError for a name that does not exist."""
    armed.clear()
    for item in filter(None, environ.get("AIOIPC_FAILPOINTS", "").split(";")):
        name, _, action = item.partition("=")
        if name not in (names := NAMES + OWNER_NAMES + SERVICE_NAMES):
            raise ValueError(f"AIOIPC_FAILPOINTS: no failpoint is called {name!r}; there are {', '.join(names)}")
        verb, _, marker = action.partition(":")
        armed[name] = (verb, marker)


def hit(name: str) -> None:
    """Do what was armed at this point, if anything was."""
    if name in armed and due(name):
        act(name)


def due(name: str) -> bool:
    """Tell whether the point is armed and, where it acts once, whether this process is the first to come."""
    if name not in armed:
        return False
    marker = armed[name][1]
    if not marker:
        return True
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def act(name: str) -> None:
    """Do what is armed at the point, now."""
    verb = armed[name][0]
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif verb == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif verb == "exit":
        os._exit(7)
    elif verb == "raise":
        raise RuntimeError(f"failpoint {name}")
    else:
        raise ValueError(f"AIOIPC_FAILPOINTS: no action is called {verb!r}")
