"""Storms: pairs of signals with short gaps, before handlers exist, against receivers, runbooks, pools and terminals."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from ..harness.processes import descendants, eventually, wait_gone
from ..harness.scripts import Script, running_script
from ..harness.terminal import CTRL_C, terminal
from .signal_programs import LOOPS, program

NAMES = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH")
STORM = [getattr(signal, f"SIG{name}") for name in NAMES]
GAPS = (0, 0.0005, 0.002, 0.01, 0.05)
RECEIVES = """
    wanted = [getattr(signal, "SIG" + name) for name in "TERM INT QUIT HUP USR1 USR2 TTIN TTOU WINCH".split()]
    with aioipc.open_signal_receiver(*wanted, values=VALUES) as signals:
        print("ready", flush=True)
        async for each in signals:
            signum = each.signum if VALUES else each
            print(signum.name, flush=True)
            if signum is signal.SIGTERM and os.path.exists(sys.argv[1]):
                break
"""


def heard(script: Script) -> Counter[str]:
    return Counter(line for line in script.stdout.splitlines() if line.startswith("SIG"))


def wait_heard(script: Script, before: Counter[str], *signums: signal.Signals) -> None:
    """Wait until the program has said that it has heard each of these once more at least."""

    def all_heard() -> bool:
        now = heard(script)
        return all(now[signum.name] > before[signum.name] for signum in signums)

    eventually(all_heard, 20, lambda: f"{signums}\n{script.stdout[-500:]}\n{script.stderr}")


@LOOPS
@pytest.mark.parametrize("values", [False, True])
def test_pairs(loop: str, values: bool, tmp_path: Path) -> None:
    """Every pair of different signals; the gaps take turns."""
    end, gaps = tmp_path / "end", itertools.cycle(GAPS)
    with running_script(program(loop, RECEIVES.replace("VALUES", str(values))), str(end)) as script:
        script.wait_output("ready")
        for first, second in itertools.permutations(STORM, 2):
            before = heard(script)
            script.send_signal(first)
            time.sleep(next(gaps))
            script.send_signal(second)
            wait_heard(script, before, first, second)
        end.touch()
        script.send_signal(signal.SIGTERM)
        script.wait().check()
        sent = 2 * (len(STORM) - 1)
        counts = heard(script)
    assert {name: counts[f"SIG{name}"] for name in NAMES} == {name: sent + (name == "TERM") for name in NAMES}


@LOOPS
def test_the_same_twice(loop: str, tmp_path: Path) -> None:
    """Heard once or twice: never not at all, never oftener."""
    end, gaps = tmp_path / "end", itertools.cycle(GAPS)
    with running_script(program(loop, RECEIVES.replace("VALUES", "False")), str(end)) as script:
        script.wait_output("ready")
        for signum in STORM * 2:
            before = heard(script)
            script.send_signal(signum)
            time.sleep(next(gaps))
            script.send_signal(signum)
            wait_heard(script, before, signum)
        end.touch()
        script.send_signal(signal.SIGTERM)
        script.wait().check()
        counts = heard(script)
    assert all(2 <= counts[f"SIG{name}"] <= 4 + (name == "TERM") for name in NAMES), counts


BLOCKS = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals());"
    "print('blocked', flush=True); os.execvp(sys.argv[1], sys.argv[1:])"
)


@LOOPS
@pytest.mark.parametrize("values", [False, True])
def test_before_the_handlers_exist(loop: str, values: bool, tmp_path: Path) -> None:
    """While the interpreter starts, in an order of chance: the spawner has blocked them, so all are heard."""
    source = program(loop, RECEIVES.replace("VALUES", str(values)))
    for seed in range(2):
        order = random.Random(seed).sample(STORM, len(STORM))
        with running_script(source, str(tmp_path / "end"), launcher=[sys.executable, "-c", BLOCKS]) as script:
            script.wait_output("blocked")
            for signum in order:
                script.send_signal(signum)
                time.sleep(0.01)
            wait_heard(script, Counter(), *STORM)
            (tmp_path / "end").touch()
            script.send_signal(signal.SIGTERM)
            script.wait().check()
            assert heard(script) == Counter(signum.name for signum in STORM) + Counter(["SIGTERM"])
        (tmp_path / "end").unlink()


@LOOPS
def test_on_a_server_with_a_pool(loop: str) -> None:
    """It goes on working through all but the shutdown, and then finishes."""
    body = """
        def respond(name):
            async def response():
                await asyncio.sleep(0.001)
                print("SIG" + name, flush=True)
            return response
        names = "QUIT HUP USR1 USR2 TTIN TTOU WINCH".split()
        responses = {getattr(signal, "SIG" + name): respond(name) for name in names}
        async with aioipc.graceful_shutdown(100) as shutdown, aioipc.SignalRunbook(responses), aioipc.Pool(2) as pool:
            async def work():
                while not shutdown.is_requested:
                    assert await pool.run(abs, -5) == 5
                    finished.append(1)
            finished = []
            workers = [asyncio.create_task(work()) for _ in range(4)]
            print("ready", flush=True)
            signum = await shutdown.requested()
            await asyncio.gather(*workers)
            assert pool.statistics().restarts == 0
        print("finished", len(finished) > 0, signum.name, flush=True)
    """
    gaps = itertools.cycle(GAPS)
    asking = {signal.SIGTERM, signal.SIGINT}
    with running_script(program(loop, body)) as script:
        script.wait_output("ready")
        for first, second in itertools.permutations(set(STORM) - asking, 2):
            before = heard(script)
            script.send_signal(first)
            time.sleep(next(gaps))
            script.send_signal(second)
            wait_heard(script, before, first, second)
        script.send_signal(signal.SIGINT)
        done = script.wait().check()
    assert done.stdout.endswith("finished True SIGINT\n")


# -- a terminal ------------------------------------------------------------------------------------------

DRAINS = """
    import asyncio, sys, threading, aioipc

    def work(number):
        print(f"task {number}", flush=True)
        while TIMES > 1:
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                pass
        return number

    async def drain(shutdown):
        await shutdown.requested()
        print("draining", flush=True)
        while TIMES > 1:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                print("forced", flush=True)
                if TIMES == 2:
                    raise

    async def main():
        async with aioipc.graceful_shutdown(1000) as shutdown:
            if POOL:
                async with aioipc.Pool(2, grace=60) as pool:
                    jobs = [pool.submit(work, number) for number in range(2)]
                    await drain(shutdown)
            else:
                print("task task", flush=True)
                await drain(shutdown)
        print("drained", flush=True)

    aioipc.run(main)
