"""What asyncio's streams have in common, whatever is below them."""

from __future__ import annotations

import asyncio

from .base import StreamPeer


class AsyncioStreams(StreamPeer):
    writer: asyncio.StreamWriter

    def use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.read, self.writer = reader.read, writer

    async def send(self, message: bytes) -> None:
        self.writer.write(message)
        await self.writer.drain()

    async def pour(self, count: int, message: bytes) -> None:
        write, drain = self.writer.write, self.writer.drain
        for _ in range(count):
            write(message)
            await drain()
