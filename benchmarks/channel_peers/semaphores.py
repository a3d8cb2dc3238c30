"""Semaphores that are free: taking one and giving it back. No other process is needed for that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import sysv_ipc

import aioipc

from .base import LocalPeer


class AioipcSysVSemaphore(LocalPeer):
    def __init__(self) -> None:
        self._semaphore = aioipc.SysVSemaphoreSet.create(None, [1])

    async def take_and_give(self, count: int) -> None:
        acquire, release = self._semaphore.acquire, self._semaphore.release
        for _ in range(count):
            await acquire()
            release()

    async def stop(self) -> None:
        self._semaphore.close()


class AioipcPosixSemaphore(LocalPeer):
    def __init__(self) -> None:
        self._semaphore = aioipc.PosixSemaphore.create(f"/aioipc-benchmark-{os.getpid()}")

    async def take_and_give(self, count: int) -> None:
        acquire, release = self._semaphore.acquire, self._semaphore.release
        for _ in range(count):
            await acquire()
            release()

    async def stop(self) -> None:
        self._semaphore.close()


class _Threads(LocalPeer):
    """The blocking call in a thread, since it might block (``asyncio.to_thread``)."""

    share = 0.1
    acquire: Callable[[], object]
    release: Callable[[], object]

    async def take_and_give(self, count: int) -> None:
        for _ in range(count):
            await asyncio.to_thread(self.acquire)
            self.release()


class SysvIpcSemaphore(_Threads):
    def __init__(self) -> None:
        self._semaphore = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX, initial_value=1)
        self._semaphore.undo = True
        self.acquire, self.release = self._semaphore.acquire, self._semaphore.release

    async def stop(self) -> None:
        self._semaphore.remove()


class PosixIpcSemaphore(_Threads):
    def __init__(self) -> None:
        import posix_ipc

        self._semaphore = posix_ipc.Semaphore(f"/benchmark-{os.getpid()}", posix_ipc.O_CREX, initial_value=1)
        self.acquire, self.release = self._semaphore.acquire, self._semaphore.release

    async def stop(self) -> None:
        self._semaphore.unlink()
