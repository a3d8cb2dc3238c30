"""Pipes do what every byte stream must do."""

from __future__ import annotations

import select
from contextlib import suppress

from anyio.streams.stapled import StapledByteStream

from aioipc import PipeReceiveStream, PipeSendStream, WouldBlock, create_pipe
from aioipc.testing.conformance import ByteStreamConformance, TwoWayByteStreamConformance


def full_pipe() -> tuple[PipeSendStream, PipeReceiveStream]:
    receive, send = create_pipe(select.PIPE_BUF)
    with suppress(WouldBlock):
        while True:
            send.send_nowait(bytes(select.PIPE_BUF))
    return send, receive


class TestPipe(ByteStreamConformance):
    atomic_size = select.PIPE_BUF

    async def make_pair(self) -> tuple[PipeSendStream, PipeReceiveStream]:
        return create_pipe()[::-1]

    async def make_clogged_pair(self) -> tuple[PipeSendStream, PipeReceiveStream]:
        return full_pipe()


class TestTwoPipes(TwoWayByteStreamConformance):
    """One pipe in each direction, stapled together by anyio."""

    atomic_size = select.PIPE_BUF
    test_closing_in_a_cancelled_scope = None  # type: ignore[assignment]  # anyio closes the first of the two then

    async def make_pair(self) -> tuple[StapledByteStream, StapledByteStream]:
        (right, left_out), (left, right_out) = create_pipe(), create_pipe()
        return StapledByteStream(left_out, left), StapledByteStream(right_out, right)

    async def make_clogged_pair(self) -> tuple[StapledByteStream, StapledByteStream]:
        (left_out, right), (left, right_out) = full_pipe(), create_pipe()
        return StapledByteStream(left_out, left), StapledByteStream(right_out, right)
