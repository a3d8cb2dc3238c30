"""What `aioipc run` tells its service manager from the start to the end: each datagram, in order, and nothing else;
and what its processes are not to know of the manager.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

from ..harness.processes import descendants, eventually
from ..harness.service_manager import ServiceManager, service_manager
from .masters import master

SERVICE = """
import json, os, pathlib

async def serve(worker):
    pathlib.Path("service.json").write_text(json.dumps(dict(os.environ)))
    await worker.ready()
    await worker.stopping()
"""
SERVICES = """
child.web.target = "shop:serve"
child.db.target = ["sh", "-c", "env > db.env; mv db.env db.done; exec sleep 1000"]
child.db.ready = 0.01
"""
MORE = "EXTEND_TIMEOUT_USEC=30000000"
RELOADING = f"RELOADING=1 MONOTONIC_USEC=N {MORE} STATUS=reloading"
STOPPING = f"STOPPING=1 {MORE} STATUS="
INTERVAL = 0.2
OF_THE_MANAGER = dict.fromkeys(
    (
        *("NOTIFY_SOCKET", "NOTIFY_FD", "MAINPID", "MAINPIDFDID", "FDSTORE"),
        *("WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_PIDFDID"),
        *("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"),
    ),
    "1",
)
AS_ITSELF = ("sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh")
QUICKLY = (
    "import aioipc.supervisor.notify_sender as sender, aioipc.cli.main as command\n"
    "sender._EXTEND_EVERY = 0.05\n"
    "command.main()"
)


def said(manager: ServiceManager) -> list[str]:
    """What the manager has heard, but for the watchdog, with the time of a reload left out."""
    return [re.sub(r"(MONOTONIC_USEC)=\d+", r"\1=N", each) for each in manager.heard()]


def microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_everything_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    (tmp_path / "services.toml").write_text(SERVICES)
    with service_manager() as manager:
        env = {**OF_THE_MANAGER, **manager.environ(watchdog=2 * INTERVAL)}
        with master(tmp_path, "services.toml", env=env, prefix=AS_ITSELF) as running:
            manager.wait("READY=1", 30)
            since = time.monotonic()
            manager.wait("WATCHDOG=1", 30)
            check_what_is_inherited(running.pid, tmp_path)

            before = microseconds()
            running.send(signal.SIGHUP)
            running.wait_log("the supervisor reloaded: generation 1")
            manager.wait("STATUS=reloaded", 30)
            (began,) = re.findall(r"MONOTONIC_USEC=(\d+)", " ".join(manager.heard()))
            assert before <= int(began) <= microseconds()

            (tmp_path / "services.toml").write_text("child.web.target = 3")
            running.send(signal.SIGHUP)
            manager.wait("given up", 30)
            count = len(manager.heard(watchdog=True))
            eventually(lambda: manager.heard(watchdog=True)[count:].count("WATCHDOG=1") >= 2, 30)
            pings = manager.heard(watchdog=True).count("WATCHDOG=1")
            assert pings <= 2 + (time.monotonic() - since) / INTERVAL
            running.send(signal.SIGTERM)
            assert running.wait() == 0, running.log
        assert said(manager) == [
            f"{MORE} STATUS=starting",
            "READY=1 STATUS=services 2, processes 2",
            *(RELOADING, "READY=1 STATUS=reloaded: the same services, in new processes"),
            *(RELOADING, "READY=1 STATUS=the reload was given up"),
            f"{STOPPING}stopping",
        ]
        everything = manager.heard(watchdog=True)
        assert everything[-1].startswith("STOPPING=1")
        assert everything.index("WATCHDOG=1") > 1
        assert {*manager.senders} == {running.pid}


def check_what_is_inherited(pid: int, directory: Path) -> None:
    """No process below the master knows of its manager: not by what it was started with, nor by what it sees."""
    for each in descendants(pid):
        started_with = Path(f"/proc/{each.pid}/environ").read_text().split("\0")
        assert not [line for line in started_with if line.startswith(("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"))]
    eventually((directory / "db.done").exists, 30)
    of_the_program = {line.partition("=")[0] for line in (directory / "db.done").read_text().splitlines()}
    assert not of_the_program & OF_THE_MANAGER.keys()
    assert not json.loads((directory / "service.json").read_text()).keys() & OF_THE_MANAGER.keys()


def test_more_time_while_it_is_needed(tmp_path: Path) -> None:
    """For a start and a reload again and again, and for a stop at once as much as it may take."""
    (tmp_path / "slow.toml").write_text('child.db = {target = ["sleep", "1000"], ready = 0.4}')
    with service_manager() as manager:
        options = {"env": manager.environ(), "program": ("-c", QUICKLY)}
        with master(tmp_path, "slow.toml", "--shutdown-timeout", "2m", **options) as running:
            manager.wait("READY=1", 30)
            start = len(said(manager))
            assert said(manager)[:3] == [f"{MORE} STATUS=starting", MORE, MORE]
            running.send(signal.SIGHUP)
            manager.wait("STATUS=reloaded", 30)
            assert said(manager)[start : start + 3] == [RELOADING, MORE, MORE]
            running.send(signal.SIGTERM)
            assert running.wait() == 0, running.log
        end = [
            "READY=1 STATUS=reloaded: the same services, in new processes",
            "STOPPING=1 EXTEND_TIMEOUT_USEC=125000000 STATUS=stopping",
        ]
        assert said(manager)[-2:] == end


def test_ends_by_itself(tmp_path: Path) -> None:
    """What cannot start, and what gives up: the manager is told that it ends, and why."""
    (tmp_path / "broken.toml").write_text('child.web.target = ["false"]')
    (tmp_path / "dying.toml").write_text(
        'supervisor.intensity = 1\nchild.web = {target = ["sleep", "0.1"], ready = 0.01}'
    )
    for file, code, up, why in (("broken", 3, 0, "web cannot start"), ("dying", 4, 1, "more than 1 restarts")):
        with service_manager() as manager, master(tmp_path, f"{file}.toml", env=manager.environ()) as running:
            assert running.wait() == code, running.log
            first, *ready, last = said(manager)
            assert first == f"{MORE} STATUS=starting"
            assert ready == ["READY=1 STATUS=services 1, processes 1"] * up
            assert last.startswith(STOPPING)
            assert why in last
