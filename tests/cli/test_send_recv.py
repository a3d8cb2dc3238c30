"""``aioipc send`` and ``aioipc recv`` on every kind of object, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc.cli.failure import CommandError, NothingError
from aioipc.cli.recv import Reception, recv_command
from aioipc.cli.recv import check_options as recv_options
from aioipc.cli.send import check_options as send_options
from aioipc.cli.send import send_all, send_command
from tests.cli.in_process import Command
from tests.harness.processes import eventually_async

NAME = f"/aioipc-cli-{os.getpid()}"


@pytest.fixture
def queue() -> Iterator[aioipc.SysVMessageQueue]:
    with contextlib.closing(aioipc.SysVMessageQueue.create()) as queue:
        yield queue


@pytest.fixture
def posix_queue() -> Iterator[aioipc.PosixMessageQueue]:
    with contextlib.closing(aioipc.PosixMessageQueue.create(NAME, max_messages=5, max_message_size=64)) as queue:
        yield queue


def parsed(command: Any, words: str) -> dict[str, Any]:
    params: dict[str, Any] = command.make_context("aioipc", words.split()).params
    return params


async def send(words: str) -> None:
    await send_all(send_options(**parsed(send_command, words)))


class Output:
    """A pipe for the output of `Reception`."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)

    def shrink(self) -> None:
        """Let a single page be all that fits in."""
        fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)

    async def run(self, words: str) -> None:
        await Reception(recv_options(**parsed(recv_command, words)), self.write).run()

    def text(self) -> bytes:
        """What is in it, taken out; nothing where there is nothing."""
        try:
            return os.read(self.read, 1 << 20)
        except BlockingIOError:
            return b""

    def fill(self) -> None:
        os.set_blocking(self.write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.write, b"x")
        os.set_blocking(self.write, True)

    def close_reader(self) -> None:
        os.close(self.read)
        self.read = -1

    def close(self) -> None:
        for fd in (self.read, self.write):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def output() -> Iterator[Output]:
    with contextlib.closing(Output()) as output:
        yield output


# -- queues --------------------------------------------------------------------------------------------


def test_system_v_types(aioipc_command: Command, queue: aioipc.SysVMessageQueue) -> None:
    at = f"-i {queue.id}"
    aioipc_command.ok(f"send {at} -t 3 -m c -m cc")
    aioipc_command.ok(f"send {at} -t 1 -m", "a b")
    aioipc_command.ok(f"send {at} -m default")
    assert aioipc_command.ok(f"recv {at} --peek -a -t -3") == "a b\ndefault\nc\ncc"
    assert aioipc_command.ok(f"recv {at} --except 1 -c 2") == "c\ncc"
    assert aioipc_command.refused(f"recv {at} -t 3 --no-wait", code=1) == "aioipc recv: no message of that type"
    assert aioipc_command(f"recv {at} --peek --json").records == [{"type": 1, "body": "a b", "encoding": "text"}]
    ended = aioipc_command(f"recv {at} -c 3 --timeout 0.05")
    assert (ended.code, ended.stdout) == (1, "a b\ndefault\n")
    assert ended.stderr == "aioipc recv: no message (waited 0.05 s); 2 of 3 came before\n"
    assert aioipc_command.refused(f"recv {at} --all", code=1) == "aioipc recv: no message"
    assert aioipc_command.refused(f"recv {at} --peek", code=1) == "aioipc recv: no message"


def test_zeros_of_c_and_bytes_of_any_kind(aioipc_command: Command, queue: aioipc.SysVMessageQueue) -> None:
    at = f"-i {queue.id}"
    queue.send_nowait(b"hello\0\0\0world")
    assert aioipc_command.ok(f"recv {at} --peek --strip-zeros") == "hello"
    assert aioipc_command.ok(f"recv {at} --peek -0") == "hello\0\0\0world\0"
    assert aioipc_command(f"recv {at} --strip-zeros --json").records[0]["body"] == "hello"
    aioipc_command.ok(f"send {at} --add-zero -m hello")
    assert queue.receive_nowait().body == b"hello\0"
    queue.send_nowait(b"\xff")
    assert aioipc_command(f"recv {at} --json").records == [{"type": 1, "body": "/w==", "encoding": "base64"}]
    aioipc_command.ok(f"send {at} -m", os.fsdecode(b"caf\xe9"))
    assert queue.receive_nowait().body == b"caf\xe9"


