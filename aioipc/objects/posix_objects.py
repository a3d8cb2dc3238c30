"""POSIX queues, named semaphores and shared memory: what is in the file systems that hold their names."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

from aioipc._sys import posix_mq
from aioipc._sys.exhaustion import raise_if_exhausted
from aioipc._sys.file_systems import mount_points
from aioipc._sys.open_files import OpenFiles

from .file_objects import file_object, listed, look
from .kernel_object import KernelObject, SemaphoreState

SHARED_MEMORY = "/dev/shm"
QUEUES = "/dev/mqueue"

_SEMAPHORE = struct.Struct("Q")  # glibc and musl: the value, and in the upper half how many wait
_SEMAPHORE_SIZE = 4 * struct.calcsize("l")


def queue_folder() -> str | None:
    """Return where the names of the queues can be read: /dev/mqueue, or where else it is mounted."""
    points = mount_points("mqueue")
    return QUEUES if QUEUES in points else points[-1] if points else None


def queues(users: OpenFiles, names: Iterable[str]) -> Iterator[KernelObject]:
    """Yield the queues whose names can be read, those that somebody has open, and those of ``names`` that are there."""
    folder = queue_folder()
    known = {"/" + name: f"{folder}/{name}" for name in (listed(folder) if folder is not None else ())}
    for name in sorted({*known, *users.queues.values(), *names}):
        found = _queue(name, users)
        if found is None and name in known and (status := look(known[name])) is not None:
            found = file_object("posix-queue", name, status, users)  # not ours to read
        if found is not None:
            yield found


def _queue(name: str, users: OpenFiles) -> KernelObject | None:
    """Open a queue to look at it, which takes nothing out.

    How many bytes are in it is not asked for: reading that (``QSIZE``) changes the file's times.
    """
    try:
        descriptor = posix_mq.open_queue(name, os.O_RDONLY)
    except ValueError:
        return None
    except OSError as error:
        raise_if_exhausted(error)
        return None
    try:
        status, attributes = os.fstat(descriptor), posix_mq.attributes(descriptor)
    finally:
        os.close(descriptor)
    return replace(
        file_object("posix-queue", name, status, users),
        size=attributes.max_messages * attributes.max_message_size,
        messages=attributes.messages,
        max_messages=attributes.max_messages,
        max_message_size=attributes.max_message_size,
        last_used=status.st_mtime,  # each message changes all its times, so nothing tells when it was made
    )


def shared_files(users: OpenFiles) -> Iterator[KernelObject]:
    """Yield the named semaphores and the shared memory."""
    for name in listed(SHARED_MEMORY):
        path = f"{SHARED_MEMORY}/{name}"
        if (status := look(path)) is None or not stat.S_ISREG(status.st_mode):
            continue
        if name.startswith("sem.") and status.st_size == _SEMAPHORE_SIZE:
            yield _semaphore(path, status, users)
        else:
            found = file_object("posix-memory", "/" + name, status, users)
            yield replace(found, size=status.st_size, used=status.st_blocks * 512)


def _semaphore(path: str, status: os.stat_result, users: OpenFiles) -> KernelObject:
    found = file_object("posix-semaphore", "/" + os.path.basename(path).removeprefix("sem."), status, users)
    state = _semaphore_state(path)
    return replace(
        found,
        size=status.st_size,
        count=1,
        semaphores=None if state is None else (state,),
        in_use=found.in_use or (state is not None and state.waiting > 0),
    )


def _semaphore_state(path: str) -> SemaphoreState | None:
    """Read the file, which ``sem_open(3)`` would map."""
    try:
        with open(path, "rb") as file:
            (word,) = _SEMAPHORE.unpack(file.read(_SEMAPHORE.size))
    except struct.error:
        return None
    except OSError as error:
        raise_if_exhausted(error)
        return None
    return SemaphoreState(word & 0x7FFFFFFF, word >> 32)
