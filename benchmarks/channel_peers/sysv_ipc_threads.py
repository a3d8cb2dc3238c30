"""Two System V queues of sysv_ipc, whose blocking calls run in threads (``asyncio.to_thread``)."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import sysv_ipc

from .base import Invitation, MessagePeer

SWEEPER = """
import signal, sys, sysv_ipc
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.read()
for number in sys.argv[1:]:
    sysv_ipc.remove_message_queue(int(number))
"""


class SysvIpcThreads(MessagePeer):
    share = 0.1
    largest = 2048

    async def invite(self) -> Invitation:
        back, there = (sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX) for _ in range(2))
        self._sweeper = swept(back.id, there.id)
        self._use(back, there)
        return Invitation(f"{there.key},{back.key}")

    async def join(self, address: str) -> None:
        self._use(*(sysv_ipc.MessageQueue(int(key)) for key in address.split(",")))

    async def send(self, message: bytes) -> None:
        await asyncio.to_thread(self._out.send, message)

    async def receive(self) -> object:
        return await asyncio.to_thread(self._in.receive)

    def _use(self, in_queue: sysv_ipc.MessageQueue, out_queue: sysv_ipc.MessageQueue) -> None:
        self._in, self._out = in_queue, out_queue


def swept(*ids: int) -> subprocess.Popen[bytes]:
    """Queues outlive processes: one in a session of its own removes them when we are gone, however that was."""
    command = [sys.executable, "-c", SWEEPER, *[str(number) for number in ids]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