def test_posix_priorities(aioipc_command: Command, posix_queue: aioipc.PosixMessageQueue) -> None:
    aioipc_command.ok(f"send -n {NAME} -m low")
    aioipc_command.ok(f"send -n {NAME} --priority 9 -m high -m higher")
    assert aioipc_command.ok(f"recv -n {NAME}") == "high"
    assert aioipc_command(f"recv -n {NAME} --json").records == [{"priority": 9, "body": "higher", "encoding": "text"}]
    full = aioipc_command.refused(f"send -n {NAME} --no-wait " + "-m x " * 6, code=1)
    assert full == "aioipc send: not sent: the queue is full; 4 messages went before"
    waited = aioipc_command.refused(f"send -n {NAME} --timeout 0.05 -m x", code=1)
    assert waited == "aioipc send: not sent: the queue is full (waited 0.05 s)"
    assert aioipc_command.ok(f"recv -n {NAME} -a") == "low\nx\nx\nx\nx"


@pytest.mark.parametrize(
    ("separator", "words"), [(b"\n", ""), (b"\0", "-0"), (b"", "--whole")], ids=["lines", "zeros", "whole"]
)
async def test_standard_input(
    queue: aioipc.SysVMessageQueue, separator: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [b"one", b"", b"two\r", b"\xff" * 5000] if separator else [b"a\nb\0c\n"]
    with standard_input(separator.join(bodies)):
        await send(f"-i {queue.id} -t 5 {words}")
    assert [message.body for message in await queue.receive_many(type=5)] == bodies
    assert queue.statistics().messages == 0


@contextlib.contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    read, write = os.pipe()
    saved = os.dup(0)
    try:
        os.dup2(read, 0)
        os.write(write, content)
        os.close(write)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)


async def test_from_one_queue_to_another(
    queue: aioipc.SysVMessageQueue, posix_queue: aioipc.PosixMessageQueue, output: Output
) -> None:
    for body, type in ((b"text", 7), (b"\xff\0", 8)):
        await queue.send(body, type=type)
    await output.run(f"-i {queue.id} --all --json")
    lines = output.text()
    with standard_input(lines):
        await send(f"-i {queue.id} --json")
    assert await queue.receive_many() == [(b"text", 7), (b"\xff\0", 8)]
    lines = b'\n{"body": "a", "priority": 3, "type": 7}\n{"body": "b", "encoding": "base32"}\n'
    with standard_input(lines), pytest.raises(CommandError, match=r"line 3: .*base64.*; 1 message went before"):
        await send(f"-n {NAME} --json --priority 1")
    assert await posix_queue.receive() == (b"a", 3)


# -- nothing is lost -----------------------------------------------------------------------------------


async def test_a_message_is_taken_only_when_it_can_be_written(queue: aioipc.SysVMessageQueue, output: Output) -> None:
    output.fill()
    await queue.send(b"hello")
    running = asyncio.create_task(output.run(f"-i {queue.id}"))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert queue.statistics().messages == 1
    assert output.text().strip(b"x") == b""
    await asyncio.wait_for(running, 30)
    assert output.text() == b"hello\n"
    assert queue.statistics().messages == 0


async def test_a_reader_that_leaves_ends_it_while_nothing_comes(queue: aioipc.SysVMessageQueue, output: Output) -> None:
    running = asyncio.create_task(output.run(f"-i {queue.id} --follow"))
    await queue.send(b"hello")
    await eventually_async(output.text, 30)
    output.close_reader()
    with pytest.raises(BrokenPipeError):
        await asyncio.wait_for(running, 30)
    await queue.send(b"for the next")
    with pytest.raises(BrokenPipeError):
        await output.run(f"-i {queue.id}")
    assert queue.receive_nowait().body == b"for the next"


@pytest.mark.parametrize("end", ["reader leaves", "cancelled"])
async def test_what_was_not_written_whole_goes_back(queue: aioipc.SysVMessageQueue, output: Output, end: str) -> None:
    output.shrink()
    body = b"x" * 8000
    await queue.send(body, type=5)
    running = asyncio.create_task(output.run(f"-i {queue.id} -f"))
    await eventually_async(lambda: queue.statistics().messages == 0, 30)
    await queue.send(b"later", type=6)
    if end == "cancelled":
        running.cancel()
        expected: type[BaseException] = asyncio.CancelledError
    else:
        output.close_reader()
        expected = BrokenPipeError
    with pytest.raises(expected):
        await asyncio.wait_for(running, 30)
    assert await queue.receive_many() == [(b"later", 6), (body, 5)]


