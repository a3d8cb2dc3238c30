"""What happens to a supervisor when something dies, hangs, or does not listen."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import aioipc
from aioipc import ChildSpec, Supervisor, SupervisorSpec

from ..harness.processes import descendants, is_running, process, processes, wait_gone
from ..harness.scripts import Script, running_script
from . import supervised_functions as functions
from .supervising import LONG, Journal, kill, pids, replaced, replica, until

HEARTBEAT = 4.0


async def test_hung_services_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    """All at once, since each takes its time."""
    causes = {
        "blocked": (functions.block_the_loop, "blocked the loop"),
        "gil": (functions.hold_the_gil, "held the GIL"),
        "stopped": (functions.stop_itself, "was stopped"),
    }
    options = {"heartbeat_timeout": HEARTBEAT, "restart": "temporary", "shutdown": 2.0}
    children = [ChildSpec(name, function, **options) for name, (function, _) in causes.items()]  # type: ignore[arg-type]
    tell = "socket.socket(1, 2).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
    silent = f"import os, socket, time; {tell}; time.sleep(600)"
    children.append(ChildSpec("silent", [sys.executable, "-c", silent], ready="notify", **options))  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "aioipc"):
        async with Supervisor(SupervisorSpec(children)) as supervisor:
            for name in (*causes, "silent"):
                await until(supervisor, lambda name=name: replica(supervisor, name).state == "EXITED")
            for name, (_, cause) in causes.items():
                assert cause in replica(supervisor, name).last_exit
            assert "WATCHDOG=1" in replica(supervisor, "silent").last_exit
    assert "block_the_loop" in caplog.text  # its stacks


async def test_a_blocked_master_kills_nobody_who_was_ready_in_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    spec = ChildSpec("web", functions.stand_ready, env=journal.env, replicas=2, boot_timeout=1.0)
    async with Supervisor() as supervisor:
        starting = asyncio.create_task(supervisor.start_child(spec))
        await until(supervisor, supervisor.children)
        begin = time.monotonic()
        while len(journal.lines) < 2 or time.monotonic() < begin + 1.8:
            time.sleep(0.05)  # noqa: ASYNC251 - on purpose
        await starting
        assert supervisor.statistics().restarts == 0


async def test_those_that_do_not_stop(tmp_path: Path) -> None:
    """Each in its own way, within the limit of each."""
    grandchildren = "sleep 600 & sleep 600 & trap '' TERM; echo >&$NOTIFY_FD; wait; wait"
    children = [
        ChildSpec("stubborn", functions.ignore_everything, shutdown=0.3),
        ChildSpec("brutal", functions.ignore_everything, shutdown="brutal_kill"),
        ChildSpec("crashing", functions.crash_in_drain),
        ChildSpec("group", ["sh", "-c", grandchildren], ready="newline", shutdown=0.3),
    ]
    async with Supervisor(SupervisorSpec(children)) as supervisor:
        leader = replica(supervisor, "group").pid
        assert len([each for each in processes() if each.sid == leader]) == 3
        family = descendants(os.getpid())
        for name in ("stubborn", "brutal", "crashing", "group"):
            await supervisor.terminate_child(name)
            assert replica(supervisor, name).state == "EXITED"
        assert "SIGSEGV" in replica(supervisor, "crashing").last_exit
        assert not [each for each in processes() if each.sid == leader and not each.is_zombie]
    assert not any(is_running(each.pid) for each in family if each.ppid != os.getpid() and process(each.pid) == each)


async def test_quick_shutdown_and_the_deadline_of_the_whole() -> None:
    for leave in ({"timeout": 0.1}, {"quick": True}):
        children = [ChildSpec(f"s{i}", functions.ignore_everything, shutdown=600.0) for i in range(3)]
        async with Supervisor(SupervisorSpec(children)) as supervisor:
            before = pids(supervisor)
            await supervisor.shutdown(**leave)  # type: ignore[arg-type]
            assert not any(is_running(pid) for pid in before.values() if pid)


async def test_its_zygote_dies(tmp_path: Path) -> None:
    """One death is one restart, however many processes go with it."""
    journal = Journal(tmp_path / "journal")
    async with Supervisor(SupervisorSpec([journal.standing("web", replicas=3)], intensity=2)) as supervisor:
        for signum in (signal.SIGKILL, signal.SIGSEGV):
            before = set(pids(supervisor).values())
            (zygote,) = supervisor.statistics().zygotes.values()
            os.kill(zygote, signum)
            await until(supervisor, lambda old=before: not old & set(pids(supervisor).values()))
            await until(supervisor, lambda: supervisor.children()[0].ready == 3)
        assert replica(supervisor, "web").last_exit.startswith("its zygote")


async def test_processes_are_replaced_when_they_have_served_long_enough(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    children = [
        ChildSpec("large", functions.use_memory, max_memory=48 << 20),
        journal.standing("old", max_age=0.5),
        journal.standing("young"),
    ]
    async with Supervisor(SupervisorSpec(children, intensity=0)) as supervisor:  # these are no failures
        before = pids(supervisor)
        for name in ("large", "old"):
            await replaced(supervisor, name, before[f"{name}.0"])
        assert pids(supervisor)["young.0"] == before["young.0"]
        assert supervisor.statistics().restarts >= 2


async def test_readiness_of_commands(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    newline = f"while ! test -e {mark}; do sleep 0.02; done; echo >&$NOTIFY_FD; exec sleep 600"
    async with Supervisor() as supervisor:
        starting = asyncio.ensure_future(
            supervisor.start_child(ChildSpec("newline", ["sh", "-c", newline], ready="newline"))
        )
        await until(supervisor, lambda: supervisor.children() and replica(supervisor, "newline").pid)
        assert replica(supervisor, "newline").state == "STARTING"
        mark.touch()
        await starting
        await supervisor.start_child(ChildSpec("delay", ["sleep", "600"], ready=0.05))
        await supervisor.start_child(ChildSpec("late", functions.never_ready, ready=0.05, shutdown=0.1))
        assert {child.state for child in supervisor.children()} == {"up"}
        with pytest.raises(aioipc.WorkerBootError, match=r"target: 'no-such-program'"):
            await supervisor.start_child(ChildSpec("none", ["no-such-program"]))


def test_in_a_thread(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")

    async def main() -> None:
        async with Supervisor(SupervisorSpec([journal.standing("web")])) as supervisor:
            first = kill(supervisor, "web")
            await replaced(supervisor, "web", first)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(LONG)
    assert journal.lines == ["+web.0", "+web.0", "-web.0"]


# -- the program itself ------------------------------------------------------------------------------------

PROGRAM = """
    import asyncio, aioipc
    from tests.supervisor.supervised_functions import {function}

    async def main():
        inner = aioipc.SupervisorSpec([aioipc.ChildSpec("inner", {function})])
        children = [aioipc.ChildSpec("backend", inner), aioipc.ChildSpec("web", {function}, replicas=2)]
        children.append(aioipc.ChildSpec("command", ["sh", "-c", "sleep 600 & sleep 600"], ready=0.1))
        async with aioipc.Supervisor(aioipc.SupervisorSpec(children)) as supervisor:
            print("up", flush=True)
            await supervisor.wait()

    aioipc.run(main)
"""


def family_of(script: Script) -> list[int]:
    return [each.pid for each in descendants(script.pid)]


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_signals_under_run(signals: list[signal.Signals], tmp_path: Path) -> None:
    """One signal: everything stops in order. Two: at once, though nobody listens."""
    function = "stand" if len(signals) == 1 else "ignore_everything"
    with running_script(PROGRAM.format(function=function), env={"JOURNAL": str(tmp_path / "journal")}) as script:
        script.wait_output("up", LONG)
        family = family_of(script)
        for signum in signals:
            script.send_signal(signum)
            time.sleep(0.1 if len(signals) > 1 else 0)  # so that they do not become one
        ended = script.wait(LONG)
        assert ended.returncode == (130 if signals[0] == signal.SIGINT else -signal.SIGTERM), ended
        for pid in family:
            wait_gone(pid)
    if len(signals) == 1:
        lines = Journal(tmp_path / "journal").lines
        assert [line[1:-2] for line in lines] == ["backend/inner", "web", "web", "web", "web", "backend/inner"]
