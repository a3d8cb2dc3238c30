"""Readiness of real descriptors: how often the loop is told to watch, and what happens at the edges."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import aioipc
from aioipc import ClosedResourceError
from aioipc._loop.readiness import DescriptorReadiness
from aioipc._loop.wait_queue import WaitQueue
from tests.conftest import LOOPS
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

from .objects import Records, make_pipe, records, turns


class Registrations(Counter[str]):
    """Counts what the running loop is told about descriptors."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        for name in ("add_reader", "add_writer", "remove_reader", "remove_writer"):
            setattr(loop, name, self._counting(name, getattr(loop, name)))

    def _counting(self, name, call):  # type: ignore[no-untyped-def]
        def counted(*args):  # type: ignore[no-untyped-def]
            self[name] += 1
            return call(*args)

        return counted


async def ping_pong(there: Records, back: Records, count: int) -> None:
    async def echo() -> None:
        while (number := await there.receive()) is not None:
            await back.send(number)

    task = asyncio.create_task(echo())
    for number in range(count):
        await there.send(number)
        assert await back.receive() == number
    there.end()
    await task


async def test_one_registration_for_many_messages() -> None:
    registrations = Registrations()
    with records() as there, records() as back:
        await ping_pong(there, back, 500)
        assert registrations == {"add_reader": 2}
    assert registrations == {"add_reader": 2, "remove_reader": 2}


async def test_one_registration_for_many_waits_for_room() -> None:
    registrations = Registrations()
    with records() as pipe:

        async def send() -> None:
            for number in range(5000):
                await pipe.send(number)
            pipe.end()

        task = asyncio.create_task(send())
        received = []
        while (number := await pipe.receive()) is not None:
            received.append(number)
            await turns(1)
        await task
    assert received == list(range(5000))
    assert registrations["add_writer"] < 50
    assert registrations["add_reader"] < 50


async def test_each_message_costs_two_attempts() -> None:
    """One that finds nothing, one that takes: no wake-up for nothing on either loop."""
    attempts = 0

    def read(fd: int) -> bytes:
        nonlocal attempts
        attempts += 1
        return os.read(fd, 1)

    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    queue = WaitQueue(DescriptorReadiness(read_fd, "read"), "pipe")
    for _ in range(100):
        task = asyncio.create_task(queue.take(read, read_fd))
        await turns(2)
        os.write(write_fd, b"x")
        await task
    queue.close(lambda: os.close(read_fd))
    os.close(write_fd)
    assert attempts == 200


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("loop", LOOPS)
def test_the_kernel_sees_no_epoll_ctl_per_message(loop: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = f"""
        import asyncio, sys
        from tests._loop.objects import records
        from tests._loop.test_readiness import ping_pong

        async def main():
            with records() as there, records() as back:
                await ping_pong(there, back, 1000)

        with asyncio.Runner(loop_factory=__import__({loop!r}).new_event_loop) as runner:
            runner.run(main())
    """
    run_script(script, launcher=["strace", "-f", "-e", "trace=epoll_ctl", "-o", str(trace)], timeout=40).check()
    calls = trace.read_text().count("epoll_ctl(")
    assert 2 <= calls < 40


async def test_readable_and_nobody_asks() -> None:
    """It is removed after two reports, so the loop can sleep; what came stays in the kernel."""
    registrations = Registrations()
    with records() as pipe:
        task = asyncio.create_task(pipe.receive())
        await turns()
        pipe.put(1)
        assert await task == 1
        pipe.put(2)
        await eventually_async(lambda: registrations["remove_reader"])
        assert await pipe.receive() == 2
        task = asyncio.create_task(pipe.receive())
        await turns()
        pipe.put(3)
        assert await task == 3
    assert registrations["add_reader"] == 2


async def test_removed_before_the_number_can_be_used_again() -> None:
    for _ in range(3):
        with records() as pipe:
            waiting = asyncio.create_task(pipe.receive())
            await turns()
            numbers = pipe._ends
        with records() as again:
            assert again._ends == numbers
            task = asyncio.create_task(again.receive())
            await turns()
            again.put(7)
            async with asyncio.timeout(5):
                assert await task == 7
        with pytest.raises(ClosedResourceError):
            await waiting


async def test_the_end_is_reported() -> None:
    with records() as pipe:
        task = asyncio.create_task(pipe.receive())
        await turns()
        pipe.end()
        async with asyncio.timeout(5):
            assert await task is None


async def test_an_error_report_does_not_end_all_reports() -> None:
    """uvloop calls back once for EPOLLERR and never again; here ECONNREFUSED, then a good packet."""
    sock, peer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for each in (sock, peer):
        each.setblocking(False)
        each.bind(("127.0.0.1", 0))
    address = peer.getsockname()
    sock.connect(address)
    readers = WaitQueue(DescriptorReadiness(sock.fileno(), "read"), "socket")
    peer.close()
    for _ in range(3):
        task = asyncio.create_task(readers.take(sock.recv, 10))
        await turns()
        sock.send(b"to nobody")
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionRefusedError):
                await task
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(address)
    task = asyncio.create_task(readers.take(sock.recv, 10))
    await turns()
    sock.send(b"ping")
    peer.sendto(b"pong", sock.getsockname())
    async with asyncio.timeout(5):
        assert await task == b"pong"
    readers.close(sock.close)
    peer.close()