"""


@pytest.mark.parametrize("pool", [False, True], ids=["alone", "pool"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_in_a_terminal(times: int, pool: bool, tmp_path: Path) -> None:
    """Once: it drains. Twice: it is forced, all workers die. Thrice, where main ignores that too: `run` ends it."""
    patch = "import aioipc.supervisor.shutdown as shutdown\nshutdown._LAST_RESORT = 0.3\n"
    source = patch + textwrap.dedent(DRAINS).replace("TIMES", str(times)).replace("POOL", str(pool))
    with terminal(source, tmp_path) as screen:
        eventually(lambda: screen.shown().count("task") == 2, 20, screen.shown)
        family = [each.pid for each in descendants(screen.popen.pid)]
        assert len(family) == (3 if pool else 0), screen.shown()
        for press in range(times):
            screen.press(CTRL_C)
            if press < 2:
                screen.wait_shown("forced" if press else "draining")
        if times == 3:
            eventually(lambda: screen.shown().count("forced") == 2 or screen.popen.poll() is not None, 20, screen.shown)
            screen.press(CTRL_C)
        assert screen.popen.wait(20) == {1: 0, 2: 1, 3: 130}[times], screen.shown()
        for pid in family:
            wait_gone(pid, 20)
        shown = screen.shown()
    assert ("drained" in shown) == (times == 1), shown
    assert ("ShutdownTimeout: the body of graceful_shutdown did not end by itself" in shown) == (times == 2), shown
