"""Pipes against the real kernel; what holds for every byte stream is in test_pipes_conformance.py."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import gc
import itertools
import os
import random
import select
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledByteStream
from anyio.streams.text import TextReceiveStream, TextSendStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aioipc
from aioipc import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    PipeReceiveStream,
    PipeSendStream,
    WouldBlock,
    create_pipe,
)
from aioipc._loop.fairness import OPERATIONS
from aioipc.kernel.pipes import PipeAttribute
from tests.conftest import LOOPS
from tests.harness.hostile import run_confined
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

PAGE = os.sysconf("SC_PAGESIZE")


@contextmanager
def pipe(capacity: int | None = None) -> Iterator[tuple[PipeReceiveStream, PipeSendStream]]:
    reader, writer = create_pipe(capacity)
    try:
        yield reader, writer
    finally:
        reader.close()
        writer.close()


def fill(writer: PipeSendStream) -> int:
    """Send until nothing more goes; return how much went."""
    total = 0
    try:
        while True:
            total += writer.send_nowait(bytes(PAGE))
    except WouldBlock:
        return total


async def asleep(stream: PipeReceiveStream | PipeSendStream) -> None:
    await eventually_async(lambda: stream._queue.waiting)


# --- receiving and sending


async def test_at_most_max_bytes() -> None:
    with pipe() as (reader, writer):
        await writer.send(b"abcdef")
        assert await reader.receive(4) == b"abcd"
        assert reader.receive_nowait(1) == b"e"
        assert await reader.receive(1 << 62) == b"f"


async def test_iteration_ends_with_the_last_writer() -> None:
    reader, writer = create_pipe()
    async with reader:
        await writer.send(b"a")
        await writer.aclose()
        assert [chunk async for chunk in reader] == [b"a"]
        for _ in range(2):
            with pytest.raises(EndOfStream, match="every copy of the pipe's write end"):
                await reader.receive()
        with pytest.raises(EndOfStream):
            reader.receive_nowait()
        with pytest.raises(EndOfStream):
            await reader.receive_into(bytearray(1))


async def test_receive_into() -> None:
    with pipe() as (reader, writer):
        await writer.send(b"abcdef")
        buffer = bytearray(b"......")
        assert await reader.receive_into(memoryview(buffer)[1:4]) == 3
        assert buffer == b".abc.."
        assert await reader.receive_into(buffer) == 3
        assert buffer == b"defc.."
        numbers = array.array("i", [0, 0])
        await writer.send(array.array("i", [7, 8]))  # type: ignore[arg-type]
        assert await reader.receive_into(numbers) == 8  # type: ignore[arg-type]
        assert list(numbers) == [7, 8]


@pytest.mark.parametrize("item", [b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"xabx")[1:3]])
async def test_what_can_be_sent(item: bytes) -> None:
    with pipe() as (reader, writer):
        await writer.send(item)
        assert writer.send_nowait(item) == 2
        assert await reader.receive() == b"abab"


async def test_nothing_to_send() -> None:
    with pipe() as (reader, writer):
        await writer.send(b"")
        assert writer.send_nowait(b"") == 0
        with pytest.raises(WouldBlock):
            reader.receive_nowait()


async def test_nowait() -> None:
    with pipe(PAGE) as (reader, writer):
        with pytest.raises(WouldBlock):
            reader.receive_nowait()
        assert writer.send_nowait(bytes(3 * PAGE)) == PAGE
        with pytest.raises(WouldBlock):
            writer.send_nowait(b"x")
        assert len(reader.receive_nowait()) == PAGE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_full_pipe_holds_the_sender_back(kind: Callable[[bytes], bytes]) -> None:
    data = random.Random(1).randbytes(1_000_000)
    with pipe(PAGE) as (reader, writer):
        task = asyncio.create_task(writer.send(kind(data)))
        await asleep(writer)
        assert not task.done()
        assert writer.statistics().bytes_sent == PAGE
        received = bytearray()
        while len(received) < len(data):
            received += await reader.receive()
        await task
        assert received == data
        assert writer.statistics().bytes_sent == len(data)


@given(st.lists(st.binary(max_size=3 * PAGE), max_size=8), st.integers(1, 2 * PAGE))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_pieces_in_any_pieces_out(pieces: list[bytes], max_bytes: int) -> None:
    reader, writer = create_pipe(PAGE)

    async def send() -> None:
        async with writer:
            for piece in pieces:
                await writer.send(piece)

    async with asyncio.TaskGroup() as group, reader:
        group.create_task(send())
        received = []
        with suppress(EndOfStream):
            while True:
                received.append(await reader.receive(max_bytes))
    assert b"".join(received) == b"".join(pieces)
    assert all(1 <= len(chunk) <= max_bytes for chunk in received)


async def test_several_writers_do_not_mix_up_to_pipe_buf() -> None:
    """Each on its own copy of the descriptor, as processes have."""
    reader, writer = create_pipe(PAGE)
    copies = [writer, *(PipeSendStream(os.dup(writer.fileno())) for _ in range(2))]
    chance = random.Random(5)

    async def send(stream: PipeSendStream, letter: int) -> None:
        async with stream:
            for _ in range(200):
                await stream.send(bytes([letter]) * chance.randint(1, select.PIPE_BUF - 1) + b"\n")

    async with asyncio.TaskGroup() as group, reader:
        for copy, letter in zip(copies, b"abc", strict=True):
            group.create_task(send(copy, letter))
        lines = b"".join([chunk async for chunk in reader]).splitlines()
    assert len(lines) == 600
    assert all(len(set(line)) == 1 for line in lines)


# --- the other end goes


async def test_no_reader_is_a_broken_pipe_and_no_signal() -> None:
    with pipe() as (reader, writer):
        reader.close()
        with pytest.raises(BrokenResourceError, match="every copy of the pipe's read end") as caught:
            await writer.send(b"x")
        assert isinstance(caught.value.__cause__, BrokenPipeError)
        assert isinstance(caught.value, aioipc.IPCError)
        assert isinstance(caught.value, anyio.BrokenResourceError)
        with pytest.raises(BrokenResourceError):
            writer.send_nowait(b"x")


# --- closing


async def test_close_in_another_thread() -> None:
    with pipe() as (reader, _):
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        thread = threading.Thread(target=reader.close)
        thread.start()
        thread.join()
        with pytest.raises(ClosedResourceError):
            await task


async def test_closed_is_closed() -> None:
    reader, writer = create_pipe()
    for _ in range(2):
        await reader.aclose()
        writer.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        reader.receive,
        lambda: reader.receive_into(bytearray(1)),
        lambda: writer.send(b"x"),
        lambda: writer.send(b""),
    ]
    for call in calls:
        with pytest.raises(ClosedResourceError):
            await call()
    plain: list[Callable[[], object]] = [
        reader.receive_nowait,
        lambda: writer.send_nowait(b"x"),
        reader.fileno,
        writer.detach,
        lambda: reader.extra(PipeAttribute.fileno),
        lambda: reader.extra(PipeAttribute.capacity),
    ]
    for each in plain:
        with pytest.raises(ClosedResourceError):
            each()


async def test_aclose_is_a_checkpoint_and_closes_all_the_same() -> None:
    reader, writer = create_pipe()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reader.aclose()
    assert scope.cancelled_caught
    with pytest.raises(BrokenResourceError):
        await writer.send(b"x")
    await writer.aclose()


async def test_the_number_of_a_closed_pipe_can_be_used_again() -> None:
    numbers = set()
    for _ in range(3):
        with pipe() as (reader, writer):
            numbers.add(reader.fileno())
            task = asyncio.create_task(reader.receive())
            await asleep(reader)
            await writer.send(b"x")
            async with asyncio.timeout(5):
                assert await task == b"x"
            waiting = asyncio.create_task(reader.receive())
            await asleep(reader)
        with pytest.raises(ClosedResourceError):
            await waiting
    assert len(numbers) == 1


def forget(owned: list[PipeReceiveStream]) -> None:
    owned.clear()
    gc.collect()


async def test_never_closed_is_a_warning_and_closes() -> None:
    reader, writer = create_pipe()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.receive(), 0.001)  # now the loop knows it
    await asyncio.sleep(0)  # Python 3.12 keeps the traceback of the time limit until then
    owned, fd = [reader], reader.fileno()
    del reader
    with pytest.warns(ResourceWarning, match=rf"unclosed <PipeReceiveStream fd={fd}, 0 bytes"):
        forget(owned)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(BrokenResourceError):
        await writer.send(b"x")
    writer.close()


async def test_collected_in_another_thread_the_loop_closes_it() -> None:
    reader, writer = create_pipe()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.receive(), 0.001)
    await asyncio.sleep(0)
    owned, fd = [reader], reader.fileno()
    del reader
    with pytest.warns(ResourceWarning, match="unclosed <PipeReceiveStream"):
        await asyncio.to_thread(forget, owned)
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(BrokenResourceError):
        await writer.send(b"x")
    writer.close()


# --- cancellation


async def test_cancelled_receive_into_leaves_the_buffer() -> None:
    buffer = bytearray(b"....")
    with pipe() as (reader, writer):
        task = asyncio.create_task(reader.receive_into(buffer))
        await asleep(reader)
        writer.send_nowait(b"data")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert buffer == b"...."
        buffer.extend(b"no longer lent out")
        assert reader.statistics().buffered == 4


async def test_cancelled_small_send_sent_nothing() -> None:
    with pipe(PAGE) as (reader, writer):
        full = fill(writer)
        task = asyncio.create_task(writer.send(bytes(select.PIPE_BUF)))
        await asleep(writer)
        reader.receive_nowait()  # there is room, and it is cancelled at once
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert writer.statistics().bytes_sent == full
        assert reader.statistics().buffered == 0


async def test_cancelled_large_send_says_how_much_left() -> None:
    with pipe(PAGE) as (reader, writer):
        data = bytearray(10 * PAGE)
        task = asyncio.create_task(writer.send(data))
        await asleep(writer)
        await reader.receive(PAGE)
        await eventually_async(lambda: writer.statistics().bytes_sent == 2 * PAGE)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert writer.statistics().bytes_sent == 2 * PAGE
        assert reader.statistics().buffered == PAGE
        data.clear()  # no longer lent out


# --- one at a time


async def test_a_second_receiver_is_refused() -> None:
    with pipe() as (reader, writer):
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        with pytest.raises(BusyResourceError, match="already receiving from"):
            await reader.receive()
        with pytest.raises(BusyResourceError):
            reader.receive_nowait()
        with pytest.raises(BusyResourceError):
            await reader.receive_into(bytearray(1))
        await writer.send(b"x")
        assert await task == b"x"


async def test_a_second_sender_is_refused() -> None:
    with pipe(PAGE) as (reader, writer):
        task = asyncio.create_task(writer.send(b"a" * 3 * PAGE))
        await asleep(writer)
        with pytest.raises(BusyResourceError, match="already sending to"):
            await writer.send(b"b")
        with pytest.raises(BusyResourceError):
            writer.send_nowait(b"b")
        received = b""
        while len(received) < 3 * PAGE:
            received += await reader.receive()
        await task
        assert set(received) == {ord("a")}


# --- fair to the loop


async def test_the_loop_turns_every_64_operations() -> None:
    operations, marks = 0, [0]

    def mark() -> None:
        marks.append(operations)
        if operations < 2000:
            loop.call_soon(mark)

    loop = asyncio.get_running_loop()
    loop.call_soon(mark)
    with pipe() as (reader, writer):
        for _ in range(1000):
            await writer.send(b"x")
            operations += 1
            await reader.receive()
            operations += 1
    assert max(b - a for a, b in itertools.pairwise(marks)) <= OPERATIONS


# --- making


async def test_capacity() -> None:
    with pipe(capacity=1 << 20) as (reader, writer):
        assert writer.statistics().capacity == reader.statistics().capacity == 1 << 20
        assert fill(writer) == 1 << 20
    with pipe(capacity=PAGE + 1) as (reader, _):
        assert reader.statistics().capacity == 2 * PAGE
    with pipe() as (reader, _):
        assert reader.statistics().capacity >= PAGE


@pytest.mark.parametrize("capacity", ["1", 1.0, True, b"1"])
def test_capacity_of_a_wrong_type(capacity: int) -> None:
    with pytest.raises(TypeError, match="capacity must be an int"):
        create_pipe(capacity)


@pytest.mark.parametrize("capacity", [0, -1, 1 << 31])
def test_capacity_out_of_range(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity must be"):
        create_pipe(capacity)


def test_capacity_above_the_limit_names_the_limit() -> None:
    script = """
        import errno, os, aioipc
        limit = int(open("/proc/sys/fs/pipe-max-size").read())
        before = os.listdir("/proc/self/fd")
        try:
            aioipc.create_pipe(2 * limit)
        except PermissionError as error:
            assert error.errno == errno.EPERM, error.errno
            assert "/proc/sys/fs/pipe-max-size" in str(error), error
            assert str(2 * limit) in str(error), error
        else:
            raise SystemExit("no error")
        assert os.listdir("/proc/self/fd") == before
    """
    run_confined("nobody", script).check()


async def test_descriptors_are_not_inherited_and_do_not_block() -> None:
    with pipe() as (reader, writer):
        for end in (reader, writer):
            assert not os.get_inheritable(end.fileno())
            assert not os.get_blocking(end.fileno())


def test_never_on_the_numbers_of_standard_input_and_output() -> None:
    script = """
        import os, sys, aioipc
        for fd in (0, 1):
            os.close(fd)
        reader, writer = aioipc.create_pipe()
        numbers = sorted(map(int, os.listdir("/proc/self/fd")))
        print(reader.fileno(), writer.fileno(), numbers[:2], file=sys.stderr)
        assert min(reader.fileno(), writer.fileno()) > 2
        assert os.pipe() == (0, 1)
        reader.close(); writer.close()
    """
    run_script(script).check()


def test_wrong_descriptors() -> None:
    for fd in (0, 1, 2, -1):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) if fd >= 0 else None
        with pytest.raises(ValueError, match="must be 3 or more"):
            PipeReceiveStream(fd)
        assert fd < 0 or fcntl.fcntl(fd, fcntl.F_GETFL) == flags
    with pytest.raises(TypeError, match="must be an int"):
        PipeSendStream("3")  # type: ignore[arg-type]
    with tempfile.TemporaryFile() as file, pytest.raises(ValueError, match="is not a pipe"):
        PipeReceiveStream(file.fileno())
    read_fd, write_fd = os.pipe()
    with pytest.raises(ValueError, match="is not the read end"):
        PipeReceiveStream(write_fd)
    with pytest.raises(ValueError, match="is not the write end"):
        PipeSendStream(read_fd)
    for fd in (read_fd, write_fd):
        assert os.get_blocking(fd), "a refused descriptor is as it was"
        os.close(fd)
    with pytest.raises(OSError, match="Bad file") as caught:
        PipeSendStream(write_fd)
    assert caught.value.errno == errno.EBADF


# --- what it says about itself


async def test_statistics() -> None:
    with pipe() as (reader, writer):
        await writer.send(b"abc")
        await writer.send(b"de")
        await reader.receive(1)
        sent, received = writer.statistics(), reader.statistics()
        assert (sent.bytes_sent, sent.sends, sent.buffered) == (5, 2, 4)
        assert (received.bytes_received, received.receives, received.buffered) == (1, 1, 4)
        with pytest.raises(AttributeError):
            sent.bytes_sent = 0  # type: ignore[misc]
    assert writer.statistics().bytes_sent == 5
    assert writer.statistics().capacity == reader.statistics().buffered == 0


async def test_attributes() -> None:
    with pipe(PAGE) as (reader, writer):
        assert writer.extra(PipeAttribute.fileno) == writer.fileno()
        assert BufferedByteReceiveStream(reader).extra(PipeAttribute.capacity) == PAGE


async def test_repr() -> None:
    with pipe() as (reader, writer):
        await writer.send(b"abc")
        assert repr(reader) == f"<PipeReceiveStream fd={reader.fileno()}, 0 bytes in 0 calls>"
    assert repr(writer) == "<PipeSendStream closed, 3 bytes in 1 calls>"


# --- beside others


async def test_under_the_streams_of_anyio() -> None:
    reader, writer = create_pipe()
    back_reader, back_writer = create_pipe()
    there = StapledByteStream(writer, back_reader)
    await TextSendStream(writer).send("zwölf\n")
    assert await TextReceiveStream(reader).receive() == "zwölf\n"
    await there.send(b"line 1\nline")
    await there.send(b" 2\n")
    buffered = BufferedByteReceiveStream(reader)
    assert await buffered.receive_until(b"\n", 100) == b"line 1"
    assert await buffered.receive_until(b"\n", 100) == b"line 2"
    await back_writer.send(b"pong")
    assert await there.receive() == b"pong"
    await there.send_eof()
    with pytest.raises(EndOfStream):
        await reader.receive()
    for end in (there, reader, back_writer):
        await end.aclose()


async def test_detached_ends_in_a_child_process() -> None:
    child_reader, writer = create_pipe()
    reader, child_writer = create_pipe()
    ends = child_reader.detach(), child_writer.detach()
    assert all(os.get_blocking(fd) and not os.get_inheritable(fd) for fd in ends)
    assert repr(child_reader).startswith("<PipeReceiveStream closed")
    process = await asyncio.create_subprocess_exec("cat", stdin=ends[0], stdout=ends[1])
    for fd in ends:
        os.close(fd)
    data = random.Random(6).randbytes(1_000_000)

    async def send() -> None:
        async with writer:
            await writer.send(data)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(send())
        async with reader:
            assert b"".join([chunk async for chunk in reader]) == data
    assert await process.wait() == 0


async def test_detach_wakes_who_waits() -> None:
    with pipe() as (reader, writer):
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        fd = reader.detach()
        with pytest.raises(ClosedResourceError):
            await task
        await writer.send(b"x")
        os.set_inheritable(fd, True)
        again = PipeReceiveStream(fd)
        assert not os.get_inheritable(fd)
        assert await again.receive() == b"x"
        again.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_loop_is_refused(loop: str) -> None:
    with pipe() as (reader, writer):
        writer.send_nowait(b"ab")
        for number in range(2):
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                if number:
                    with pytest.raises(RuntimeError, match="the pipe's read end belongs to another event loop"):
                        runner.run(reader.receive(1))
                else:
                    assert runner.run(reader.receive(1)) == b"a"


def test_made_and_closed_without_a_loop() -> None:
    with pipe() as (reader, writer):
        assert writer.send_nowait(b"x") == 1
        assert reader.receive_nowait() == b"x"
        with pytest.raises(RuntimeError, match="needs a running asyncio"):
            reader.receive().send(None)


async def test_every_error_is_anyios_too() -> None:
    with pipe() as (reader, _), pytest.raises(anyio.WouldBlock):
        reader.receive_nowait()
    with pytest.raises(anyio.ClosedResourceError):
        await reader.receive()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
async def test_eager_tasks() -> None:
    with pipe() as (reader, writer):
        task = asyncio.Task(reader.receive(), loop=asyncio.get_running_loop(), eager_start=True)
        await writer.send(b"x")
        assert await task == b"x"
