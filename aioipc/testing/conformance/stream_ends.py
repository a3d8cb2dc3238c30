"""Byte streams: the end, closing on either side, and one task at a time."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteSendStream

from .pair import close_while_cancelled, waiting
from .stream_transfer import ByteStreamPair, receive_exactly, receive_to_end

ENOUGH = 1000
"""So many small sends must tell even a stream with buffers that the other side is gone."""


async def _send_on(stream: ByteSendStream) -> None:
    for _ in range(ENOUGH):
        await stream.send(b"x" * 1000)


class Ends(ByteStreamPair):
    """How a stream ends, and what is refused."""

    async def test_the_end_comes_after_the_rest_and_comes_again(self) -> None:
        """When the sender is closed the receiver gets all that was sent, then `EndOfStream` each time."""
        async with self.pair() as (send, receive):
            await send.send(b"rest")
            await send.aclose()
            assert await receive_exactly(receive, 4) == b"rest"
            for _ in range(3):
                with pytest.raises(anyio.EndOfStream):
                    await receive.receive()

    async def test_the_end_wakes_the_receiver(self) -> None:
        """A task that waits in ``receive`` gets `EndOfStream` when the sender is closed."""
        async with self.pair() as (send, receive), waiting(receive.receive()) as task:
            await send.aclose()
            with pytest.raises(anyio.EndOfStream):
                await task

    async def test_iteration_ends_with_the_stream(self) -> None:
        """``async for`` yields what was sent and stops at the end."""
        async with self.pair() as (send, receive):
            await send.send(b"ab")
            await send.aclose()
            assert await receive_to_end(receive) == b"ab"
            assert await receive_to_end(receive) == b""

    async def test_closing_wakes_the_receiver(self) -> None:
        """A task that waits in ``receive`` gets `ClosedResourceError` when its own end is closed."""
        async with self.pair() as (_, receive), waiting(receive.receive()) as task:
            await receive.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await task

    async def test_a_closed_end_is_closed(self) -> None:
        """Every use raises `ClosedResourceError`, also where there was something to receive or nothing to send."""
        async with self.pair() as (send, receive):
            await send.send(b"x")
            await receive.aclose()
            await send.aclose()
            for _ in range(2):
                with pytest.raises(anyio.ClosedResourceError):
                    await receive.receive()
                for item in (b"x", b""):
                    with pytest.raises(anyio.ClosedResourceError):
                        await send.send(item)

    async def test_closing_twice(self) -> None:
        """The second time does nothing."""
        async with self.pair() as (send, receive):
            for end in (send, receive, send, receive):
                await end.aclose()

    async def test_closing_in_a_cancelled_scope(self) -> None:
        """The end is closed all the same, and the other side learns of it."""
        async with self.pair() as (send, receive):
            await close_while_cancelled(send)
            with pytest.raises(anyio.ClosedResourceError):
                await send.send(b"x")
            with pytest.raises(anyio.EndOfStream):
                await receive.receive()
            await close_while_cancelled(receive)
            with pytest.raises(anyio.ClosedResourceError):
                await receive.receive()

    async def test_sending_to_nobody(self) -> None:
        """When the receiver is closed, ``send`` soon raises `BrokenResourceError`, and again each time."""
        async with self.pair() as (send, receive):
            await receive.aclose()
            with pytest.raises(anyio.BrokenResourceError):
                await _send_on(send)
            with pytest.raises(anyio.BrokenResourceError):
                await send.send(b"x")

    async def test_a_second_receiver_is_refused(self) -> None:
        """While a task receives, another gets `BusyResourceError`, and the first goes on undisturbed."""
        async with self.pair() as (send, receive), waiting(receive.receive()) as task:
            for _ in range(2):
                with pytest.raises(anyio.BusyResourceError):
                    await receive.receive()
            await send.send(b"x")
            assert await task == b"x"
            await send.send(b"y")
            assert await receive.receive() == b"y"
