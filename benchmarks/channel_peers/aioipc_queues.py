"""aioipc's message queues, one for each direction; whoever was asked first removes them."""

from __future__ import annotations

import os

import aioipc

from .base import Invitation, MessagePeer
from .sysv_ipc_threads import swept


class AioipcSysVQueue(MessagePeer):
    share = 0.5
    largest = 8192

    async def invite(self) -> Invitation:
        back, there = (aioipc.SysVMessageQueue.create(remove=False) for _ in range(2))
        self._sweeper = swept(back.id, there.id)
        self._use(back, there)
        return Invitation(f"{there.id},{back.id}")

    async def join(self, address: str) -> None:
        self._use(*(aioipc.SysVMessageQueue.open(id=int(number)) for number in address.split(",")))

    def _use(self, in_queue: aioipc.SysVMessageQueue, out_queue: aioipc.SysVMessageQueue) -> None:
        self._queues = in_queue, out_queue
        self.send, self.receive = out_queue.send, in_queue.receive


class AioipcPosixQueue(MessagePeer):
    largest = 8192

    async def invite(self) -> Invitation:
        names = [f"/aioipc-benchmark-{os.getpid()}-{number}" for number in range(2)]
        self._use(*(aioipc.PosixMessageQueue.create(name) for name in names))
        return Invitation(f"{names[1]},{names[0]}")

    async def join(self, address: str) -> None:
        self._use(*(aioipc.PosixMessageQueue.open(name) for name in address.split(",")))
        for queue in self._queues:
            queue.remove()  # both have them open: nothing is left, however this ends

    def _use(self, in_queue: aioipc.PosixMessageQueue, out_queue: aioipc.PosixMessageQueue) -> None:
        self._queues = in_queue, out_queue
        self.send, self.receive = out_queue.send, in_queue.receive
