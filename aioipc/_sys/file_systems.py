"""Which file system a file is on (``statfs(2)``), and where one is mounted (``proc_pid_mountinfo(5)``)."""

from __future__ import annotations

import ctypes
import os
import re

from .exhaustion import raise_if_exhausted

MQUEUE = 0x19800202
"""The file system of POSIX message queues (MQUEUE_MAGIC)."""

_ROOM = 256  # bytes: more than struct statfs has anywhere
_ESCAPE = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def file_system(path: str) -> int | None:
    """Return the number that stands for the type of the file system; None where that cannot be told."""
    call = getattr(_libc, "statfs", None)
    room = ctypes.create_string_buffer(_ROOM)
    if call is None or call(os.fsencode(path), room):
        return None
    return ctypes.c_long.from_buffer(room).value


def mount_points(kind: str) -> list[str]:
    """Return where file systems of this type are mounted, in the order in which they were."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise_if_exhausted(error)
        return []
    found = []
    for line in lines:
        before, _, behind = line.partition(" - ")
        if behind.split(maxsplit=1)[:1] == [kind]:
            found.append(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), before.split()[4]))
    return found
