"""Which processes have which shared objects open or mapped: one pass over /proc/PID/fd and /proc/PID/maps.

Processes end while they are read, and those of other users may not be read at all: what is not there any more is left
out, and who refused is counted, so that nobody takes "nobody has it open" from a look that has not seen everybody.
See ``proc(5)``.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Flag

from .exhaustion import raise_if_exhausted
from .file_systems import MQUEUE, file_system

Identity = tuple[int, int]
"""Device and inode."""

UNKNOWN_USER = -1

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
_SEGMENT = re.compile(rb"^\S+ (\S{4}) \S+ \S+ (\d+) +/SYSV[0-9a-f]{8}(?: \(deleted\))?$", re.MULTILINE)


class Access(Flag):
    """How a process has something: open for reading or writing, or mapped."""

    READ = 1
    WRITE = 2
    MAPPED = 4


Uses = dict[int, Access]
"""Who: pid -> how."""


def _uses() -> defaultdict[int, Access]:
    return defaultdict(lambda: Access(0))


@dataclass(slots=True)
class OpenFiles:
    """Who uses what, by what it is."""

    files: defaultdict[Identity, Uses] = field(default_factory=lambda: defaultdict(_uses))
    """FIFOs, POSIX queues, and files of the shared-memory file system."""
    segments: defaultdict[int, Uses] = field(default_factory=lambda: defaultdict(_uses))
    """System V shared memory, by id."""
    sockets: defaultdict[int, Uses] = field(default_factory=lambda: defaultdict(_uses))
    """By inode."""
    fifos: dict[Identity, tuple[str, os.stat_result]] = field(default_factory=dict)
    """Those that are open, with their paths as who has them open sees them."""
    queues: dict[Identity, str] = field(default_factory=dict)
    """The names of POSIX queues that are open, of this IPC namespace."""
    unreadable: Counter[int] = field(default_factory=Counter)
    """How many processes did not let us look, by their uid. PID 1, which hides in many containers, does not count.

    Where /proc does not even list those of others (hidepid), `UNKNOWN_USER` stands for them.
    """


def scan(*, descriptors: bool = True, mappings: bool = True) -> OpenFiles:
    """Look at every process, this one included. Raises `OSError` where descriptors or memory have run out."""
    look = _Look()
    if not os.path.exists("/proc/1"):
        look.found.unreadable[UNKNOWN_USER] += 1
    for name in _listed("/proc"):
        if name.isdigit():
            look.process(int(name), descriptors, mappings)
    return look.found


class _Look:
    def __init__(self) -> None:
        self.found = OpenFiles()
        self._namespace = _link("/proc/self/ns/ipc")
        self._shared_memory = _device("/dev/shm")
        device = self._shared_memory or 0
        self._device_text = b" %02x:%02x " % (os.major(device), os.minor(device))
        self._mapped_file = re.compile(rb"^\S+ (\S{4}) \S+" + self._device_text + rb"(\d+) ", re.MULTILINE)
        self._queue_devices: dict[int, bool] = {}

    def process(self, pid: int, descriptors: bool, mappings: bool) -> None:
        ours = _link(f"/proc/{pid}/ns/ipc") in (self._namespace, "")  # hidden: rather too many users than too few
        try:
            if descriptors:
                for number in os.listdir(f"/proc/{pid}/fd"):
                    self._descriptor(pid, f"/proc/{pid}/fd/{number}", ours)
            if mappings:
                with open(f"/proc/{pid}/maps", "rb") as file:
                    self._mappings(pid, file.read(), ours)
        except PermissionError:
            if pid != 1 and (uid := _hiding_user(pid)) is not None:
                self.found.unreadable[uid] += 1
        except OSError as error:  # it has ended
            raise_if_exhausted(error)

    def _descriptor(self, pid: int, path: str, ours: bool) -> None:
        try:
            target = os.readlink(path)
        except FileNotFoundError:  # closed meanwhile
            return
        if target.startswith("socket:["):
            self.found.sockets[int(target[8:-1])][pid] |= Access.READ | Access.WRITE
        elif target.startswith("/") and not target.startswith(("/dev/pts/", "/memfd:")) and target != "/dev/null":
            try:
                status = os.stat(path)
                mode = os.lstat(path).st_mode
            except OSError:  # closed meanwhile
                return
            identity = status.st_dev, status.st_ino
            if stat.S_ISFIFO(status.st_mode):
                self.found.fifos[identity] = target, status
            elif ours and self._is_queue(status, path):
                self.found.queues[identity] = "/" + target.rpartition("/")[2]
            elif status.st_dev != self._shared_memory:
                return
            readable, writable = mode & stat.S_IRUSR, mode & stat.S_IWUSR
            how = (Access.READ if readable else Access(0)) | (Access.WRITE if writable else Access(0))
            self.found.files[identity][pid] |= how

    def _is_queue(self, status: os.stat_result, path: str) -> bool:
        """Every IPC namespace has a device of its own for its queues, mounted or not; none is known beforehand."""
        if not stat.S_ISREG(status.st_mode) or os.major(status.st_dev) or status.st_dev == self._shared_memory:
            return False
        if (known := self._queue_devices.get(status.st_dev)) is None:
            known = self._queue_devices[status.st_dev] = file_system(path) == MQUEUE
        return known

    def _mappings(self, pid: int, maps: bytes, ours: bool) -> None:
        if ours and b"/SYSV" in maps:
            for permissions, number in _SEGMENT.findall(maps):
                self.found.segments[int(number)][pid] |= _mapped(permissions)
        if self._shared_memory is not None and self._device_text in maps:
            for permissions, number in self._mapped_file.findall(maps):
                self.found.files[self._shared_memory, int(number)][pid] |= _mapped(permissions)


def _mapped(permissions: bytes) -> Access:
    how = Access.MAPPED
    if permissions[:1] == b"r":
        how |= Access.READ
    if permissions[1:2] == b"w":
        how |= Access.WRITE
    return how


def _hiding_user(pid: int) -> int | None:
    """Return whose a process is that has files, but does not show them; kernel threads and zombies have none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") or int(fields[6]) & _KERNEL_THREAD else uid


def command(pid: int) -> str:
    """Return the name of a process (``comm``), empty where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().removesuffix("\n")
    except OSError:
        return ""


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError as error:
        raise_if_exhausted(error)
        return []
