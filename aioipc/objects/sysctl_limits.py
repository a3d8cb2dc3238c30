"""The limits that are files of /proc/sys, which sysctl(8) sets: a table of them, and how much of each is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from aioipc._sys.sysvipc import Row, table

from .limit import Limit, LimitUnit, hint
from .posix_objects import queue_folder

_Kind = Literal["msg", "sem", "shm"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED = 1 << 62
"""The kernel says "no limit" with several numbers, all of them above."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """A file of /proc/sys: the name as sysctl(8) has it, and which number in the file."""

    name: str
    unit: LimitUnit
    meaning: str
    used: Callable[[], float | None] = lambda: None
    least: float | None = None
    why: str = ""
    field: int = 0
    part: str = ""  # what the number is called, where the file has several

    def read(self) -> Limit | None:
        path = "/proc/sys/" + self.name.replace(".", "/")
        try:
            with open(path) as file:
                fields = file.read().split()
            number = int(fields[self.field])
        except (OSError, ValueError, IndexError):
            return None
        value = number if number < _UNLIMITED else None
        used = self.used()
        wish = " ".join(["N" if place == self.field else text for place, text in enumerate(fields)])
        return Limit(
            name=f"{self.name}.{self.part}" if self.part else self.name,
            value=value,
            used=used,
            unit=self.unit,
            source=path,
            meaning=self.meaning,
            remedy=f"sysctl -w {self.name}={wish}" if len(fields) == 1 else f"sysctl -w {self.name}='{wish}'",
            hint=hint(value, used, self.least, self.why),
        )


def _rows(kind: _Kind) -> list[Row]:
    return table(kind) or []


def _largest(kind: _Kind, column: str) -> Callable[[], float]:
    return lambda: max((row[column] for row in _rows(kind)), default=0)


def _total(kind: _Kind, column: str) -> Callable[[], float]:
    return lambda: sum(row[column] for row in _rows(kind))


def _number(kind: _Kind) -> Callable[[], float]:
    return lambda: len(_rows(kind))


def _pages() -> float:
    return sum(-(-row["size"] // _PAGE) for row in _rows("shm"))


def _queues() -> float | None:
    folder = queue_folder()
    try:
        return None if folder is None else len(os.listdir(folder))
    except OSError:
        return None


def _tasks() -> float | None:
    try:
        with open("/proc/loadavg") as file:
            return int(file.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None


def _number_in(path: str) -> float | None:
    try:
        with open(path) as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None


_DEFAULT = "the usual default is more"
_NO_MORE = "programs fail with ENOSPC"

_SETTINGS = (
    _Setting("kernel.msgmax", "bytes", "the longest message of a System V queue", least=8192, why=_DEFAULT),
    _Setting(
        "kernel.msgmnb", "bytes", "how much a new System V queue holds", _largest("msg", "cbytes"), 16384, _DEFAULT
    ),
    _Setting("kernel.msgmni", "count", "System V queues", _number("msg"), 32, _NO_MORE),
    _Setting("kernel.sem", "count", "semaphores in a System V set", _largest("sem", "nsems"), field=0, part="semmsl"),
    _Setting("kernel.sem", "count", "semaphores of all System V sets", _total("sem", "nsems"), field=1, part="semmns"),
    _Setting("kernel.sem", "count", "operations in one semop(2)", least=32, why=_DEFAULT, field=2, part="semopm"),
    _Setting("kernel.sem", "count", "System V semaphore sets", _number("sem"), 128, _NO_MORE, 3, "semmni"),
    _Setting("kernel.shmmax", "bytes", "the largest System V segment", _largest("shm", "size"), 32 << 20, _DEFAULT),
    _Setting("kernel.shmall", "pages", "System V shared memory in all", _pages),
    _Setting("kernel.shmmni", "count", "System V segments", _number("shm"), 128, _NO_MORE),
    _Setting("fs.mqueue.queues_max", "count", "POSIX queues", _queues),
    _Setting("fs.mqueue.msg_max", "count", "messages in a POSIX queue that is not root's", least=10, why=_DEFAULT),
    _Setting("fs.mqueue.msgsize_max", "bytes", "the longest message of such a queue", least=8192, why=_DEFAULT),
    _Setting("fs.pipe-max-size", "bytes", "a pipe's capacity, unless root sets it", least=1 << 20, why=_DEFAULT),
    _Setting("fs.pipe-user-pages-soft", "pages", "all pipes of a user; above it new ones get two pages only"),
    _Setting("fs.file-max", "count", "open files in all", partial(_number_in, "/proc/sys/fs/file-nr")),
    _Setting("fs.inotify.max_user_instances", "count", "inotify descriptors of a user", least=128, why=_DEFAULT),
    _Setting("fs.inotify.max_user_watches", "count", "files that a user watches", least=8192, why=_DEFAULT),
    _Setting("net.core.somaxconn", "count", "connections that wait to be accepted", least=128, why=_DEFAULT),
    _Setting("net.core.wmem_max", "bytes", "the send buffer that a socket may ask for", least=212992, why=_DEFAULT),
    _Setting("net.unix.max_dgram_qlen", "count", "datagrams that wait in a UNIX socket"),
    _Setting("kernel.threads-max", "count", "processes and threads in all", _tasks),
    _Setting("kernel.pid_max", "count", "numbers for processes and threads", _tasks),
)


def sysctl_limits() -> Iterator[Limit]:
    """Yield those that this system has."""
    for setting in _SETTINGS:
        if (limit := setting.read()) is not None:
            yield limit
