"""What the leak check reads. Each probe returns the things of one kind as a mapping, thing -> description."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from .isolation import Isolation
from .processes import descendants, open_descriptors
from .reaper import reaper_pid

Things = Mapping[Any, object]

KINDS = (
    "open descriptor",
    "thread",
    "descendant process",
    "System V object",
    "shared memory file",
    "POSIX queue",
    "owner record",
    "temporary file",
    "shared mapping",
    "signal handler",
    "process state",
)
"""What a test may leak: these words stand in its failure, and `may_leak` takes them."""

_THREADS_FOR_LIFE = {"libuv-worker"}  # libuv's pool never ends
_SHARED_MAPPINGS = (b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero")
_SIGNALS = sorted(signal.valid_signals())
_GLIBC_SIGNALS = 0b11 << 31  # 32 and 33, which glibc uses for itself


@dataclass(frozen=True)
class Probe:
    """One kind of thing. ``exact``: one that is gone or has changed is a fault too, not only a new one."""

    kind: str
    read: Callable[[], Things]
    exact: bool = False


def probes(isolation: Isolation) -> list[Probe]:
    """All kinds of things that a test must leave as they were; `KINDS` has their names."""
    ours = "" if isolation.private else "aioipc"
    return [
        Probe("open descriptor", _descriptors, exact=True),
        Probe("thread", _threads),
        Probe("descendant process", _descendants),
        Probe("System V object", partial(_sysv_objects, isolation.private)),
        Probe("shared memory file", partial(_entries, Path("/dev/shm"), ours)),
        Probe("POSIX queue", partial(_entries, isolation.queues, "")),
        Probe("owner record", partial(_owner_records, isolation.state)),
        Probe("temporary file", partial(_entries, isolation.temporary, "")),
        Probe("shared mapping", _shared_mappings),
        Probe("signal handler", _signal_handlers, exact=True),
        Probe("process state", _process_state, exact=True),
    ]


def _descriptors() -> Things:
    return {number: target.removesuffix(" (deleted)") for number, target in open_descriptors().items()}


def _threads() -> Things:
    python = {thread.native_id: repr(thread) for thread in threading.enumerate()}
    found = {}
    for tid in map(int, os.listdir("/proc/self/task")):
        name = python.get(tid) or _native_name(tid)
        if name and name not in _THREADS_FOR_LIFE:
            found[tid] = name
    return found


def _native_name(tid: int) -> str:
    try:
        return Path(f"/proc/self/task/{tid}/comm").read_text().strip()
    except OSError:  # it has just ended
        return ""


def _descendants() -> Things:
    own, reaper = os.getpid(), reaper_pid()
    if not _has_children(own) and (reaper is None or not _has_children(reaper, other_than=own)):
        return {}  # an orphan would be a child of the reaper
    family = descendants(own)
    if reaper is not None:
        known = {each.pid for each in family} | {own}
        family += [each for each in descendants(reaper) if each.pid not in known]
    return {(each.pid, each.start): each for each in family}


def _has_children(pid: int, other_than: int = 0) -> bool:
    """Quickly, by a file that some kernels lack."""
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            if Path(f"/proc/{pid}/task/{tid}/children").read_bytes().split() not in (
                [],
                [b"%d" % other_than],
            ):
                return True
    except OSError:
        return True
    return False


def _sysv_objects(everybodys: bool) -> Things:
    """In a namespace of our own everybody's objects are ours; else those whose owner we are."""
    found = {}
    for kind, owner_column in (("msg", 7), ("sem", 4), ("shm", 7)):
        try:
            lines = Path(f"/proc/sysvipc/{kind}").read_bytes().splitlines()[1:]
        except OSError:
            continue
        for fields in map(bytes.split, lines):
            if everybodys or int(fields[owner_column]) == os.geteuid():
                found[kind, int(fields[1])] = f"key {int(fields[0]) & 0xFFFFFFFF:#010x}"
    return found


def _entries(directory: Path, prefix: str) -> Things:
    try:
        return {name: str(directory / name) for name in os.listdir(directory) if name.startswith(prefix)}
    except OSError:
        return {}


def _owner_records(directory: Path) -> Things:
    """Those of objects that were to be removed with their owner: it has not closed them, or was killed."""
    entries = _entries(directory, "")
    return {name: path for name, path in entries.items() if was_to_be_removed(str(path))}


@cache  # it says so in its first line, which never changes
def was_to_be_removed(path: str) -> bool:
    """Whether the object of an owner record was to be removed with its owner."""
    try:
        with open(path, "rb") as file:
            return b'"remove": true' in file.readline()
    except OSError:  # it has just been removed
        return False


def _shared_mappings() -> Things:
    maps = Path("/proc/self/maps").read_bytes()
    if not any(word in maps for word in _SHARED_MAPPINGS):
        return {}
    lines = [line for line in maps.splitlines() if any(word in line for word in _SHARED_MAPPINGS)]
    return {line.split()[0].decode(): line.split(maxsplit=5)[5].decode() for line in lines}


def _signal_handlers() -> Things:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _process_state() -> Things:
    status = dict(line.partition(":\t")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup != -1:
        signal.set_wakeup_fd(wakeup)
    return {
        "working directory": os.readlink("/proc/self/cwd"),
        "umask": status.get("Umask"),
        "blocked signals": _signals(status["SigBlk"]),
        "ignored signals": _signals(status["SigIgn"]),
        "caught signals": _signals(status["SigCgt"]),
        "wake-up descriptor": wakeup,
    }


@cache
def _signals(mask: str) -> str:
    bits = int(mask, 16) & ~_GLIBC_SIGNALS
    return ", ".join(_name(number) for number in range(1, 65) if bits >> (number - 1) & 1) or "none"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
