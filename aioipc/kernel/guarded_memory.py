"""Shared memory with a lock around it, which knows when a writer did not get to the end.

A lock keeps two writers apart, but says nothing when its holder was killed half-way: a robust lock, or one that the
kernel frees, lets the next one in, and what it finds may be half old, half new. So the memory begins with a few words:

    0  magic     8 bytes that say that this is one
    8  sequence  odd while somebody writes
   16  pid       who writes, or wrote last
   64  the caller's bytes

A word is stored with one instruction here (not so with ``struct.pack_into``, which clears it first). The words need no
order among processors: they are read under the lock, and what a dead process has stored is there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from aioipc.exceptions import TornWriteError

from .segment import Segment

AsyncLock: TypeAlias = "AbstractAsyncContextManager[Any] | Callable[[], AbstractAsyncContextManager[Any]]"

HEADER = 64
"""Bytes before the caller's: a cache line, so that arrays behind it are aligned."""
_MAGIC = int.from_bytes(b"aioipcG1", "little")


class GuardedMemory:
    """A piece of shared memory that is read and written under a lock only.

    ``memory`` is a `SharedMemory` or `SysVSharedMemory`, whose first 64 bytes this object needs; it stays the caller's.
    All processes use a `GuardedMemory` of it, with one and the same ``lock``: whatever ``async with`` can enter again
    and again (``asyncio.Lock`` among tasks), or a function that returns something to enter (``semaphore.held``).

    Raises `TypeError` for a lock that blocks the loop, `ValueError` where the memory is too small, is read-only or was
    used for something else.
    """

    def __init__(self, memory: Segment, lock: AsyncLock) -> None:
        if not isinstance(memory, Segment):
            raise TypeError(f"memory must be a SharedMemory or SysVSharedMemory, not {type(memory).__name__}")
        if not hasattr(lock, "__aenter__") and (hasattr(lock, "__enter__") or not callable(lock)):
            raise TypeError(f"lock must be something for `async with`, or return it, not {type(lock).__name__}")
        if memory.readonly or memory.size <= HEADER:
            raise ValueError(f"the memory must be writable and have more than {HEADER} bytes, not {memory.size}")
        self._memory = memory
        self._lock = lock
        if self._word(0) not in (0, _MAGIC):
            raise ValueError("the memory holds something else: only GuardedMemory may write to its first 64 bytes")

    @property
    def size(self) -> int:
        """How many bytes are the caller's."""
        return self._memory.size - HEADER

    @property
    def sequence(self) -> int:
        """Twice the number of writes that were finished, plus one while one is under way or where one was torn."""
        return self._word(1)

    def read(self) -> AbstractAsyncContextManager[memoryview]:
        """Return a context manager for reading: ``async with guarded.read() as view:`` takes the lock.

        The view is read-only, and ends with the block. Entering raises `TornWriteError` where the last writer did not
        get to its end, and what the lock raises. Cancelled while it waits: nothing happened.
        """
        return _access(self._memory, self._lock, writes=False, repair=False)

    def write(self, *, repair: bool = False) -> AbstractAsyncContextManager[memoryview]:
        """Return a context manager for writing: ``async with guarded.write() as view:`` takes the lock.

        A block that is left by an exception or a cancellation has torn the memory, as one whose process is killed.
        Every `read` and `write` raises `TornWriteError` from then on, until a ``write(repair=True)``, which shall write
        all of it anew, gets to its end.
        """
        return _access(self._memory, self._lock, writes=True, repair=repair)

    def _word(self, index: int) -> int:
        with self._memory.buffer as view, view[:HEADER].cast("Q") as words:
            return words[index]


@asynccontextmanager
async def _access(memory: Segment, lock: AsyncLock, *, writes: bool, repair: bool) -> AsyncIterator[memoryview]:
    """One block of reading or writing."""
    async with lock if isinstance(lock, AbstractAsyncContextManager) else lock():
        _begin(memory, writes=writes, repair=repair)
        view = memory.buffer[HEADER:] if writes else memory.buffer[HEADER:].toreadonly()
        try:
            yield view
            if writes:
                _finish(memory)
        finally:
            with contextlib.suppress(BufferError):  # an array of it lives on
                view.release()


def _begin(memory: Segment, *, writes: bool, repair: bool) -> None:
    with memory.buffer as buffer, buffer[:HEADER].cast("Q") as words:
        if words[1] % 2 and not repair:
            text = "began to write and did not get to the end; write(repair=True) writes all anew"
            raise TornWriteError(f"process {words[2]} {text}", pid=words[2])
        if writes:
            words[2] = os.getpid()
            words[1] |= 1
            words[0] = _MAGIC


def _finish(memory: Segment) -> None:
    with memory.buffer as buffer, buffer[:HEADER].cast("Q") as words:
        words[1] += 1
