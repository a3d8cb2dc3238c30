"""Byte streams: a sender that has to wait, because nobody receives."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream

from .pair import turns, waiting
from .stream_transfer import ByteStreamPair, receive_to_end

MARKER = b"<marker>"


async def finish(send: ByteSendStream, receive: ByteReceiveStream, last: bytes = MARKER) -> bytes:
    """Send the last bytes, close, and return all that comes out."""

    async def send_and_close() -> None:
        await send.send(last)
        await send.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(send_and_close())
        return await receive_to_end(receive)


class Clogged(ByteStreamPair):
    """What a waiting ``send`` does."""

    async def test_send_waits_for_room(self) -> None:
        """It returns when the receiver has made room, and its bytes come after those before."""
        async with self.clogged_pair() as (send, receive):
            async with waiting(send.send(b"first")) as sending:
                received = b""
                while not sending.done():
                    received += await receive.receive()
                await sending
                received += await finish(send, receive)
            assert received.endswith(b"first" + MARKER)

    async def test_a_second_sender_is_refused(self) -> None:
        """While a task sends, another gets `BusyResourceError`, and the first goes on undisturbed."""
        async with self.clogged_pair() as (send, receive):
            async with waiting(send.send(b"first")) as sending:
                for _ in range(2):
                    with pytest.raises(anyio.BusyResourceError):
                        await send.send(b"second")
                received = b""
                while not sending.done():
                    received += await receive.receive()
                await sending
            received += await finish(send, receive)
            assert received.endswith(b"first" + MARKER)
            assert b"second" not in received

    async def test_closing_wakes_the_sender(self) -> None:
        """A task that waits in ``send`` gets `ClosedResourceError` when its own end is closed."""
        async with self.clogged_pair() as (send, _), waiting(send.send(b"x")) as sending:
            await send.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await sending

    @pytest.mark.parametrize("size", [1, 100_000])
    async def test_the_receiver_leaves_a_waiting_sender(self, size: int) -> None:
        """A task that waits in ``send`` gets `BrokenResourceError` when the other end is closed."""
        async with self.clogged_pair() as (send, receive):
            async with waiting(send.send(bytes(size))) as sending:
                await receive.aclose()
                with pytest.raises(anyio.BrokenResourceError):
                    await sending
            with pytest.raises(anyio.BrokenResourceError):
                await send.send(b"x")

    async def test_a_cancelled_sender_leaves_a_stream_that_works(self) -> None:
        """It lends its buffer no longer, and what is sent afterwards arrives."""
        item = bytearray(b"a" * 100_000)
        async with self.clogged_pair() as (send, receive):
            async with waiting(send.send(item)) as sending:  # type: ignore[arg-type]
                sending.cancel()
                await asyncio.wait([sending])
                assert sending.cancelled()
                item.clear()  # BufferError where the stream still holds it
            received = await finish(send, receive)
            assert received.endswith(MARKER)

    @pytest.mark.parametrize("rounds", range(4))
    async def test_a_cancelled_small_send_sent_nothing(self, rounds: int) -> None:
        """Up to `atomic_size` bytes: cancelled before, at and after the moment that there is room."""
        if not self.atomic_size:
            pytest.skip("atomic_size is 0")
        item = (b"[item]" * self.atomic_size)[: self.atomic_size]
        async with self.clogged_pair() as (send, receive), waiting(send.send(item)) as sending:
            received = await receive.receive()
            await turns(rounds)
            sending.cancel()
            await asyncio.wait([sending])
            received += await finish(send, receive)
            sent = b"" if sending.cancelled() else item
            assert received.endswith(sent + MARKER)
            assert received.count(item) == (not sending.cancelled())
