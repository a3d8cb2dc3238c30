"""Memory that processes share: a copy into it and a copy out of it."""

from __future__ import annotations

from multiprocessing import shared_memory

import aioipc

from .base import LocalPeer


class _Memory(LocalPeer):
    """``view()`` is the memory as it is asked for each time."""

    def view(self) -> memoryview:
        raise NotImplementedError

    async def copy(self, count: int, data: bytes) -> None:
        size = len(data)
        for _ in range(count):
            view = self.view()
            view[:size] = data
            bytes(view[:size])


class AioipcMemory(_Memory):
    def __init__(self) -> None:
        self._memory = aioipc.SharedMemory.create(1 << 20)

    def view(self) -> memoryview:
        return self._memory.buffer


class AioipcSysVMemory(_Memory):
    def __init__(self) -> None:
        self._memory = aioipc.SysVSharedMemory.create(None, 1 << 20)

    def view(self) -> memoryview:
        return self._memory.buffer

    async def stop(self) -> None:
        self._memory.remove()


class MultiprocessingMemory(_Memory):
    def __init__(self) -> None:
        self._memory = shared_memory.SharedMemory(create=True, size=1 << 20)

    def view(self) -> memoryview:
        return self._memory.buf

    async def stop(self) -> None:
        self._memory.unlink()


class PlainMemory(_Memory):
    """Memory of this process: what copying costs at least."""

    def __init__(self) -> None:
        self._memory = bytearray(1 << 20)

    def view(self) -> memoryview:
        return memoryview(self._memory)
