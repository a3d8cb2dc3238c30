"""What /proc tells about processes (proc(5))."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable
from functools import cache
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessInfo(NamedTuple):
    """The fields of /proc/PID/stat that aioipc uses."""

    pid: int
    state: str
    """R running, S sleeping, D waiting for a disk, T stopped, t traced, Z zombie."""
    parent: int
    group: int
    session: int
    started: int
    """When it was started, in clock ticks since the machine was."""


def process_info(pid: int) -> ProcessInfo | None:
    """Return what /proc says of a process, or ``None`` where it is gone or /proc is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split(maxsplit=20)
    parent, group, session, started = (int(fields[index]) for index in (1, 2, 3, 19))
    return ProcessInfo(pid, fields[0].decode(), parent, group, session, started)


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the machine was; ``None`` where nobody can tell.

    Together with its pid that is one process and no later one of the same number, as long as the machine runs.
    """
    info = process_info(pid)
    return None if info is None else info.started


def is_running(pid: int, started: int | None = None) -> bool:
    """Return whether the process of this pid, the one that was `started` then, has not ended; a zombie has."""
    info = process_info(pid)
    return info is not None and info.state not in "ZX" and started in (None, info.started)


def started_at(pid: int) -> float | None:
    """Return when a process was started, in seconds since the epoch; ``None`` where nobody can tell."""
    ticks = start_time(pid)
    try:
        with open("/proc/stat", "rb") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
    except (OSError, StopIteration):
        return None
    return None if ticks is None else booted + ticks / os.sysconf("SC_CLK_TCK")


@cache
def boot_id() -> str:
    """Return what tells this run of the machine from any other; empty where /proc is not there (``random(4)``)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def namespace(kind: str) -> str:
    """Return which ``ipc``, ``pid``, … namespace this process is in (``namespaces(7)``); empty without /proc."""
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def children(parent: int) -> list[int]:
    """Return the pids of the live and zombie children of a process, oldest pid first."""
    return [info.pid for info in _every_process() if info.parent == parent]


def session_members(session: int) -> list[int]:
    """Return the pids of all processes in a session (setsid(2)), zombies included."""
    return [info.pid for info in _every_process() if info.session == session]


def threads_letting_in(signums: Iterable[int]) -> dict[int, str]:
    """Return the other threads of this process that do not block all these signals: number -> name.

    Empty where /proc is not there.
    """
    wanted = sum(1 << (signum - 1) for signum in signums)
    found = {}
    for number in _own_threads() - {threading.get_native_id()}:
        try:
            with open(f"/proc/self/task/{number}/status", errors="replace") as file:
                status = dict(line.rstrip().partition(":\t")[::2] for line in file)
        except OSError:  # it has just ended
            continue
        if int(status["SigBlk"], 16) & wanted != wanted and status["State"][0] not in "ZX":
            found[number] = status["Name"]
    return found


def _own_threads() -> set[int]:
    try:
        return set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()


def running_in_sessions(sessions: Collection[int]) -> list[ProcessInfo]:
    """Return the processes of several sessions that have not ended, by one look at /proc."""
    return [info for info in _every_process() if info.session in sessions and info.state not in "ZX"]


def private_memory(pid: int) -> int:
    """Return how many bytes of memory a process holds that are backed by no file and shared as such with nobody.

    Pages that it still shares with the process it was forked from count too. 0 where it is gone.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = file.read().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE


def available_memory() -> int | None:
    """Return how many bytes the machine can still give out without killing anybody; ``None`` where nobody knows."""
    try:
        with open("/proc/meminfo", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file)
        return 1024 * sum(int(fields[name].split()[0]) for name in (b"MemAvailable", b"SwapFree"))
    except (OSError, KeyError, ValueError):
        return None


def _every_process() -> list[ProcessInfo]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    pids = sorted(int(name) for name in names if name.isdigit())
    return [info for pid in pids if (info := process_info(pid)) is not None]
