"""anyio's streams on a UNIX socket, and its subprocesses; on uvloop."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
from anyio.abc import ByteSendStream, SocketStream

from .base import Invitation, StreamPeer


class AnyioSockets(StreamPeer):
    async def invite(self) -> Invitation:
        path = Path(tempfile.mkdtemp(), "socket")
        self._listener = await anyio.create_unix_listener(path)
        return Invitation(str(path))

    async def meet(self) -> None:
        self._use(await self._listener.accept())

    async def join(self, address: str) -> None:
        self._use(await anyio.connect_unix(address))

    def _use(self, stream: SocketStream) -> None:
        self.read, self.send = stream.receive, stream.send

    async def through_cat(self, count: int, chunk: bytes) -> int:
        async with await anyio.open_process(["cat"]) as process, anyio.create_task_group() as tasks:
            assert process.stdin is not None
            assert process.stdout is not None
            tasks.start_soon(self._feed, process.stdin, count, chunk)
            passed = 0
            async for data in process.stdout:
                passed += len(data)
        return passed

    async def _feed(self, stdin: ByteSendStream, count: int, chunk: bytes) -> None:
        async with stdin:
            for _ in range(count):
                await stdin.send(chunk)
