"""Byte streams: what is sent is received, in whatever pieces, and nothing else."""

from __future__ import annotations

import asyncio
import random
from typing import Any, ClassVar

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream

from .pair import PairConformance, Pulse, check_arrived, waiting


class ByteStreamPair(PairConformance[ByteSendStream, ByteReceiveStream]):
    """Two joined byte streams."""

    atomic_size: ClassVar[int] = 0
    """Up to how many bytes a cancelled ``send`` has sent nothing of its item; ``select.PIPE_BUF`` for a pipe.

    0: nothing is promised, and the cases about it are skipped.
    """


async def receive_exactly(stream: ByteReceiveStream, size: int) -> bytes:
    """Receive so many bytes, never asking for more than are missing."""
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive(size - len(data))
        assert 0 < len(chunk) <= size - len(data)
        data += chunk
    return bytes(data)


async def receive_to_end(stream: ByteReceiveStream) -> bytes:
    """Receive all there is until the other end has finished."""
    return b"".join([chunk async for chunk in stream])


class Transfer(ByteStreamPair):
    """What goes in comes out."""

    async def test_what_is_sent_is_received(self) -> None:
        """In order, as bytes, whoever comes first."""
        async with self.pair() as (send, receive):
            await send.send(b"hello ")
            await send.send(b"world")
            received = await receive_exactly(receive, 11)
            assert received == b"hello world"
            assert type(received) is bytes

    async def test_receive_waits(self) -> None:
        """``receive`` on an empty stream waits until something is sent."""
        async with self.pair() as (send, receive), waiting(receive.receive()) as task:
            await send.send(b"x")
            assert await task == b"x"

    async def test_at_most_max_bytes(self) -> None:
        """``receive(n)`` returns at least one byte and at most n; the rest stays for the next call."""
        async with self.pair() as (send, receive):
            await send.send(b"abcdef")
            pieces = [await receive.receive(1), await receive.receive(2)]
            assert [1 <= len(piece) <= most for piece, most in zip(pieces, (1, 2), strict=True)] == [True, True]
            pieces.append(await receive_exactly(receive, 6 - sum(map(len, pieces))))
            assert b"".join(pieces) == b"abcdef"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    async def test_bytes_like_items(self, kind: Any) -> None:
        """Bytes, bytearrays and memoryviews can be sent, also in part, and belong to the sender again after it."""
        async with self.pair() as (send, receive):
            item = kind(b"hello")
            await send.send(item)
            await send.send(memoryview(item)[1:3])  # type: ignore[arg-type]
            assert await receive_exactly(receive, 7) == b"helloel"
            if isinstance(item, bytearray):
                item.clear()  # BufferError where the stream still holds it

    async def test_empty_items(self) -> None:
        """Nothing is sent, and the receiver neither wakes for it nor takes it for the end."""
        async with self.pair() as (send, receive):
            await send.send(b"")
            async with waiting(receive.receive()) as task:
                await send.send(b"")
                await send.send(b"x")
                assert await task == b"x"

    async def test_items_of_a_wrong_type(self) -> None:
        """`TypeError`, and the stream goes on as if nothing had been."""
        async with self.pair() as (send, receive):
            for item in ("text", 5, None, [1]):
                with pytest.raises(TypeError):
                    await send.send(item)  # type: ignore[arg-type]
            await send.send(b"x")
            assert await receive.receive() == b"x"

    async def test_wrong_max_bytes(self) -> None:
        """`TypeError` and `ValueError`, and nothing is taken."""
        async with self.pair() as (send, receive):
            await send.send(b"x")
            for wrong in ("1", 1.0, None):
                with pytest.raises(TypeError):
                    await receive.receive(wrong)  # type: ignore[arg-type]
            for number in (0, -1):
                with pytest.raises(ValueError, match="max_bytes"):
                    await receive.receive(number)
            assert await receive.receive() == b"x"

    @pytest.mark.parametrize("seed", [1, 2, 3])
    async def test_any_pieces_in_any_pieces_out(self, seed: int) -> None:
        """Two megabytes in pieces of random sizes arrive as they were."""
        chance = random.Random(seed)
        data = chance.randbytes(2_000_000)
        largest = chance.choice([1000, 70_000, 1_000_000])
        async with self.pair() as (send, receive):

            async def send_pieces() -> None:
                sent = 0
                while sent < len(data):
                    size = chance.randint(0, largest)
                    await send.send(data[sent : sent + size])
                    sent += size
                await send.aclose()

            received = bytearray()
            async with asyncio.TaskGroup() as group:
                group.create_task(send_pieces())
                while len(received) < len(data):
                    received += await receive.receive(chance.randint(1, largest))
            check_arrived(received, data)
            with pytest.raises(anyio.EndOfStream):
                await receive.receive()

    async def test_one_large_item(self) -> None:
        """``send`` of more than any buffer holds returns when all of it is on its way."""
        data = random.Random(4).randbytes(5_000_000)
        async with self.pair() as (send, receive), asyncio.TaskGroup() as group:
            sending = group.create_task(send.send(data))
            received = await receive_exactly(receive, len(data))
            await sending
            check_arrived(received, data)

    async def test_a_timer_keeps_time_beside_a_saturated_stream(self) -> None:
        """A task that never has to wait gives the loop its turns all the same."""
        chunk = bytes(1000)
        async with self.pair() as (send, receive):
            with Pulse(self.operations_per_turn) as pulse:
                while pulse.ticks < 20:
                    pulse.count()
                    await send.send(chunk)
                    pulse.count()
                    await receive.receive()

    async def test_statistics(self) -> None:
        """Where there are any: looking changes nothing, bytes are counted, and closing does not take them away."""
        async with self.pair() as (send, receive):
            ends: list[Any] = [end for end in (send, receive) if hasattr(end, "statistics")]
            if not ends:
                pytest.skip("the streams have no statistics()")
            await send.send(b"abc")
            assert await receive_exactly(receive, 3) == b"abc"
            for end in ends:
                assert end.statistics() == end.statistics()
            await send.aclose()
            await receive.aclose()
            for end in ends:
                statistics = end.statistics()
                assert 3 in (getattr(statistics, "bytes_sent", 3), getattr(statistics, "bytes_received", 3))

    async def test_extra_attributes(self) -> None:
        """Each one that is listed can be asked for; one that is not gives the default or anyio's error."""
        unknown = object()
        async with self.pair() as (send, receive):
            for end in (send, receive):
                for attribute in end.extra_attributes:
                    end.extra(attribute)
                assert end.extra(unknown, "default") == "default"
                with pytest.raises(anyio.TypedAttributeLookupError):
                    end.extra(unknown)
