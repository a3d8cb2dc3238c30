"""POSIX queues against the real kernel, with C programs, posix_ipc and other processes at the other end."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from aioipc import ClosedResourceError, PosixMessage, PosixMessageQueue, WouldBlock
from aioipc._sys import posix_mq
from tests.harness.c_programs import compile_c, run_c
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script, running_script

NAME = f"/aioipc-queue-{os.getpid()}"

PROGRAM = r"""
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    char text[65536];
    unsigned priority;
    if (!strcmp(words[1], "send")) {
        mqd_t queue = mq_open(words[2], O_WRONLY);
        return mq_send(queue, words[4], strlen(words[4]), atoi(words[3]));
    }
    if (!strcmp(words[1], "receive")) {
        mqd_t queue = mq_open(words[2], O_RDONLY);
        int size = mq_receive(queue, text, sizeof text, &priority);
        if (size < 0) { perror("mq_receive"); return 1; }
        printf("%u %.*s\n", priority, size, text);
        return 0;
    }
    if (!strcmp(words[1], "create")) {
        struct mq_attr attr = {.mq_maxmsg = atoi(words[3]), .mq_msgsize = atoi(words[4])};
        return mq_open(words[2], O_CREAT | O_EXCL | O_RDWR, 0600, &attr) == (mqd_t)-1;
    }
    return mq_unlink(words[2]) != 0;
}
"""


@pytest_asyncio.fixture
async def queue() -> AsyncIterator[PosixMessageQueue]:
    async with PosixMessageQueue.create(NAME, max_messages=4, max_message_size=100) as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compile_c(PROGRAM, tmp_path)


def exists(name: str = NAME) -> bool:
    try:
        PosixMessageQueue.open(name, access="send").close()
    except FileNotFoundError:
        return False
    return True


async def test_messages_and_priorities(queue: PosixMessageQueue) -> None:
    for body, priority in ((b"low", 0), (b"high", 32767), (b"middle", 5), (b"later", 5)):
        await queue.send(body, priority=priority)
    received = [await queue.receive() for _ in range(4)]
    assert received == [(b"high", 32767), (b"middle", 5), (b"later", 5), (b"low", 0)]
    assert received[0].body == b"high"
    assert received[0].priority == 32767
    assert isinstance(received[0], PosixMessage)


@pytest.mark.parametrize("item", [b"", b"x", bytes(range(100)), bytearray(b"xy"), memoryview(b"abcd")[::1]])
async def test_whole_messages(queue: PosixMessageQueue, item: bytes) -> None:
    await queue.send(item)
    assert (await queue.receive()).body == bytes(item)


async def test_nowait(queue: PosixMessageQueue) -> None:
    with pytest.raises(WouldBlock, match="not ready"):
        queue.receive_nowait()
    for number in range(4):
        queue.send_nowait(b"%d" % number)
    with pytest.raises(anyio.WouldBlock):
        queue.send_nowait(b"5")
    assert [queue.receive_nowait().body for _ in range(4)] == [b"0", b"1", b"2", b"3"]


async def test_waits_for_a_message_and_for_room(queue: PosixMessageQueue) -> None:
    receiving = asyncio.create_task(queue.receive())
    await eventually_async(lambda: queue.statistics().receivers_waiting == 1)
    with pytest.raises(WouldBlock, match="wait"):
        queue.receive_nowait()
    await queue.send(b"here")
    assert (await receiving).body == b"here"
    for _ in range(4):
        await queue.send(b"x")
    sending = asyncio.create_task(queue.send(b"last"))
    await eventually_async(lambda: queue.statistics().senders_waiting == 1)
    for _ in range(4):
        await queue.receive()
    await sending
    assert (await queue.receive()).body == b"last"


async def test_first_come_first_served(queue: PosixMessageQueue) -> None:
    got: list[int] = []

    async def receive(which: int) -> None:
        await queue.receive()
        got.append(which)

    async with asyncio.TaskGroup() as group:
        for which in range(5):
            group.create_task(receive(which))
        await eventually_async(lambda: queue.statistics().receivers_waiting == 5)
        for _ in range(5):
            await queue.send(b"")
    assert got == [0, 1, 2, 3, 4]


async def test_iteration(queue: PosixMessageQueue) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(send_numbers(queue, 50))
        received = []
        async for message in queue:
            received.append(int(message.body))
            if len(received) == 50:
                break
    assert received == list(range(50))


async def send_numbers(queue: PosixMessageQueue, count: int) -> None:
    for number in range(count):
        await queue.send(b"%d" % number)


async def test_statistics(queue: PosixMessageQueue) -> None:
    await queue.send(b"1")
    await queue.send(b"2")
    await queue.receive()
    found = queue.statistics()
    assert (found.messages, found.max_messages, found.max_message_size) == (1, 4, 100)
    assert (found.sent, found.received) == (2, 1)
    assert "1 received, 2 sent" in repr(queue)
    queue.close()
    assert queue.statistics().messages == 0
    assert "closed" in repr(queue)


async def test_the_lifetime_of_the_name() -> None:
    async with PosixMessageQueue.create(NAME) as queue:
        assert exists()
        async with PosixMessageQueue.open(NAME) as other:
            await other.send(b"x")
        assert exists()
        assert not queue.is_removed()
        with pytest.raises(FileExistsError, match="exist_ok=True"):
            PosixMessageQueue.create(NAME)
        async with PosixMessageQueue.create(NAME, exist_ok=True) as same:
            assert (await same.receive()).body == b"x"
        assert exists()
    assert not exists()
    async with PosixMessageQueue.create(NAME, remove=False):
        pass
    async with PosixMessageQueue.open(NAME) as left:
        left.remove()
        left.remove()
        assert left.is_removed()
    assert not exists()


async def test_removed_under_our_feet(queue: PosixMessageQueue) -> None:
    """Who has it open goes on; the next queue of that name is another one, and not removed by us."""
    posix_mq.unlink_queue(NAME)
    assert queue.is_removed()
    await queue.send(b"still here")
    assert (await queue.receive()).body == b"still here"
    async with PosixMessageQueue.create(NAME) as other:
        queue.close()
        assert not other.is_removed()
        assert exists()


async def test_closing(queue: PosixMessageQueue) -> None:
    for _ in range(4):
        queue.send_nowait(b"")
    async with PosixMessageQueue.open(NAME) as other:
        sending = asyncio.create_task(other.send(b""))
        await eventually_async(lambda: other.statistics().senders_waiting == 1)
        await other.aclose()
        with pytest.raises(ClosedResourceError):
            await sending
        for _ in range(2):
            for use in (other.receive_nowait, other.fileno, other.is_removed, other.remove):
                with pytest.raises(ClosedResourceError):
                    use()
            with pytest.raises(ClosedResourceError):
                await other.send(b"")
            with pytest.raises(ClosedResourceError):
                await other.receive()
    other.close()


async def test_closed_by_another_thread(queue: PosixMessageQueue) -> None:
    receiving = asyncio.create_task(queue.receive())
    await eventually_async(lambda: queue.statistics().receivers_waiting == 1)
    thread = threading.Thread(target=queue.close)
    thread.start()
    with pytest.raises(ClosedResourceError):
        await receiving
    thread.join()
    await eventually_async(lambda: not exists())


def test_dropped() -> None:
    kept = [PosixMessageQueue.create(NAME)]
    with pytest.warns(ResourceWarning, match=f"unclosed <PosixMessageQueue {NAME}"):
        kept.clear()
    assert not exists()


def test_one_loop_only() -> None:
    queue = PosixMessageQueue.create(NAME)

    async def send() -> None:
        await queue.send(b"")

    asyncio.run(send())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(send())
    queue.close()


@pytest.mark.parametrize("mode", [0o600, 0o666, 0o620])
def test_permissions_whatever_the_umask(mode: int) -> None:
    before = os.umask(0o077)
    try:
        queue = PosixMessageQueue.create(NAME, mode=mode)
    finally:
        os.umask(before)
    assert os.fstat(queue.fileno()).st_mode & 0o777 == mode
    assert not os.get_inheritable(queue.fileno())
    queue.close()


def test_above_the_limits() -> None:
    """Each limit is named. They are the namespace's, or this machine's."""
    highest = posix_mq.limits()
    most = highest["msg_max"]
    large = PosixMessageQueue.create
    if os.geteuid():  # who may exceed limits has others
        with pytest.raises(OSError, match=rf"msg_max \({most}\)"):
            large(NAME, max_messages=most + 1)
    with pytest.raises(OSError, match=r"fs/mqueue|RLIMIT_MSGQUEUE") as caught:
        large(NAME, max_messages=1 << 20, max_message_size=1 << 24)
    assert caught.value.errno in (errno.EINVAL, errno.EMFILE, errno.EOVERFLOW)
    assert not exists()


def test_too_many_bytes() -> None:
    done = run_script(
        f"""
        import resource, aioipc
        resource.setrlimit({getattr(resource, "RLIMIT_MSGQUEUE", 12)}, (1000, 1000))
        try:
            aioipc.PosixMessageQueue.create({NAME!r})
        except OSError as error:
            print(error.errno, error)
        """
    ).check()
    assert done.stdout.startswith(f"{errno.EMFILE} ")
    assert "RLIMIT_MSGQUEUE (1000 bytes in all queues of this user)" in done.stdout


def for_each(function: Callable[[int], object], numbers: Iterable[int]) -> None:
    for number in numbers:
        function(number)


def test_too_many_queues() -> None:
    with ExitStack() as stack:

        def make(number: int) -> None:
            queue = PosixMessageQueue.create(f"{NAME}-{number}", max_messages=1, max_message_size=1)
            stack.callback(queue.close)

        with pytest.raises(OSError, match="queues_max") as caught:
            for_each(make, range(posix_mq.limits()["queues_max"] + 1))
    assert caught.value.errno == errno.ENOSPC


async def test_another_user() -> None:
    script = f"""
        import asyncio, aioipc
        try:
            aioipc.PosixMessageQueue.open({NAME!r})
        except PermissionError as error:
            print(error)
        async def main():
            async with aioipc.PosixMessageQueue.open({NAME!r}, access="send") as queue:
                await queue.send(b"from nobody")
                print(queue.statistics().messages)
                queue.remove()
        try:
            asyncio.run(main())
        except PermissionError as error:
            print("not removed")
        """
    async with PosixMessageQueue.create(NAME, mode=0o622) as queue:
        done = run_confined(NOBODY, script).check()
        assert done.stdout.splitlines() == [
            f"[Errno 13] the permissions of this POSIX queue forbid it: {NAME!r}",
            "1",
            "not removed",
        ]
        assert (await queue.receive()).body == b"from nobody"
        assert exists()


async def test_one_way_only(queue: PosixMessageQueue) -> None:
    async with PosixMessageQueue.open(NAME, access="send") as sender:
        await sender.send(b"x")
        with pytest.raises(io.UnsupportedOperation, match="send only"):
            await sender.receive()
    async with PosixMessageQueue.open(NAME, access="receive") as receiver:
        assert (await receiver.receive()).body == b"x"
        with pytest.raises(io.UnsupportedOperation, match="receive only"):
            receiver.send_nowait(b"")


async def test_with_a_c_program(program: Path) -> None:
    async with PosixMessageQueue.create(NAME) as queue:
        run_c(program, "send", NAME, "7", "hello from C")
        assert await queue.receive() == (b"hello from C", 7)
        await queue.send(b"hello from Python", priority=9)
        assert run_c(program, "receive", NAME) == "9 hello from Python"
    run_c(program, "create", NAME, "3", "50")
    async with PosixMessageQueue.open(NAME) as queue:
        assert (queue.max_messages, queue.max_message_size) == (3, 50)
        run_c(program, "unlink", NAME)
        assert queue.is_removed()


async def test_with_posix_ipc(queue: PosixMessageQueue) -> None:
    posix_ipc = pytest.importorskip("posix_ipc")
    other = posix_ipc.MessageQueue(NAME)
    assert (other.max_messages, other.max_message_size) == (4, 100)
    other.send(b"from there", priority=3)
    assert other.current_messages == queue.statistics().messages == 1
    assert await queue.receive() == (b"from there", 3)
    await queue.send(b"from here", priority=4)
    assert other.receive() == (b"from here", 4)
    other.close()


COMPETITOR = f"""
    import asyncio, aioipc
    async def main():
        async with aioipc.PosixMessageQueue.open({NAME!r}) as queue:
            print("ready", flush=True)
            async for message in queue:
                if message.body == b"end":
                    break
                print(int(message.body))
    asyncio.run(main())
    """


async def test_two_processes_compete(queue: PosixMessageQueue) -> None:
    """Each message goes to one of them, and no wake-up for nothing stops anybody."""
    mine: list[int] = []

    async def receive() -> None:
        async for message in queue:
            mine.append(int(message.body))

    with running_script(COMPETITOR) as other:
        await eventually_async(lambda: "ready" in other.stdout, timeout=30)
        receiving = asyncio.create_task(receive())
        await send_numbers(queue, 3000)
        await eventually_async(lambda: queue.statistics().messages == 0, timeout=30)
        receiving.cancel()
        await asyncio.wait([receiving])
        await queue.send(b"end")
        await eventually_async(lambda: other.popen.poll() is not None, timeout=30)
        theirs = [int(line) for line in other.stdout.splitlines()[1:]]
    assert sorted(mine + theirs) == list(range(3000))
    assert mine


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not exists()
