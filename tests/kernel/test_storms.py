"""Every mechanism under thousands of cancellations of receivers, senders and waiters: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from aioipc import (
    PacketSocket,
    PosixMessageQueue,
    PosixSemaphore,
    SysVMessageQueue,
    SysVSemaphoreSet,
    connect_tcp,
    connect_unix,
    create_pipe,
    create_socketpair,
    listen_tcp,
    listen_unix,
    open_datagram_socket,
    open_fifo_reader,
    open_fifo_writer,
)
from tests.harness.processes import eventually_async
from tests.harness.scripts import running_script
from tests.harness.storms import (
    LIMIT,
    ByteEnd,
    Receive,
    Send,
    storm_of_bytes,
    storm_of_limits,
    storm_of_messages,
    storm_of_permits,
)

NAME = f"/aioipc-storm-{os.getpid()}"
Channel = AbstractAsyncContextManager[tuple[Send, Receive]]
Stream = AbstractAsyncContextManager[tuple[ByteEnd, ByteEnd]]


@asynccontextmanager
async def sysv_queue(path: Path) -> AsyncIterator[tuple[Send, Receive]]:
    async with SysVMessageQueue.create(max_bytes=1024) as queue:
        yield queue.send, lambda: body_of(queue.receive)
        assert queue.statistics().messages == 0


@asynccontextmanager
async def posix_queue(path: Path) -> AsyncIterator[tuple[Send, Receive]]:
    async with PosixMessageQueue.create(NAME) as queue:
        yield queue.send, lambda: body_of(queue.receive)
        assert queue.statistics().messages == 0


@asynccontextmanager
async def datagrams(path: Path) -> AsyncIterator[tuple[Send, Receive]]:
    async with open_datagram_socket(path) as inbox, open_datagram_socket() as sender:
        yield lambda item: sender.send(item, path), lambda: body_of(inbox.receive)


@asynccontextmanager
async def packet_pair(path: Path) -> AsyncIterator[tuple[Send, Receive]]:
    left, right = create_socketpair("packets")
    async with left, right:
        yield left.send, right.receive


@asynccontextmanager
async def packets_at_a_path(path: Path) -> AsyncIterator[tuple[Send, Receive]]:
    async with listen_unix(path, "packets") as listener:
        left: PacketSocket = await connect_unix(path, "packets")
        async with left, await listener.accept() as right:
            yield left.send, right.receive


async def body_of(receive: Callable[[], Any]) -> bytes:
    body: bytes = (await receive()).body
    return body


@asynccontextmanager
async def pipe(path: Path) -> AsyncIterator[tuple[ByteEnd, ByteEnd]]:
    reader, writer = create_pipe(4096)
    async with reader, writer:
        yield writer, reader  # type: ignore[misc]


@asynccontextmanager
async def fifo(path: Path) -> AsyncIterator[tuple[ByteEnd, ByteEnd]]:
    async with await open_fifo_reader(path, create=True) as reader, await open_fifo_writer(path) as writer:
        yield writer, reader  # type: ignore[misc]


@asynccontextmanager
async def stream_pair(path: Path) -> AsyncIterator[tuple[ByteEnd, ByteEnd]]:
    left, right = create_socketpair()
    async with left, right:
        yield left, right


@asynccontextmanager
async def stream_at_a_path(path: Path) -> AsyncIterator[tuple[ByteEnd, ByteEnd]]:
    async with listen_unix(path) as listener, await connect_unix(path) as left, await listener.accept() as right:
        yield left, right


@asynccontextmanager
async def tcp(path: Path) -> AsyncIterator[tuple[ByteEnd, ByteEnd]]:
    async with await listen_tcp("127.0.0.1", 0) as listener:
        _, port = listener.address
        async with await connect_tcp("127.0.0.1", int(str(port))) as left, await listener.accept() as right:
            yield left, right


CHANNELS: list[Callable[[Path], Channel]] = [sysv_queue, posix_queue, datagrams, packet_pair, packets_at_a_path]
STREAMS: list[Callable[[Path], Stream]] = [pipe, fifo, stream_pair, stream_at_a_path, tcp]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meeting"


@pytest.mark.parametrize("mechanism", CHANNELS)
async def test_cancelled_senders_and_receivers_lose_no_message(
    mechanism: Callable[[Path], Channel], path: Path
) -> None:
    async with mechanism(path) as (send, receive):
        await storm_of_messages(send, receive)


@pytest.mark.parametrize("mechanism", STREAMS)
async def test_cancelled_senders_and_receivers_lose_no_byte(mechanism: Callable[[Path], Stream], path: Path) -> None:
    async with mechanism(path) as (sender, receiver):
        await storm_of_bytes(sender, receiver, pieces=5000 if mechanism in (pipe, fifo) else 20_000)


@pytest.mark.parametrize("mechanism", CHANNELS)
async def test_time_limits_lose_no_message(mechanism: Callable[[Path], Channel], path: Path) -> None:
    async with mechanism(path) as (send, receive):
        await storm_of_limits(send, receive)


SENDER = """
    import asyncio, random, aioipc
    chance = random.Random(5)
    async def main():
        sent = 0
        async with aioipc.{opened} as queue:
            while sent < 3000:
                try:
                    async with asyncio.timeout(chance.random() * 0.002):
                        await queue.send(sent.to_bytes(8))
                except TimeoutError:
                    continue
                sent += 1
            await queue.send(bytes(1))
    asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["POSIX", "System V"])
