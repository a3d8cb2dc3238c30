"""aioprocessing.AioPipe, whose operations run in threads."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

import aioprocessing  # type: ignore[import-not-found, unused-ignore]
from aioprocessing.connection import AioConnection  # type: ignore[import-not-found, unused-ignore]

from .base import Invitation, MessagePeer


class AioprocessingPipe(MessagePeer):
    share = 0.1

    async def invite(self) -> Invitation:
        ours, theirs = aioprocessing.AioPipe()
        self._use(ours)
        fd = os.dup(theirs.fileno())
        theirs.close()
        return Invitation(str(fd), (fd,))

    async def join(self, address: str) -> None:
        self._use(AioConnection(Connection(int(address))))

    def _use(self, connection: AioConnection) -> None:
        self.send, self.receive = connection.coro_send_bytes, connection.coro_recv_bytes
