"""aioipc's pipes and pipelines."""

from __future__ import annotations

import asyncio
import subprocess

import aioipc

from .base import Invitation, StreamPeer, two_fds


class AioipcPipe(StreamPeer):
    async def invite(self) -> Invitation:
        reader, their_writer = aioipc.create_pipe()
        their_reader, writer = aioipc.create_pipe()
        self._use(reader, writer)
        fds = their_reader.detach(), their_writer.detach()
        return Invitation(f"{fds[0]},{fds[1]}", fds)

    async def join(self, address: str) -> None:
        read_fd, write_fd = two_fds(address)
        self._use(aioipc.PipeReceiveStream(read_fd), aioipc.PipeSendStream(write_fd))

    def _use(self, reader: aioipc.PipeReceiveStream, writer: aioipc.PipeSendStream) -> None:
        self.read, self.send = reader.receive, writer.send

    async def through_cat(self, count: int, chunk: bytes) -> int:
        async with await aioipc.open_pipeline(["cat"], stdin=subprocess.PIPE) as pipeline:
            feeding = asyncio.create_task(self._feed(pipeline, count, chunk))
            passed = 0
            async for data in pipeline.stdout:
                passed += len(data)
            await feeding
        return passed

    async def _feed(self, pipeline: aioipc.Pipeline, count: int, chunk: bytes) -> None:
        assert pipeline.stdin is not None
        async with pipeline.stdin:
            for _ in range(count):
                await pipeline.stdin.send(chunk)