async def test_going_back_is_not_cancelled(output: Output) -> None:
    output.shrink()
    async with aioipc.SysVMessageQueue.create(max_bytes=8000) as queue:
        await queue.send(b"x" * 8000, type=5)
        running = asyncio.create_task(output.run(f"-i {queue.id}"))
        await eventually_async(lambda: queue.statistics().messages == 0, 30)
        await queue.send(b"y" * 8000)
        output.close_reader()
        for _ in range(3):
            await asyncio.sleep(0.01)
            running.cancel()
        assert queue.receive_nowait().body == b"y" * 8000
        with pytest.raises((BrokenPipeError, asyncio.CancelledError)):
            await asyncio.wait_for(running, 30)
        assert queue.receive_nowait() == (b"x" * 8000, 5)


async def test_a_message_begun_is_finished_when_cancelled(queue: aioipc.SysVMessageQueue, output: Output) -> None:
    output.shrink()
    body = bytes(range(65, 90)) * 300
    await queue.send(body)
    running = asyncio.create_task(output.run(f"-i {queue.id} -f"))
    got = bytearray(await eventually_async(output.text, 30))
    running.cancel()
    while not running.done():
        got += output.text()
        await asyncio.sleep(0.001)
    got += output.text()
    assert running.cancelled()
    assert bytes(got) == body + b"\n"
    assert queue.statistics().messages == 0


async def test_a_message_that_finds_no_way_back_is_told_of(queue: aioipc.SysVMessageQueue, output: Output) -> None:
    output.shrink()
    await queue.send(b"x" * 8000)
    running = asyncio.create_task(output.run(f"-i {queue.id}"))
    await eventually_async(lambda: queue.statistics().messages == 0, 30)
    queue.remove()
    output.close_reader()
    with pytest.raises(CommandError, match=r"8000 bytes was neither written nor given back: .* was removed"):
        await asyncio.wait_for(running, 30)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)


async def test_a_full_disk(queue: aioipc.SysVMessageQueue) -> None:
    await queue.send(b"hello")
    with full_disk() as full:
        settings = recv_options(**parsed(recv_command, f"-i {queue.id}"))
        with pytest.raises(CommandError, match="cannot write to standard output: No space left"):
            await Reception(settings, full).run()
    assert queue.receive_nowait().body == b"hello"


async def test_a_posix_message_goes_back_too(posix_queue: aioipc.PosixMessageQueue) -> None:
    await posix_queue.send(b"hello", priority=3)
    with full_disk() as full:
        settings = recv_options(**parsed(recv_command, f"-n {NAME}"))
        with pytest.raises(CommandError, match="cannot write"):
            await Reception(settings, full).run()
    assert posix_queue.receive_nowait() == (b"hello", 3)


async def test_a_queue_that_vanishes(queue: aioipc.SysVMessageQueue, output: Output) -> None:
    running = asyncio.create_task(output.run(f"-i {queue.id} -f"))
    await queue.send(b"hello")
    await eventually_async(output.text, 30)
    queue.remove()
    with pytest.raises(aioipc.ObjectRemovedError, match="was removed"):
        await asyncio.wait_for(running, 30)


# -- FIFOs and sockets ---------------------------------------------------------------------------------


async def test_a_fifo_gives_one_line_and_keeps_the_rest(tmp_path: Path, output: Output) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    try:
        await send(f"{path} -m one -m two -m three")
        await output.run(path)
        assert output.text() == b"one\n"
        await output.run(f"{path} -c 2 --json")
        assert [json.loads(line)["body"] for line in output.text().splitlines()] == ["two", "three"]
        with pytest.raises(NothingError, match="nothing came"):
            await output.run(f"{path} --no-wait")
    finally:
        os.close(keeper)


async def test_a_fifo_to_its_end_and_one_that_outlives_writers(tmp_path: Path, output: Output) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with pytest.raises(NothingError, match=r"nobody reads \(waited 0.05 s\)"):
        await send(f"{path} -m x --timeout 0.05")
    with pytest.raises(NothingError, match="nobody reads"):
        await send(f"{path} -m x --no-wait")
    reading = asyncio.create_task(output.run(f"{path} --all"))
    with standard_input(b"one\nlast"):
        await send(f"{path} --whole")
    await asyncio.wait_for(reading, 30)
    assert output.text() == b"one\nlast\n"
    following = asyncio.create_task(output.run(f"{path} --follow"))
    for word in ("first", "second"):
        await send(f"{path} -m {word}")
        assert await eventually_async(output.text, 30) == word.encode() + b"\n"
    with standard_input(b"unfinished"):
        await send(f"{path} --whole")
    await eventually_async(lambda: not pending_bytes(path), 30)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert output.text() == b"unfinished\n"