async def test_time_limits_on_both_sides_of_a_process_boundary(kind: str) -> None:
    """They strike a sender in another process and the receiver here; the order of the messages proves it."""
    queue: PosixMessageQueue | SysVMessageQueue
    if kind == "POSIX":
        queue = PosixMessageQueue.create(NAME)
        opened = f"PosixMessageQueue.open({NAME!r})"
    else:
        queue = SysVMessageQueue.create(max_bytes=80)
        opened = f"SysVMessageQueue.open(id={queue.id})"
    received: list[int] = []
    timeouts = 0
    async with queue, asyncio.timeout(LIMIT):
        with running_script(SENDER.format(opened=opened)) as sender:
            while len(body := (await limited_receive(queue)) or b"") != 1:
                if body:
                    received.append(int.from_bytes(body))
                else:
                    timeouts += 1
            await eventually_async(lambda: sender.popen.poll() is not None, 30)
            sender.wait().check()
    assert received == list(range(3000))
    assert timeouts


async def limited_receive(queue: PosixMessageQueue | SysVMessageQueue) -> bytes | None:
    with anyio.move_on_after(0.001):
        return (await queue.receive()).body
    return None


COMPETITOR = """
    import asyncio, signal, aioipc
    from aioipc.testing.conformance.storm import Storm

    async def main():
        storm, over = Storm(9), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        async with aioipc.{opened} as semaphore:
            async def work():
                while not over.is_set():
                    await storm.until_done(semaphore.acquire)
                    await asyncio.sleep(0)
                    semaphore.release()

            print("competing", flush=True)
            await asyncio.gather(*(work() for _ in range(5)), storm.blow(over))
        print("cancelled", storm.cancelled)

    asyncio.run(main())
"""


@asynccontextmanager
async def competitor(opened: str) -> AsyncIterator[None]:
    """Another process that takes from the semaphore and gives back, and whose waits are cancelled, too."""
    with running_script(COMPETITOR.format(opened=opened)) as script:
        await eventually_async(lambda: "competing" in script.stdout, 30)
        yield
        script.send_signal(signal.SIGTERM)
        await eventually_async(lambda: script.popen.poll() is not None, 30)
        assert "cancelled" in script.wait().check().stdout


async def test_cancelled_waits_leave_a_system_v_semaphore_right() -> None:
    async with SysVSemaphoreSet.create(None, [5, 1]) as semaphores:
        async with competitor(f"SysVSemaphoreSet.open(id={semaphores.id})"):
            most = await storm_of_permits(semaphores.acquire, semaphores.release, amounts=(1, 1, 2, 3))
        assert semaphores.values() == (5, 1)
    assert most <= 5


async def test_cancelled_waits_leave_a_posix_semaphore_right() -> None:
    async with PosixSemaphore.create(NAME, 2) as slots:
        async with competitor(f"PosixSemaphore.open({NAME!r})"):
            most = await storm_of_permits(lambda n: slots.acquire(), lambda n: slots.release())
        assert slots.value == 2
    assert most <= 2
