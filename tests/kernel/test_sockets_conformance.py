"""Sockets do what every byte stream and every channel must do."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from aioipc import (
    PacketSocket,
    SocketStream,
    WouldBlock,
    connect_tcp,
    connect_unix,
    create_socketpair,
    listen_tcp,
    listen_unix,
)
from aioipc.testing.conformance import ByteStreamConformance, ChannelConformance


def clog(send: SocketStream | PacketSocket, piece: bytes) -> None:
    with suppress(WouldBlock):
        while True:
            send.send_nowait(piece)


class StreamConformance(ByteStreamConformance):
    async def make_clogged_pair(self) -> tuple[SocketStream, SocketStream]:
        send, receive = await self.make_pair()
        assert isinstance(send, SocketStream)
        assert isinstance(receive, SocketStream)
        clog(send, bytes(4096))
        return send, receive


class TestSocketPair(StreamConformance):
    async def make_pair(self) -> tuple[SocketStream, SocketStream]:
        return create_socketpair()


class TestUnix(StreamConformance):
    @pytest.fixture(autouse=True)
    def make_path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "socket"

    async def make_pair(self) -> tuple[SocketStream, SocketStream]:
        async with listen_unix(self.path) as listener:
            return await connect_unix(self.path), await listener.accept()


class TestTcp(ByteStreamConformance):
    """Not clogged: the kernel moves what a TCP connection holds from one side to the other as it likes."""

    async def make_pair(self) -> tuple[SocketStream, SocketStream]:
        async with await listen_tcp("127.0.0.1", 0) as listener:
            _, port = listener.address
            assert isinstance(port, int)
            return await connect_tcp("127.0.0.1", port), await listener.accept()


class TestPackets(ChannelConformance):
    async def make_pair(self) -> tuple[PacketSocket, PacketSocket]:
        return create_socketpair("packets")

    async def make_clogged_pair(self) -> tuple[PacketSocket, PacketSocket]:
        send, receive = create_socketpair("packets")
        clog(send, b"clog")
        return send, receive
