"""Look at processes through /proc (``proc(5)``); `aioipc.testing.waiting` waits for what they do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat, as far as tests ask for it; ``state`` is the letter of ps(1)."""

    pid: int
    name: str
    state: str
    ppid: int
    pgid: int
    sid: int
    start: int

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has reaped it yet."""
        return self.state in "ZX"

    def __str__(self) -> str:
        place = f"ppid {self.ppid}, pgid {self.pgid}, sid {self.sid}"
        return f"process {self.pid} ({self.name}) state {self.state}, {place}: {command_line(self.pid)}"


def process(pid: int) -> Process | None:
    """The process as it is now, or None where there is none (a zombie still counts)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
    except OSError:  # ENOENT, or ESRCH where it ended while we read
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    state, (ppid, pgid, sid) = fields[0], map(int, fields[1:4])
    return Process(pid, name, state, ppid, pgid, sid, int(fields[19]))


def processes() -> Iterator[Process]:
    """All processes of the machine."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := process(int(entry))):
            yield found


def descendants(pid: int) -> list[Process]:
    """The children of a process, their children and so on, parents first, zombies included."""
    by_parent: dict[int, list[Process]] = {}
    for each in processes():
        by_parent.setdefault(each.ppid, []).append(each)
    found = list(by_parent.get(pid, ()))
    for each in found:  # grows while we walk it
        found.extend(by_parent.get(each.pid, ()))
    return found


def children(pid: int) -> list[Process]:
    """The direct children of a process, zombies included."""
    return [each for each in processes() if each.ppid == pid]


def command_line(pid: int) -> str:
    """The arguments of a process; empty for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def open_descriptors(pid: int | str = "self") -> dict[int, str]:
    """Descriptor number -> what it is (the link in /proc/PID/fd)."""
    found = {}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/{pid}/fd/{entry}")
        except FileNotFoundError:  # the one that listed the directory
            pass
    return found


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    found = process(pid)
    return found is not None and not found.is_zombie
