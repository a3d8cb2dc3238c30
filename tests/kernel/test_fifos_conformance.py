"""FIFOs do what every byte stream must do."""

from __future__ import annotations

import select
from contextlib import suppress
from pathlib import Path

import pytest

from aioipc import (
    FifoReceiveStream,
    FifoSendStream,
    WouldBlock,
    open_fifo_reader,
    open_fifo_writer,
)
from aioipc.testing.conformance import ByteStreamConformance


class TestFifo(ByteStreamConformance):
    atomic_size = select.PIPE_BUF

    @pytest.fixture(autouse=True)
    def make_path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "fifo"

    async def make_pair(self) -> tuple[FifoSendStream, FifoReceiveStream]:
        receive = await open_fifo_reader(self.path, create=True, remove=True)
        return await open_fifo_writer(self.path), receive

    async def make_clogged_pair(self) -> tuple[FifoSendStream, FifoReceiveStream]:
        send, receive = await self.make_pair()
        with suppress(WouldBlock):
            while True:
                send.send_nowait(bytes(select.PIPE_BUF))
        return send, receive
