"""The control socket: what is asked is answered, and no client can do more harm than to its own connection."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aioipc
from aioipc.master import control_server
from aioipc.master.control_client import ControlClient, find_masters
from aioipc.master.control_server import ControlServer
from aioipc.master.log_tail import LogTail
from aioipc.supervisor.signal_numbers import signal_number
from aioipc.wire import control_protocol as protocol
from aioipc.wire.control_protocol import Answer, Failure

from ..harness.processes import eventually_async

LONG = 30


class Doing:
    """Answers requests; ``reload`` waits until it may."""

    def __init__(self) -> None:
        self.done: list[protocol.AnyRequest] = []
        self.may_go_on = asyncio.Event()

    async def __call__(self, request: protocol.AnyRequest) -> Answer:
        self.done.append(request)
        if isinstance(request, protocol.Reload):
            await self.may_go_on.wait()
        if isinstance(request, protocol.Stop):
            return Answer(ok=False, id=request.id, error=Failure("not-found", f"there is no {request.name}"))
        return Answer(ok=True, id=request.id, result="x" * 10)


@pytest.fixture
def doing() -> Doing:
    return Doing()


@pytest.fixture
def tail() -> LogTail:
    return LogTail()


@pytest_asyncio.fixture
async def server(
    tmp_path: Path, doing: Doing, tail: LogTail, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControlServer]:
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(tmp_path))
    found = ControlServer(str(tmp_path / f"run-{os.getpid()}.sock"), doing, tail)
    try:
        yield found
    finally:
        doing.may_go_on.set()
        await found.aclose()
    assert not Path(found.path).is_socket()  # noqa: ASYNC240


def ask(path: str, command: str, **arguments: Any) -> Any:
    with ControlClient(path) as client:
        return client.request(command, timeout=30, **arguments)


async def test_question_and_answer(server: ControlServer, doing: Doing) -> None:
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
    assert find_masters() == {os.getpid(): server.path}
    assert await asyncio.to_thread(ask, server.path, "scale", name="web", replicas=3) == "x" * 10
    assert doing.done == [protocol.Scale(name="web", replicas=3, id=1)]
    for command, arguments, kind in (
        ("stop", {"name": "db"}, "not-found"),
        ("explode", {}, "protocol"),
        ("scale", {"name": "web"}, "protocol"),
    ):
        with pytest.raises(aioipc.ControlError) as caught:
            await asyncio.to_thread(ask, server.path, command, **arguments)
        assert caught.value.kind == kind
    with pytest.raises(ValueError, match="too long"):
        await asyncio.to_thread(ask, server.path, "stop", name="x" * 70000)


async def test_several_at_once(server: ControlServer, doing: Doing) -> None:
    """A command that takes long is in nobody's way, and its client may go."""
    reloading = asyncio.ensure_future(asyncio.to_thread(ask, server.path, "reload"))
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(protocol.encode_frame(protocol.Reload()))
    await eventually_async(lambda: len(doing.done) == 2, LONG)
    writer.close()
    assert await asyncio.to_thread(ask, server.path, "status")
    assert not reloading.done()
    doing.may_go_on.set()
    assert await reloading
    del reader


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a request that never ends."""
    for byte in b"\0\0" + b"x" * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)
        if writer.is_closing():  # to write to it now would be a RuntimeError of uvloop
            raise ConnectionResetError


async def test_garbage_and_slow_clients(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "HALF_TIME", 0.2)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0\0\0\x02{}", b"\0\0\0\1", b"\0\0\0\0"):
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.write(garbage)
        writer.write_eof()
        answer = await reader.read()
        expected = b"" if garbage == b"\0\0\0\1" else b'"kind":"protocol"'  # half a request: not waited for long
        assert expected in answer
        writer.close()
    # One that sends its request a byte at a time.
    reader, writer = await asyncio.open_unix_connection(server.path)
    with pytest.raises(ConnectionError):
        await drip(writer)
    writer.close()
    # One that never reads: the answers fill its socket, and it is given up.
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(server.path)
    silent.setblocking(False)
    request = protocol.encode_frame(protocol.Status(id=1 << 50)) * 100
    try:
        for _ in range(10_000):
            await asyncio.sleep(0)
            try:
                silent.send(request)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        pytest.fail("it was never given up")
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        silent.close()
    assert await asyncio.to_thread(ask, server.path, "status")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_strangers(server: ControlServer, tmp_path: Path) -> None:
    """The permissions keep them out; and where somebody has changed those, the master does."""
    place = Path(tempfile.mkdtemp())
    path = place / "open.sock"
    try:
        place.chmod(0o755)  # noqa: ASYNC240
        os.link(server.path, path)
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); print(s.recv(999))"
        command = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/env", "python3", "-c", code]
        for mode in (0o600, 0o666):
            path.chmod(mode)
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=LONG)
            said = done.stdout + done.stderr
            assert ("for its own user" if mode == 0o666 else "PermissionError") in said, said
    finally:
        path.unlink(missing_ok=True)
        place.rmdir()  # noqa: ASYNC240


async def test_too_many_connections(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "MOST_CONNECTIONS", 2)
    first = [await asyncio.open_unix_connection(server.path) for _ in range(2)]
    reader, writer = await asyncio.open_unix_connection(server.path)
    assert b"connections to this master already" in await reader.read()
    for _, each in [*first, (reader, writer)]:
        each.close()


async def test_follow(server: ControlServer, tail: LogTail) -> None:
    def log(text: str) -> None:
        tail.handle(logging.LogRecord("a", logging.INFO, "", 0, text, (), None))

    log("before")
    seen: list[str] = []

    def follow() -> None:
        with ControlClient(server.path) as client:
            for record in client.follow(5):
                seen.append(record["message"])
                if record["message"] == "after":
                    return

    following = asyncio.ensure_future(asyncio.to_thread(follow))
    await eventually_async(lambda: bool(seen), LONG)
    log("after")
    await following
    assert seen == ["before", "after"]
    await eventually_async(lambda: not tail._followers, LONG)


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(tmp_path))
    assert find_masters() == {}
    with pytest.raises(aioipc.ControlError, match="No such file"):
        ControlClient(tmp_path / "none.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "run-1.sock"))
    assert find_masters() == {}
    with pytest.raises(aioipc.ControlError, match="refused") as caught:
        ControlClient(tmp_path / "run-1.sock")
    assert caught.value.kind == "unreachable"


def test_signals_by_name() -> None:
    assert [signal_number(each) for each in ("HUP", "sighup", "1", 1)] == [1] * 4
    with pytest.raises(ValueError, match="no signal 'NOPE'"):
        signal_number("NOPE")