def pending_bytes(path: str) -> int:
    """How much is in a FIFO that nobody has read yet."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, 0x541B, b"\0" * 4), "little")  # FIONREAD
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["stream", "packets", "datagram"])
async def test_sockets(tmp_path: Path, output: Output, kind: str) -> None:
    path = tmp_path / "inbox"
    receiving = asyncio.create_task(output.run(f"{path} --listen {kind} -c 3 --json"))
    await eventually_async(path.exists, 30)
    await send(f"{path} -m one -m two")
    await send(f"{path} -m three")
    await asyncio.wait_for(receiving, 30)
    assert [json.loads(line)["body"] for line in output.text().splitlines()] == ["one", "two", "three"]
    assert not path.exists()


@pytest.mark.parametrize("kind", ["stream", "packets"])
async def test_what_a_server_sends(tmp_path: Path, output: Output, kind: Any) -> None:
    path = tmp_path / "server"
    async with serving(path, kind):
        await output.run(f"{path} --follow")
        assert output.text() == b"hello\nbye\n"
        with pytest.raises(NothingError, match="the other side has ended; 2 of 3 came before"):
            await output.run(f"{path} -c 3")


@contextlib.asynccontextmanager
async def serving(path: Path, kind: Any) -> AsyncIterator[None]:
    async def serve(listener: aioipc.Listener[Any]) -> None:
        async for connection in listener:
            async with connection:
                await connection.send(b"hello" if kind == "packets" else b"hello\nb")
                await connection.send(b"bye" if kind == "packets" else b"ye\n")

    async with aioipc.listen_unix(path, kind) as listener:
        task = asyncio.create_task(serve(listener))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("recv", "name one object: -i ID or -k KEY"),
        ("recv -i 1 -n /x", "name one object"),
        ("recv -i 2147483647", "there is no System V message queue with the id 2147483647"),
        ("send -k 0x7ffffff1 -m x", "there is no System V message queue with the key 0x7ffffff1"),
        ("recv -n /aioipc-none", "/aioipc-none: there is no POSIX queue of this name"),
        ("send -n jobs -m x", "a slash and a word"),
        ("recv /nowhere", "/nowhere: No such file"),
        ("send /etc/passwd -m x", "/etc/passwd: is neither a FIFO nor a UNIX socket"),
        ("recv -n /x -t 5", "-t and --except are for System V queues"),
        ("send -n /x -t 5 -m x", "-t is for System V queues"),
        ("send -i 5 --priority 5 -m x", "--priority is for POSIX queues"),
        ("recv -n /x --peek", "there is no POSIX queue"),
        ("recv -i 5 -a -f", "exclude each other"),
        ("recv -i 5 -t 5 --except 5", "exclude each other"),
        ("recv -i 5 -f --no-wait", "--all takes what is there"),
        ("recv -i 5 --peek -f", "--peek never waits"),
        ("recv -i 5 --listen stream", "--listen takes a PATH"),
        ("send -i 5 -m x --whole", "which -m replaces"),
        ("send -i 5 --whole -0", "exclude each other"),
        ("send -i 5 -m x --no-wait --timeout 5", "exclude each other"),
    ],
)
def test_what_cannot_be(aioipc_command: Command, words: str, why: str) -> None:
    line = aioipc_command.refused(words)
    assert line.startswith(f"aioipc {words[:4]}: ")
    assert re.search(re.escape(why), line), line


def test_messages_that_are_too_long(
    aioipc_command: Command, queue: aioipc.SysVMessageQueue, posix_queue: aioipc.PosixMessageQueue
) -> None:
    long = aioipc_command.refused(f"send -i {queue.id} -m", "x" * 100_000)
    assert re.search(r"100000 bytes is longer than kernel.msgmax allows \(\d+\)", long)
    long = aioipc_command.refused(f"send -n {NAME} -m", "x" * 65)
    assert "takes 64 at most (--max-message-size when it is made, /proc/sys/fs/mqueue/msgsize_max)" in long


def test_peek_where_it_cannot_be(aioipc_command: Command, posix_queue: aioipc.PosixMessageQueue) -> None:
    assert "--peek is for System V queues" in aioipc_command.refused(f"recv -n {NAME} --peek")


def test_a_datagram_socket_of_somebody_else(aioipc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(path))
        assert "--listen" in aioipc_command.refused("recv", path)
        assert "somebody" in aioipc_command.refused("recv --listen datagram", path).lower()
    assert aioipc_command.refused("send -m x", path).startswith("aioipc send: ")
