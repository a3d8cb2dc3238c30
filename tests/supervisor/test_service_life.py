"""Services from their start to every kind of end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc.supervisor.launch import Launch
from aioipc.supervisor.service_context import WorkerContext
from aioipc.supervisor.service_control import EXIT_DEADLINE
from aioipc.wire.service_protocol import ENDED, SIGNALLED

from ..harness.processes import command_line, eventually_async, is_running, open_descriptors, wait_ended
from . import service_functions as f
from .launching import LONG, launcher, proc_status

CAPTURED = Launch(stdout="capture", stderr="capture")
HERE = f.__name__


async def test_from_start_to_stop(loop_of_services: str, caplog: pytest.LogCaptureFixture) -> None:
    async with launcher() as start:
        serving = start.service(f.serve, CAPTURED)
        telling = start.service(
            f"{HERE}:tell", CAPTURED, name="a/b", logs=True, generation=3, concurrency=9, shutdown=1.0
        )
        pid = await serving.heard("spawned")
        await serving.heard("ready")
        assert serving.events == [("spawned", pid), ("status", "starting"), ("ready",)]
        assert serving.process.pid == pid
        await eventually_async(lambda: serving.process.work == 3, LONG)
        assert serving.process.state == "RUNNING"
        await telling.heard("ready")
        for owner in (serving, telling):
            owner.process.stop(start.loop.time() + 20)
            owner.process.stop(start.loop.time() + 30)
            assert owner.process.state == "STOPPING"
            assert (await owner.ended()).exitcode == 0
        assert serving.names == ["spawned", "status", "ready", "exited"]
        assert serving.process.work == 3
        assert serving.process.state == "EXITED"
    assert [line.text for line in start.lines if line.service == "web"] == ["stopping True"]
    assert [line.text for line in start.lines if line.service == "a/b"] == [
        loop_of_services,
        "a/b 1 True 3 9 a/b.1",
        "False inf []",
    ]
    [record] = [record for record in caplog.records if record.name == "from.service"]
    assert record.getMessage() == "logged a/b"
    assert (record.levelno, record.processName, vars(record)["service"]) == (logging.WARNING, "a/b.1", "a/b")


async def local_service(worker: WorkerContext) -> None:
    await worker.ready()
    await worker.stopping()


async def test_endings(loop_of_services: str, tmp_path: Path) -> None:
    """What exit code and what is told for each way in which the function can end by itself."""
    (tmp_path / "exits_at_import.py").write_text("import sys; sys.exit('not today')")
    (tmp_path / "found_here.py").write_text("async def serve(worker): pass")
    value = len(str(tmp_path))

    async def closure(worker: Any) -> None:
        print(value)

    expected: dict[Any, tuple[int, str]] = {
        f.returns: (0, ""),
        f.returns_number: (0, ""),
        closure: (0, ""),
        "found_here:serve": (0, ""),
        f.not_async: (1, "TypeError: a service needs an async function; <function not_async"),
        f.raises: (1, "ValueError: no luck"),
        f.raises_when_ready: (1, "before\nTraceback"),
        f.exits: (7, ""),
        f.exits_with_text: (1, "words"),
        f.interrupted: (130, "KeyboardInterrupt"),
        f.cancelled_by_itself: (1, "CancelledError"),
        "no.such.module:serve": (1, "ModuleNotFoundError: No module named 'no'"),
        f"{HERE}:nothing.there": (1, "AttributeError"),
        f"{HERE}:__name__": (1, "TypeError: a service needs an async function"),
        "exits_at_import:serve": (1, "not today"),
    }
    async with launcher() as start:
        for functions in (list(expected)[:8], list(expected)[8:]):
            owners = {each: start.service(each, CAPTURED, app_dir=str(tmp_path)) for each in functions}
            for each, owner in owners.items():
                code, text = expected[each]
                report = await owner.ended()
                assert (each, report.exitcode) == (each, code), owner.stderr
                assert text in owner.stderr
                assert "service_runner" not in owner.stderr
                assert "spawned" in owner.names
                if each in (f.returns, f.exits, f.raises):
                    assert ("stopping", ENDED) in owner.events
                if each is f.raises:
                    assert owner.stderr.startswith("Traceback (most recent call last):\n  File")
    assert start.texts() == [str(value)]


async def test_asked_to_stop_early(loop_of_services: str) -> None:
    """Before it is there, and by SIGTERM at any moment of its start: it ends well, whether it was ready or not."""
    async with launcher() as start:
        at_once = start.service(f.serve)
        at_once.process.stop(start.loop.time() + 20)
        stormed = [start.service(f.serve) for _ in range(4)]
        for _ in range(30):
            for owner in stormed:
                owner.process.send_signal(signal.SIGTERM)
                owner.process.send_signal(signal.SIGINT)
                owner.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.002)
        for owner in (at_once, *stormed):
            report = await owner.ended()
            assert report.exitcode == 0, (report, owner.stderr, owner.events)


async def test_sigterm_is_a_request(loop_of_services: str) -> None:
    async with launcher() as start:
        owner = start.service(f.serve, CAPTURED)
        await owner.heard("ready")
        pid = owner.process.pid
        for signum in (signal.SIGINT, signal.SIGHUP):
            os.kill(pid, signum)
        os.kill(pid, signal.SIGTERM)
        assert await owner.heard("stopping") == SIGNALLED
        assert (await owner.ended()).exitcode == 0
        assert start.texts() == ["stopping True"]


async def test_deadline(loop_of_services: str) -> None:
    """What does not stop is cancelled, and ends by itself even where it blocks, swallows that or leaves threads."""
    async with launcher() as start:
        owners = {
            each: start.service(each, CAPTURED)
            for each in (f.ignores_stop, f.ignores_everything, f.blocks_the_loop, f.hangs_at_exit, f.hanging_thread)
        }
        for owner in owners.values():
            await owner.heard("ready")
        for owner in owners.values():
            owner.process.stop(start.loop.time() + 1.5)
        for each, owner in owners.items():
            report = await owner.ended()
            assert (each, report.exitcode) == (each, EXIT_DEADLINE)
            assert "by its deadline" in owner.stderr
        assert start.texts() == ["cancelled"]


async def test_an_earlier_deadline_counts(loop_of_services: str) -> None:
    async with launcher() as start:
        owner = start.service(f.ignores_stop)
        await owner.heard("ready")
        owner.process.stop(start.loop.time() + 500)
        owner.process.stop(start.loop.time() + 0.5)
        owner.process.stop(start.loop.time() + 500)
        assert (await owner.ended()).exitcode == EXIT_DEADLINE


@pytest.mark.parametrize("how", ["master", "signal"])
async def test_asked_to_stop_before_it_is_ready(how: str, loop_of_services: str) -> None:
    """It is cancelled once, at once, and has ended well, as it had accepted nothing."""
    async with launcher() as start:
        owner = start.service(f.withdraws, CAPTURED, shutdown=500.0)
        await owner.heard("status")
        for _ in range(2):
            if how == "master":
                owner.process.stop(start.loop.time() + 500)
            else:
                owner.process.send_signal(signal.SIGTERM)
        assert (await owner.ended()).exitcode == 0, owner.stderr
        assert start.texts() == ["cancelled True"]
        assert "Traceback" not in owner.stderr


async def test_who_need_not_say_that_it_is_ready_may_have_accepted_work() -> None:
    async with launcher() as start:
        owner = start.service(f.withdraws, CAPTURED, says_ready=False)
        await owner.heard("status")
        owner.process.stop(start.loop.time() + 0.5)
        assert (await owner.ended()).exitcode == EXIT_DEADLINE


async def test_ready_by_the_masters_count(loop_of_services: str) -> None:
    """Its standard error is free then."""
    async with launcher() as start:
        owner = start.service(f.never_ready, CAPTURED)
        await owner.heard("status")
        assert start.texts("stderr") == []
        assert owner.process.stderr_tail() == "still thinking\n"
        owner.process.assume_ready()
        await eventually_async(lambda: start.texts("stderr") == ["still thinking"], LONG)
        assert owner.names == ["spawned", "status"]
        owner.process.kill("enough")
        assert (await owner.ended()).reason == "enough"


async def test_a_flood_of_status_texts_is_thinned_out(loop_of_services: str) -> None:
    async with launcher() as start:
        owner = start.service(f.busy_status)
        await owner.heard("ready")
        await eventually_async(lambda: ("status", "at 9999") in owner.events, LONG)
        assert owner.names.count("status") < 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_what_it_forks_is_no_service(loop_of_services: str) -> None:
    async with launcher() as start:
        owner = start.service(f.forks, CAPTURED)
        await owner.heard("ready")
        owner.process.stop(start.loop.time() + 20)
        assert (await owner.ended()).exitcode == 0
        assert start.texts() == ["child -15"]


async def test_grandchildren_go_with_the_group(loop_of_services: str) -> None:
    async with launcher() as start:
        killed, ended = start.service(f.has_grandchildren), start.service(f.has_grandchildren)
        pids = [int(await owner.heard("status")) for owner in (killed, ended)]
        for owner in (killed, ended):
            await owner.heard("ready")
        assert all(map(is_running, pids))
        killed.process.kill("enough")
        ended.process.stop(start.loop.time() + 20)
        for owner in (killed, ended):
            await owner.ended()
        for pid in pids:
            wait_ended(pid)


# -- listeners and descriptors -----------------------------------------------------------------------


async def ask(address: Any) -> int:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"hello\n")
        pid, word = (await reader.read()).split()
    finally:
        writer.close()
        await writer.wait_closed()
    assert word == b"hello"
    return int(pid)


def sockets_of(pid: int) -> list[str]:
    return [target for target in open_descriptors(pid).values() if target.startswith("socket:")]


def private_of(pid: int) -> set[tuple[int, int]]:
    """Sockets, pipes and anonymous files beyond the standard streams, whatever they are called."""
    found = set()
    for number, target in open_descriptors(pid).items():
        if number > 2 and target.startswith(("socket:", "pipe:", "/memfd:")):
            status = os.stat(f"/proc/{pid}/fd/{number}")
            found.add((status.st_dev, status.st_ino))
    return found


async def test_listeners_and_nothing_of_others(loop_of_services: str) -> None:
    """Two share a listener; each has its own two sockets to the master, and no other's."""
    with socket.create_server(("127.0.0.1", 0)) as shared, socket.create_server(("127.0.0.1", 0)) as other:
        numbers = {sock: f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in (shared, other)}
        async with launcher() as start:
            owners = [start.service(f.echo, listeners={"http": shared.fileno()}) for _ in range(2)]
            owners.append(start.service(f.echo, listeners={"http": other.fileno()}, fresh=True))
            owners.append(start.service(f.serve))
            for owner in owners:
                await owner.heard("ready")
            pids = [owner.process.pid for owner in owners]
            assert await ask(shared.getsockname()) in pids[:2]
            assert await ask(other.getsockname()) == pids[2]
            listening = {(status.st_dev, status.st_ino) for status in (os.fstat(s.fileno()) for s in numbers)}
            seen = private_of(start.zygote.pid)
            for pid, listener in zip(pids, (shared, shared, other, None), strict=True):
                held = [each for each in sockets_of(pid) if each in numbers.values()]
                assert held == ([numbers[listener]] if listener else [])
                private = private_of(pid) - listening
                assert len(private) >= 4
                assert not private & seen
                seen |= private
            assert not set(numbers.values()) & set(sockets_of(start.zygote.pid))
            for owner in owners:
                owner.process.stop(start.loop.time() + 20)
                assert (await owner.ended()).exitcode == 0


