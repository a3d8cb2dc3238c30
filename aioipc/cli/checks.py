"""What ``aioipc doctor`` looks at: each check says OK, WARN or FAIL, what it has found, and what to do.

FAIL is what a part of aioipc cannot work without; WARN what it works around, or what will be too little one day.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from aioipc import Limit, __version__, inventory

from .limit_table import amount

PATIENCE = 0.1
"""Seconds that PID 1 has to reap a zombie."""

Verdict = Literal["OK", "WARN", "FAIL"]

_MOUNT_QUEUES = "as root: mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue"
_NOT_OFFERED = {errno.ENOSYS: "this kernel does not have it", errno.EPERM: "it is refused (seccomp, as in a container)"}


@dataclass(frozen=True, slots=True)
class Check:
    """What was found, and what to do about it."""

    area: str
    verdict: Verdict
    text: str
    remedy: str = ""


def checks(limits: dict[str, Limit]) -> list[Check]:
    """All checks, in the order in which they are shown."""
    return [*_versions(), *_kernel(), *_mounts(limits), *_first_process(), *_limits(limits)]


def _versions() -> Iterator[Check]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Check("versions", "OK", f"aioipc {__version__}, {python}, {platform.system()} {platform.release()}")
    if sys.platform != "linux":
        yield Check("versions", "FAIL", f"aioipc needs Linux, not {sys.platform}")
    if importlib.util.find_spec("uvloop") is None:
        yield Check("versions", "WARN", "uvloop is not installed: asyncio's own loop is used", "pip install uvloop")


def _kernel() -> Iterator[Check]:
    """Try the calls that old kernels lack and container runtimes refuse."""
    yield _try("pidfd_open(2)", _pidfd, "processes are watched by threads instead")
    yield _try("memfd_create(2)", _memfd, "anonymous memory is an unlinked temporary file instead")
    yield _try("eventfd(2)", lambda: os.close(os.eventfd(0)), "")
    if os.path.isdir("/proc/self/fd"):
        yield Check("kernel", "OK", "/proc is there")
    else:
        remedy = "mount -t proc proc /proc"
        yield Check("kernel", "FAIL", "/proc is not mounted: neither processes nor objects can be listed", remedy)
    if os.path.exists("/proc/sysvipc/msg"):
        yield Check("kernel", "OK", "System V objects are there")
    else:
        yield Check("kernel", "WARN", "this kernel has no System V objects (no /proc/sysvipc)", "CONFIG_SYSVIPC=y")


def _try(name: str, call: Callable[[], object], instead: str) -> Check:
    try:
        call()
    except (OSError, AttributeError) as error:
        number = getattr(error, "errno", None) or errno.ENOSYS
        why = _NOT_OFFERED.get(number, os.strerror(number))
        return Check(
            "kernel", "WARN", f"{name}: {why}" + (f"; {instead}" if instead else ""), "docker run, a newer one"
        )
    return Check("kernel", "OK", f"{name} works")


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _memfd() -> None:
    os.close(os.memfd_create("aioipc-doctor"))


def _mounts(limits: dict[str, Limit]) -> Iterator[Check]:
    shared = limits.get("/dev/shm")
    if shared is None or not os.access("/dev/shm", os.W_OK | os.X_OK):
        text = "/dev/shm is not there, or not writable: no POSIX semaphores, no shared memory with a name"
        yield Check("mounts", "FAIL", text, "mount -t tmpfs -o mode=1777 tmpfs /dev/shm")
    else:
        size = f"{amount(shared, shared.value)}, {amount(shared, shared.used)} used"
        yield Check("mounts", "OK", f"/dev/shm: {size}")
    notes = inventory(["posix-queue"]).notes
    if any("not mounted" in note for note in notes):
        text = "/dev/mqueue is not mounted: POSIX queues work, but are listed only while somebody has them open"
        yield Check("mounts", "WARN", text, _MOUNT_QUEUES)
    else:
        yield Check("mounts", "OK", "the names of POSIX queues can be read")
    try:
        with tempfile.TemporaryFile():
            pass
    except OSError as error:
        text = f"no temporary file can be made ({error.strerror})"
        yield Check("mounts", "WARN", text, "set TMPDIR to a directory that is writable")


def _first_process() -> Iterator[Check]:
    """PID 1 adopts orphans; one that does not reap them lets process numbers run out."""
    try:
        with open("/proc/1/comm", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        return
    if zombies := _zombies_of_first():
        time.sleep(PATIENCE)  # it may be about to reap them
        zombies &= _zombies_of_first()
    remedy = "run an init as PID 1: docker run --init, tini, or systemd"
    if zombies:
        yield Check("pid 1", "WARN", f"{name} does not reap: {len(zombies)} zombies", remedy)
    elif os.getpid() == 1:
        yield Check("pid 1", "WARN", "this process is PID 1 itself: orphans of its workers become its children", remedy)
    else:
        yield Check("pid 1", "OK", f"{name}; no zombies wait for it")


def _zombies_of_first() -> set[str]:
    return {pid for pid in os.listdir("/proc") if pid.isdigit() and _is_zombie_of_first(pid)}


def _is_zombie_of_first(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] == b"Z" and fields[1] == b"1"


def _limits(limits: dict[str, Limit]) -> Iterator[Check]:
    for limit in limits.values():
        used = "" if limit.used is None else f", {amount(limit, limit.used)} used"
        text = f"{limit.name} = {amount(limit, limit.value)}{used} ({limit.meaning})"
        if limit.hint is None:
            yield Check("limits", "OK", text)
        else:
            yield Check("limits", "WARN", f"{text}: {limit.hint}", limit.remedy)
