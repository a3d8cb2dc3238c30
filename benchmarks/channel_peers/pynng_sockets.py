"""pynng: a pair of sockets (``Pair0``) over ``ipc://``; on uvloop."""

from __future__ import annotations

import asyncio
import tempfile

import pynng  # type: ignore[import-not-found, unused-ignore]

from .base import Invitation, MessagePeer


class PynngSockets(MessagePeer):
    share = 0.1

    async def invite(self) -> Invitation:
        address = f"ipc://{tempfile.mkdtemp()}/socket"
        self._use(pynng.Pair0(listen=address))
        return Invitation(address)

    async def join(self, address: str) -> None:
        self._use(pynng.Pair0(dial=address))

    async def leave(self) -> None:
        await asyncio.sleep(0.5)  # it has nothing to wait for what its threads have not sent yet

    def _use(self, socket: pynng.Pair0) -> None:
        self.send, self.receive = socket.asend, socket.arecv
