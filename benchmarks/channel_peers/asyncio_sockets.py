"""asyncio's streams on a pair of UNIX sockets; on uvloop."""

from __future__ import annotations

import asyncio
import socket

from .asyncio_streams import AsyncioStreams
from .base import Invitation


class AsyncioSockets(AsyncioStreams):
    async def invite(self) -> Invitation:
        ours, theirs = socket.socketpair()
        self.use(*await asyncio.open_unix_connection(sock=ours))
        fd = theirs.detach()
        return Invitation(str(fd), (fd,))

    async def join(self, address: str) -> None:
        self.use(*await asyncio.open_unix_connection(sock=socket.socket(fileno=int(address))))
