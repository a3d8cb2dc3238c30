"""aioipc's sockets: a pair, a path, packets, datagrams."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import aioipc

from .base import Invitation, MessagePeer, StreamPeer


class AioipcSocketPair(StreamPeer):
    async def invite(self) -> Invitation:
        ours, theirs = aioipc.create_socketpair()
        self._use(ours)
        fd = theirs.detach().detach()
        return Invitation(str(fd), (fd,))

    async def join(self, address: str) -> None:
        self._use(aioipc.SocketStream(socket.socket(fileno=int(address))))

    def _use(self, stream: aioipc.SocketStream) -> None:
        self._stream = stream
        self.read, self.send = stream.receive, stream.send


class AioipcUnixStream(AioipcSocketPair):
    async def invite(self) -> Invitation:
        path = Path(tempfile.mkdtemp(), "socket")
        self._listener = aioipc.listen_unix(path)
        return Invitation(str(path))

    async def meet(self) -> None:
        self._use(await self._listener.accept())

    async def join(self, address: str) -> None:
        self._use(await aioipc.connect_unix(address))


class AioipcPackets(MessagePeer):
    async def invite(self) -> Invitation:
        ours, theirs = aioipc.create_socketpair("packets")
        self._use(ours)
        fd = theirs.detach().detach()
        return Invitation(str(fd), (fd,))

    async def join(self, address: str) -> None:
        self._use(aioipc.PacketSocket(socket.socket(fileno=int(address))))

    def _use(self, packets: aioipc.PacketSocket) -> None:
        self._packets = packets
        self.send, self.receive = packets.send, packets.receive


class AioipcDatagrams(MessagePeer):
    """Two paths; each side sends to that of the other."""

    async def invite(self) -> Invitation:
        directory = tempfile.mkdtemp()
        self._open(directory, "near", "far")
        return Invitation(directory)

    async def meet(self) -> None:
        await self.receive()  # they are there

    async def join(self, address: str) -> None:
        self._open(address, "far", "near")
        await self.send(b"")

    async def send(self, message: bytes) -> None:  # type: ignore[override, unused-ignore]
        await self._inbox.send(message, self._theirs)

    def _open(self, directory: str, ours: str, theirs: str) -> None:
        self._theirs = os.path.join(directory, theirs)
        self._inbox = aioipc.open_datagram_socket(Path(directory, ours))
        self.receive = self._inbox.receive