async def test_what_cannot_even_be_asked_for() -> None:
    lock = threading.Lock()

    async def holds_a_lock(worker: WorkerContext) -> None:
        lock.acquire()

    async with launcher() as start:
        with pytest.raises(ValueError, match="200 listeners, not 201"):
            start.service(f.serve, listeners={str(i): 0 for i in range(201)})
        with pytest.raises(aioipc.SerializationError, match="service 'web' cannot be sent"):
            start.service(holds_a_lock)


def test_signals_and_session_of_a_service() -> None:
    """As decision 7 has it: own session, INT and HUP ignored, TERM handled, nothing blocked."""

    async def main() -> None:
        async with launcher() as start:
            owner = start.service(f.serve)
            await owner.heard("ready")
            pid = owner.process.pid
            assert command_line(pid) == "web.0"
            assert os.getsid(pid) == os.getpgid(pid) == pid
            assert int(proc_status(pid, "SigBlk"), 16) == 0
            ignored, caught = (int(proc_status(pid, name), 16) for name in ("SigIgn", "SigCgt"))
            for signum in (signal.SIGINT, signal.SIGHUP):
                assert ignored & 1 << (signum - 1)
            assert caught & 1 << (signal.SIGTERM - 1)
            assert open_descriptors(pid)[0] == os.devnull

    asyncio.run(main())
