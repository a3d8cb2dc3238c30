"""Channels: the end, closing on either side, and what is refused."""

from __future__ import annotations

import anyio
import pytest

from .channel_transfer import ChannelPair
from .pair import close_while_cancelled, waiting


class ChannelEnds(ChannelPair):
    """How a channel ends."""

    async def test_the_end_comes_again(self) -> None:
        """When the sender is closed, ``receive`` raises `EndOfStream` each time."""
        async with self.pair() as (send, receive):
            await send.aclose()
            for _ in range(3):
                with pytest.raises(anyio.EndOfStream):
                    await receive.receive()

    async def test_the_end_wakes_the_receiver(self) -> None:
        """A task that waits in ``receive`` gets `EndOfStream` when the sender is closed."""
        async with self.pair() as (send, receive), waiting(receive.receive()) as task:
            await send.aclose()
            with pytest.raises(anyio.EndOfStream):
                await task

    async def test_closing_wakes_the_receiver(self) -> None:
        """A task that waits in ``receive`` gets `ClosedResourceError` when its own end is closed."""
        async with self.pair() as (_, receive), waiting(receive.receive()) as task:
            await receive.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await task

    async def test_closing_wakes_the_sender(self) -> None:
        """A task that waits in ``send`` gets `ClosedResourceError` when its own end is closed."""
        async with self.clogged_pair() as (send, _), waiting(send.send(self.make_item(-1))) as sending:
            await send.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await sending

    async def test_a_closed_end_is_closed(self) -> None:
        """Every use raises `ClosedResourceError`."""
        async with self.pair() as (send, receive):
            await receive.aclose()
            await send.aclose()
            for _ in range(2):
                with pytest.raises(anyio.ClosedResourceError):
                    await receive.receive()
                with pytest.raises(anyio.ClosedResourceError):
                    await send.send(self.make_item(1))

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
                await send.send(self.make_item(1))
            with pytest.raises(anyio.EndOfStream):
                await receive.receive()
            await close_while_cancelled(receive)
            with pytest.raises(anyio.ClosedResourceError):
                await receive.receive()

    async def test_sending_to_nobody(self) -> None:
        """When the receiver is closed, ``send`` raises `BrokenResourceError`, and again each time."""
        async with self.pair() as (send, receive):
            await receive.aclose()
            for _ in range(2):
                with pytest.raises(anyio.BrokenResourceError):
                    await send.send(self.make_item(1))

    async def test_the_receiver_leaves_a_waiting_sender(self) -> None:
        """A task that waits in ``send`` gets `BrokenResourceError` when the other end is closed."""
        async with self.clogged_pair() as (send, receive), waiting(send.send(self.make_item(-1))) as sending:
            await receive.aclose()
            with pytest.raises(anyio.BrokenResourceError):
                await sending

    async def test_a_second_receiver_is_refused(self) -> None:
        """Where an end is for one task at a time (``shared = False``) a second one gets `BusyResourceError`."""
        if self.shared:
            pytest.skip("several tasks may use an end (shared = True)")
        async with self.pair() as (send, receive), waiting(receive.receive()) as task:
            with pytest.raises(anyio.BusyResourceError):
                await receive.receive()
            await send.send(self.make_item(1))
            assert await task == self.make_item(1)

    async def test_a_second_sender_is_refused(self) -> None:
        """The same for sending."""
        if self.shared:
            pytest.skip("several tasks may use an end (shared = True)")
        async with self.clogged_pair() as (send, receive), waiting(send.send(self.make_item(-1))) as sending:
            with pytest.raises(anyio.BusyResourceError):
                await send.send(self.make_item(-2))
            while not sending.done():
                await receive.receive()
            await sending
