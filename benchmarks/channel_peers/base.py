"""What a case asks of a peer. A peer does each in the way that its own documentation shows.

One object of its class is in each of the two processes. Messages have a size that both sides know. Those that carry
whole messages are a `MessagePeer`; from byte streams the messages are cut, by the same code for all of them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

from benchmarks.case import Unable


@dataclass(frozen=True)
class Invitation:
    """How the far end finds us; it inherits the descriptors ``fds``."""

    address: str
    fds: tuple[int, ...] = ()


class ChannelPeer(ABC):
    """One side of a conversation."""

    name = ""
    share = 1.0  # of the messages; the slow ones need fewer for a steady figure
    largest: int | None = None  # bytes in a message

    @abstractmethod
    async def invite(self) -> Invitation:
        """Near: make what is needed before the other process starts."""

    async def meet(self) -> None:  # noqa: B027 - most have nothing left to do
        """Near: do the rest, when the other process has started."""

    @abstractmethod
    async def join(self, address: str) -> None:
        """Far: connect."""

    async def leave(self) -> None:  # noqa: B027 - what the kernel has arrives
        """Far: see that what was sent arrives; the process ends right after."""

    async def stop(self) -> None:  # noqa: B027 - nothing of it lasts
        """Near: the process ends right after."""

    @abstractmethod
    async def converse(self, count: int, message: bytes) -> list[float]:
        """Send the message and receive one of its size; return how many seconds each time took."""

    @abstractmethod
    async def answer(self, count: int, message: bytes) -> None:
        """Receive a message and send this one of the same size."""

    @abstractmethod
    async def pour(self, count: int, message: bytes) -> None:
        """Send the message again and again."""

    @abstractmethod
    async def drain(self, count: int, size: int) -> None:
        """Receive one message after the other."""

    async def swallow(self, count: int, size: int) -> None:
        """Receive all bytes of so many messages, in any pieces."""
        await self.drain(count, size)

    async def through_cat(self, count: int, chunk: bytes) -> int:
        """Send chunks through the program ``cat``; return how many bytes came out."""
        raise Unable("starts no programs")


class LocalPeer:
    """What is measured in one process: a semaphore or memory."""

    name = ""
    share = 1.0

    async def take_and_give(self, count: int) -> None:
        """Take one of a semaphore and give it back, so many times."""
        raise NotImplementedError

    async def copy(self, count: int, data: bytes) -> None:
        """Copy the data into memory and out of it, so many times."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Remove what would be left."""


class MessagePeer(ChannelPeer):
    """Each `receive` brings one message."""

    send: Callable[[bytes], Awaitable[object]]
    receive: Callable[[], Awaitable[object]]

    async def converse(self, count: int, message: bytes) -> list[float]:
        times = []
        for _ in range(count):
            started = perf_counter()
            await self.send(message)
            await self.receive()
            times.append(perf_counter() - started)
        return times

    async def answer(self, count: int, message: bytes) -> None:
        for _ in range(count):
            await self.receive()
            await self.send(message)

    async def pour(self, count: int, message: bytes) -> None:
        for _ in range(count):
            await self.send(message)

    async def drain(self, count: int, size: int) -> None:
        for _ in range(count):
            await self.receive()


class StreamPeer(ChannelPeer):
    """`read` brings what is there, up to `AT_MOST` bytes."""

    AT_MOST = 65536

    send: Callable[[bytes], Awaitable[object]]
    read: Callable[[int], Awaitable[bytes]]

    async def converse(self, count: int, message: bytes) -> list[float]:
        size, times = len(message), []
        for _ in range(count):
            started = perf_counter()
            await self.send(message)
            missing = size - len(await self.read(size))
            while missing:
                missing -= len(await self.read(missing))
            times.append(perf_counter() - started)
        return times

    async def answer(self, count: int, message: bytes) -> None:
        size = len(message)
        for _ in range(count):
            missing = size - len(await self.read(size))
            while missing:
                missing -= len(await self.read(missing))
            await self.send(message)

    async def pour(self, count: int, message: bytes) -> None:
        for _ in range(count):
            await self.send(message)

    async def drain(self, count: int, size: int) -> None:
        rest = b""
        while count:
            messages, rest = cut(rest + await self.read(self.AT_MOST), size)
            count -= len(messages)

    async def swallow(self, count: int, size: int) -> None:
        missing = count * size
        while missing:
            missing -= len(await self.read(min(missing, self.AT_MOST)))


def cut(data: bytes, size: int) -> tuple[list[bytes], bytes]:
    """Return the messages in the data, and what is left of it."""
    end = len(data) - len(data) % size
    return [data[start : start + size] for start in range(0, end, size)], data[end:]


def two_pipes() -> tuple[tuple[int, int], Invitation]:
    """Make a pipe for each direction: our read and write end, and theirs as the address."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    return (ours_in, ours_out), Invitation(f"{theirs_in},{theirs_out}", (theirs_in, theirs_out))


def two_fds(address: str) -> tuple[int, int]:
    """The far read and write end of `two_pipes`."""
    read_fd, write_fd = map(int, address.split(","))
    return read_fd, write_fd
