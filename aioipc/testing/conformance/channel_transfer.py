"""Channels: whole messages, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import anyio
import pytest
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from .pair import PairConformance, Pulse, check_arrived, turns, waiting

MANY = 2000


class ChannelPair(PairConformance[ObjectSendStream[Any], ObjectReceiveStream[Any]]):
    """Two joined ends of a channel."""

    shared: ClassVar[bool] = True
    """Whether several tasks may receive, and several send, at the same time; else they get `BusyResourceError`."""

    def make_item(self, number: int) -> object:
        """Return the message with this number: different for each, equal for the same one."""
        return b"%d" % number


class ChannelTransfer(ChannelPair):
    """What goes in comes out."""

    async def test_what_is_sent_is_received(self) -> None:
        """Each message whole, in order, whoever comes first."""
        async with self.pair() as (send, receive):
            for number in range(3):
                async with waiting(receive.receive()) as task:
                    await send.send(self.make_item(number))
                    assert await task == self.make_item(number)

    async def test_many_messages(self) -> None:
        """They keep their order, whether sender or receiver has to wait."""
        async with self.pair() as (send, receive):

            async def send_all() -> None:
                for number in range(MANY):
                    await send.send(self.make_item(number))
                await send.aclose()

            async with asyncio.TaskGroup() as group:
                group.create_task(send_all())
                received = [item async for item in receive]
            check_arrived(received, [self.make_item(number) for number in range(MANY)])

    async def test_send_waits_for_room(self) -> None:
        """In a full channel ``send`` returns when the receiver has made room, and its message comes last."""
        async with self.clogged_pair() as (send, receive):
            async with waiting(send.send(self.make_item(-1))) as sending:
                received = []
                while not sending.done():
                    received.append(await receive.receive())
                    await turns()
                await sending
            await send.aclose()
            received += [item async for item in receive]
            assert received[-1] == self.make_item(-1)

    async def test_receive_nowait(self) -> None:
        """It returns what is there, or raises `WouldBlock`; `EndOfStream` at the end."""
        async with self.pair() as (send, receive):
            receive_nowait = _optional(receive, "receive_nowait")
            with pytest.raises(anyio.WouldBlock):
                receive_nowait()
            async with waiting(receive.receive()) as task:
                await send.send(self.make_item(1))
                assert await task == self.make_item(1)
            await send.aclose()
            with pytest.raises(anyio.EndOfStream):
                receive_nowait()

    async def test_send_nowait(self) -> None:
        """It sends at once, or raises `WouldBlock` and has sent nothing."""
        async with self.clogged_pair() as (send, receive):
            send_nowait = _optional(send, "send_nowait")
            for _ in range(2):
                with pytest.raises(anyio.WouldBlock):
                    send_nowait(self.make_item(-1))
            await send.aclose()
            assert self.make_item(-1) not in [item async for item in receive]

    async def test_several_receivers(self) -> None:
        """Each message goes to one of them."""
        self._skip_unless_shared()
        async with self.pair() as (send, receive):
            tasks = [asyncio.ensure_future(receive.receive()) for _ in range(5)]
            await turns()
            for number in range(5):
                await send.send(self.make_item(number))
            received = await asyncio.gather(*tasks)
            assert all(received.count(self.make_item(number)) == 1 for number in range(5))

    async def test_several_senders(self) -> None:
        """Each message arrives whole, once."""
        self._skip_unless_shared()
        async with self.pair() as (send, receive), asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(send.send(self.make_item(number)))
            received = [await receive.receive() for _ in range(50)]
            assert all(received.count(self.make_item(number)) == 1 for number in range(50))

    async def test_a_timer_keeps_time_beside_a_saturated_channel(self) -> None:
        """A task that never has to wait gives the loop its turns all the same."""
        item = self.make_item(1)
        async with self.pair() as (send, receive):
            with Pulse(self.operations_per_turn) as pulse:

                async def send_on() -> None:
                    while pulse.ticks < 20:
                        pulse.count()
                        await send.send(item)
                    await send.aclose()

                async with asyncio.TaskGroup() as group:
                    group.create_task(send_on())
                    async for _ in receive:
                        pulse.count()

    def _skip_unless_shared(self) -> None:
        if not self.shared:
            pytest.skip("one task at a time may use an end (shared = False)")


def _optional(end: object, name: str) -> Callable[..., Any]:
    """A method that a channel may have."""
    if not hasattr(end, name):
        pytest.skip(f"the channel has no {name}()")
    method: Callable[..., Any] = getattr(end, name)
    return method
