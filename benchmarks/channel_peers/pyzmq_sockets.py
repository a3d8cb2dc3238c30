"""pyzmq: a pair of sockets (``zmq.PAIR``) over ``ipc://``; on uvloop."""

from __future__ import annotations

import tempfile

import zmq  # type: ignore[import-not-found, unused-ignore]
import zmq.asyncio  # type: ignore[import-not-found, unused-ignore]

from .base import Invitation, MessagePeer


class PyzmqSockets(MessagePeer):
    share = 0.25

    async def invite(self) -> Invitation:
        address = f"ipc://{tempfile.mkdtemp()}/socket"
        self._make().bind(address)
        return Invitation(address)

    async def join(self, address: str) -> None:
        self._make().connect(address)

    async def leave(self) -> None:
        self._socket.close()
        self._context.term()  # a thread of it sends what was not sent yet

    def _make(self) -> zmq.asyncio.Socket:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self.send, self.receive = self._socket.send, self._socket.recv
        return self._socket
