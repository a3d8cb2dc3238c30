"""What the master tells its service manager, checked by one: each datagram, in order, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioipc.supervisor.notify_sender import NotifySender

from ..harness.processes import eventually_async
from ..harness.service_manager import ServiceManager, service_manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path if request.param == "path" else None) as found:
        yield found


def test_a_whole_life(manager: ServiceManager) -> None:
    sender = NotifySender.from_environ(manager.environ())
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    sender.reloading()  # not up yet: nothing
    sender.status("0 of 2 ready")
    sender.starting("starting")
    sender.ready("2 of 2 ready")
    sender.starting("too late")
    sender.reloading("reloading")
    sender.reloading("again")
    sender.ready("reloaded")
    sender.stopping(25, "draining")
    sender.stopping(25)
    sender.ready()
    sender.reloading()
    sender.status("1 left")
    sender.close()
    sender.close()
    sender.status("closed")
    heard = manager.heard()
    (usec,) = re.findall(r"MONOTONIC_USEC=(\d+)", heard[3])
    assert before <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert heard == [
        "STATUS=0 of 2 ready",
        "EXTEND_TIMEOUT_USEC=30000000 STATUS=starting",
        "READY=1 STATUS=2 of 2 ready",
        f"RELOADING=1 MONOTONIC_USEC={usec} EXTEND_TIMEOUT_USEC=30000000 STATUS=reloading",
        "READY=1 STATUS=reloaded",
        "STOPPING=1 EXTEND_TIMEOUT_USEC=25000000 STATUS=draining",
    ]
    assert {*manager.senders} == {os.getpid()}


def test_the_environment_is_taken() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    sender = NotifySender.from_environ(environ)
    assert environ == {"HOME": "/"}
    assert sender.watchdog_timeout == 30
    assert NotifySender.from_environ({"WATCHDOG_USEC": "1000000"}).watchdog_timeout == 1
    assert NotifySender.from_environ({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_timeout is None


async def test_the_watchdog_is_fed_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with service_manager() as manager:
        sender = NotifySender.from_environ(manager.environ(watchdog=0.02, pid=os.getpid()))
        well = True

        def healthy() -> bool:
            if not well:
                raise LookupError("not well")
            return True

        sender.watch(healthy)
        await manager.wait_async("WATCHDOG=1")
        well = False
        await eventually_async(lambda: "it is not healthy" in caplog.text)
        silent = len(manager.heard(watchdog=True))
        await eventually_async(lambda: caplog.text.count("LookupError: not well") > 2)
        assert len(manager.heard(watchdog=True)) == silent
        assert caplog.text.count("it is not healthy") == 1
        well = True
        await eventually_async(lambda: len(manager.heard(watchdog=True)) > silent)
        sender.close()
        assert {*manager.datagrams} == {"WATCHDOG=1"}


async def test_what_takes_long_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start and a reload, as long as they last and the loop turns; and no other time."""
    monkeypatch.setattr("aioipc.supervisor.notify_sender._EXTEND_EVERY", 0.01)
    more = "EXTEND_TIMEOUT_USEC=30000000"
    with service_manager() as manager:
        sender = NotifySender.from_environ(manager.environ(watchdog=0.02))
        sender.starting()
        await eventually_async(lambda: len(manager.heard()) >= 3)
        sender.ready()
        sender.watch(lambda: True)
        count = len(manager.heard())
        assert manager.heard() == [*[more] * (count - 1), "READY=1"]
        sender.reloading()
        await eventually_async(lambda: len(manager.heard()) >= count + 3)
        sender.stopping(1)
        until = len(manager.heard(watchdog=True))
        assert manager.heard()[-2:] == [more, "STOPPING=1 EXTEND_TIMEOUT_USEC=1000000"]
        sender.watch(lambda: True)
        await asyncio.sleep(0.1)
        assert len(manager.heard(watchdog=True)) == until
        sender.close()


async def test_without_a_watchdog_nobody_is_asked() -> None:
    with service_manager() as manager:
        for sender in (NotifySender(), NotifySender(manager.address), NotifySender(watchdog_timeout=0.001)):
            sender.watch(lambda: pytest.fail("asked"))
            sender.ready()
            sender.close()
        assert manager.heard() == ["READY=1"]


async def test_a_full_queue_keeps_the_order(tmp_path: Path) -> None:
    with service_manager(tmp_path) as manager, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"STATUS=somebody else\n", manager.address)
        sender = NotifySender(manager.address)
        sender.ready()
        for number in range(200):  # more than may wait: what only tells people is left out
            sender.status(str(number))
        sender.stopping(1)
        heard = [each for each in await manager.wait_async("STOPPING=1") if each != "STATUS=somebody else"]
        assert heard[0] == "READY=1"
        assert heard[-2:] == ["STATUS=199", "STOPPING=1 EXTEND_TIMEOUT_USEC=1000000"]
        assert len(heard) == 64
        sender.close()


async def test_a_manager_that_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with service_manager(tmp_path) as manager:
        sender = NotifySender(manager.address)
    for _ in range(3):
        sender.status("nobody listens")
    (tmp_path / "notify").unlink()
    sender.ready()
    assert caplog.text.count("cannot be told anything") == 1
    with service_manager(tmp_path) as manager:
        sender.status("back")
        assert manager.heard() == ["STATUS=back"]
    sender.close()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "must be a path or '@name', not 'vsock:2:1'"),
        ({"NOTIFY_SOCKET": "@"}, "must be a path or '@name'"),
        ({"NOTIFY_SOCKET": "/" + "x" * 200}, "cannot be told anything at /xxx.*too long"),
        (
            {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
            "WATCHDOG_USEC must be a number of microseconds, not 'soon'",
        ),
    ],
)
def test_nonsense_is_no_error(environ: dict[str, str], words: str, caplog: pytest.LogCaptureFixture) -> None:
    sender = NotifySender.from_environ(environ)
    sender.ready()
    sender.close()
    assert re.search(words, caplog.text)
