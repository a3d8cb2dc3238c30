"""The master dies or hangs, with children in every state below it, while it starts, reloads and stops.

Killed: everything is gone within two seconds, what hangs and what has fled into a session of its own included, and
the ports are free. Only held up: nobody who is well is taken for one that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

from aioipc import ChildSpec, Supervisor, SupervisorSpec

from ..harness.processes import children, eventually, eventually_async, wait_state
from ..harness.scripts import Script, running_script
from . import every_state
from . import supervised_functions as functions
from .recording import recorded
from .supervising import LONG, Journal, pids, replica, until
from .test_fault_sweep import bind, marked

__all__ = ["recorded"]

GONE_WITHIN = 2.0
HELD_UP = 4
"""Seconds; longer than the master waits for anything in these tests, and than a zygote has to do what it is told."""

PROGRAM = """
    import asyncio, os, sys
    from pathlib import Path
    import aioipc
    from tests.supervisor import every_state

    where, moment = Path(sys.argv[1]), sys.argv[2]

    async def main():
        spec = every_state.spec(where, every_state.FUGITIVE)
        if moment == "starting":
            spec = aioipc.SupervisorSpec([*spec.children, every_state.child("starting", where)])
        async with aioipc.Supervisor(spec) as supervisor:
            ready = next(each for each in supervisor.children() if each.name == "ready")
            print(ready.listeners["http"].rpartition(":")[2], flush=True)
            waiting = await every_state.reach(supervisor, where)
            if moment == "reloading":
                waiting.append(asyncio.ensure_future(supervisor.reload()))
            if moment == "stopping":
                waiting.append(asyncio.ensure_future(supervisor.shutdown(600)))
            await asyncio.sleep(0.1)
            (where / "reached").touch()
            await asyncio.Event().wait()

    aioipc.run(main)
"""


MOMENTS = {
    "running": (signal.SIGKILL, ""),
    "crashing": (signal.SIGSEGV, "the zygote is stopped"),
    "starting": (signal.SIGKILL, ""),
    "reloading": (signal.SIGKILL, ""),
    "stopping": (signal.SIGKILL, ""),
}


def test_killed(tmp_path: Path) -> None:
    """One after the other. How long it takes depends on the machine, too: the quickest counts, and all have an end."""
    with contextlib.ExitStack() as stack:
        masters = {}
        for moment in MOMENTS:
            where = tmp_path / moment
            where.mkdir()
            env = {**every_state.environment(where), "SWEPT_BY": str(where)}
            script = running_script(PROGRAM, str(where), moment, env=env)
            masters[moment] = stack.enter_context(script)
        for moment, script in masters.items():
            where = tmp_path / moment
            sign = where / ("starting.starts" if moment == "starting" else "reached")
            eventually(sign.exists, LONG, lambda script=script: script.stderr)
        took = [killed(script, tmp_path / moment, *MOMENTS[moment]) for moment, script in masters.items()]
    assert min(took) < GONE_WITHIN, took


def killed(script: Script, where: Path, signum: int, stopped: str) -> float:
    """Kill a master, and return after how many seconds nothing was left of what it had started."""
    if stopped:  # it is the one that is to see to it
        (zygote,) = [each.pid for each in children(script.pid)]
        os.kill(zygote, signal.SIGSTOP)
        wait_state(zygote, "T")
    token = str(where)
    assert len(marked(token)) > len(every_state.HANGING) + len(every_state.PLAIN)
    script.send_signal(signum)
    begin = time.monotonic()
    script.wait(LONG)
    eventually(lambda: not marked(token), LONG, lambda: marked(token))
    took = time.monotonic() - begin
    if script.stdout:
        bind(int(script.stdout))
    return took


async def test_held_up(recorded: None, tmp_path: Path) -> None:
    """What came in meanwhile is heard before anything is found to be overdue."""
    journal = Journal(tmp_path / "journal")
    children = [journal.standing("well", replicas=2, heartbeat_timeout=4.0)]
    children += [ChildSpec("brutal", functions.ignore_everything, replicas=6, shutdown="brutal_kill")]
    children += [journal.standing("leaving", shutdown=2.0)]
    async with Supervisor(SupervisorSpec(children, intensity=None)) as supervisor:
        late = ChildSpec("late", functions.get_ready_slowly, env=journal.env, boot_timeout=3.0, gate=False)
        await supervisor.start_child(late)
        await eventually_async(lambda: "late" in journal.lines, LONG)
        before, zygotes = pids(supervisor), supervisor.statistics().zygotes
        ending = [asyncio.ensure_future(supervisor.terminate_child(name)) for name in ("brutal", "leaving")]
        await asyncio.sleep(0)
        ctypes.PyDLL(None).sleep(HELD_UP)  # nothing else in this process runs
        await asyncio.gather(*ending)
        await until(supervisor, lambda: replica(supervisor, "late").state == "RUNNING")
        assert replica(supervisor, "late").restarts == 0
        assert replica(supervisor, "leaving").last_exit == "it exited with 0"
        after = pids(supervisor)
        assert [after[name] for name in ("well.0", "well.1")] == [before[name] for name in ("well.0", "well.1")]
        assert supervisor.statistics().zygotes == zygotes
