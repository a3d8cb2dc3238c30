"""aioipc's FIFOs, one for each direction."""

from __future__ import annotations

import tempfile
from pathlib import Path

import aioipc

from .base import Invitation, StreamPeer


class AioipcFifo(StreamPeer):
    async def invite(self) -> Invitation:
        self._directory = Path(tempfile.mkdtemp())
        self.read = (await aioipc.open_fifo_reader(self._directory / "back", create=True)).receive
        return Invitation(str(self._directory))

    async def meet(self) -> None:
        self.send = (await aioipc.open_fifo_writer(self._directory / "there", create=True)).send

    async def join(self, address: str) -> None:
        self.read = (await aioipc.open_fifo_reader(Path(address, "there"), create=True)).receive
        self.send = (await aioipc.open_fifo_writer(Path(address, "back"))).send
