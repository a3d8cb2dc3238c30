"""What /proc tells about processes (proc(5))."""

from __future__ import annotations

import os
from typing import NamedTuple


class ProcessInfo(NamedTuple):
    """The fields of /proc/PID/stat that aioipc uses."""

    pid: int
    state: str
    """R running, S sleeping, D waiting for a disk, T stopped, t traced, Z zombie."""
    parent: int
    group: int
    session: int


def process_info(pid: int) -> ProcessInfo | None:
    """Return what /proc says of a process, or ``None`` where it is gone or /proc is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    state, parent, group, session = text[text.rindex(b")") + 2 :].split(maxsplit=4)[:4]
    return ProcessInfo(pid, state.decode(), int(parent), int(group), int(session))


def children(parent: int) -> list[int]:
    """Return the pids of the live and zombie children of a process, oldest pid first."""
    return [info.pid for info in _every_process() if info.parent == parent]


def session_members(session: int) -> list[int]:
    """Return the pids of all processes in a session (setsid(2)), zombies included."""
    return [info.pid for info in _every_process() if info.session == session]


def _every_process() -> list[ProcessInfo]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    pids = sorted(int(name) for name in names if name.isdigit())
    return [info for pid in pids if (info := process_info(pid)) is not None]
