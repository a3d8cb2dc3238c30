"""asyncio's streams on two pipes (``connect_read_pipe``, ``connect_write_pipe``) and on a subprocess; on uvloop."""

from __future__ import annotations

import asyncio
import os
import subprocess

from .asyncio_streams import AsyncioStreams
from .base import Invitation, two_fds, two_pipes


class AsyncioPipes(AsyncioStreams):
    async def invite(self) -> Invitation:
        (read_fd, write_fd), invitation = two_pipes()
        await self._connect(read_fd, write_fd)
        return invitation

    async def join(self, address: str) -> None:
        await self._connect(*two_fds(address))

    async def _connect(self, read_fd: int, write_fd: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(write_fd, "wb", 0)
        )
        self.use(reader, asyncio.StreamWriter(transport, protocol, None, loop))

    async def through_cat(self, count: int, chunk: bytes) -> int:
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        feeding = asyncio.create_task(self._feed(process.stdin, count, chunk))
        passed = 0
        while data := await process.stdout.read(self.AT_MOST):
            passed += len(data)
        await feeding
        await process.wait()
        return passed

    async def _feed(self, stdin: asyncio.StreamWriter, count: int, chunk: bytes) -> None:
        for _ in range(count):
            stdin.write(chunk)
            await stdin.drain()
        stdin.close()