async def test_an_error_that_another_takes_away_does_not_end_all_reports() -> None:
    """The same, but by the time the woken task looks, the error is gone."""
    sock, peer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for each in (sock, peer):
        each.setblocking(False)
        each.bind(("127.0.0.1", 0))
    sock.connect(peer.getsockname())
    address = peer.getsockname()
    peer.close()
    readers = WaitQueue(DescriptorReadiness(sock.fileno(), "read"), "socket")

    def receive() -> bytes:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return sock.recv(10)

    task = asyncio.create_task(readers.take(receive))
    await turns()
    sock.send(b"to nobody")
    await turns(20)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(address)
        peer.sendto(b"pong", sock.getsockname())
        async with asyncio.timeout(5):
            assert await task == b"pong"
    readers.close(sock.close)


async def test_a_thief_at_the_other_end_of_the_same_pipe() -> None:
    """Two queues on copies of one descriptor: one of them is woken for nothing each time."""
    with records() as pipe:
        copy = os.dup(pipe._ends[0])
        thief = WaitQueue(DescriptorReadiness(copy, "read"), "thief")
        for number in range(200):
            tasks = [
                asyncio.create_task(pipe.receive()),
                asyncio.create_task(thief.take(os.read, copy, 8)),
            ]
            await turns()
            pipe.put(number)
            async with asyncio.timeout(5):
                done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            pending.pop().cancel()
        thief.close(lambda: os.close(copy))


async def test_what_the_kernel_cannot_poll_is_an_error() -> None:
    if sys.platform != "linux":
        pytest.skip("epoll")
    with tempfile.TemporaryFile() as file:
        queue = WaitQueue(DescriptorReadiness(file.fileno(), "read"), "file")
        with pytest.raises(PermissionError):
            await queue.take(_nothing)
        queue.close(lambda: None)


def _nothing() -> None:
    raise BlockingIOError


@pytest.mark.parametrize("loop", LOOPS)
def test_close_after_the_loop_was_closed(loop: str) -> None:
    pipe = make_pipe()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, pytest.raises(TimeoutError):
        runner.run(asyncio.wait_for(pipe.receive(), 0.001))
    pipe.close()


async def start_receiving() -> tuple[aioipc.PipeReceiveStream, aioipc.PipeSendStream, asyncio.Task[bytes]]:
    receive, send = aioipc.create_pipe()
    task = asyncio.create_task(receive.receive())
    await turns(3)
    return receive, send, task


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_forked_child_that_closes_leaves_the_parents_watch_alone(make_loop: Callable[[], object]) -> None:
    """The two share one epoll set, from which the child would remove what its parent waits for."""

    async def result() -> bytes:
        return await asyncio.wait_for(task, 10)

    with asyncio.Runner(loop_factory=make_loop) as runner:  # type: ignore[arg-type]
        receive, send, task = runner.run(start_receiving())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the time limit of the test is a thread
            child = os.fork()
        if not child:
            receive.close()
            os._exit(0)
        os.waitpid(child, 0)
        send.send_nowait(b"x")
        assert runner.run(result()) == b"x"
        receive.close()
        send.close()


async def test_forked_child_of_a_running_loop_can_close() -> None:
    """Its copy of the loop never turns, so that nothing must be left to that."""
    receive, send, task = await start_receiving()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        fd = receive.fileno()
        receive.close()
        try:
            os.fstat(fd)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222 - it ends at once
    send.send_nowait(b"x")
    assert await task == b"x"
    receive.close()
    send.close()
