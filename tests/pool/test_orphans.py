"""The master ends, in every way it can: nothing of its tree is left, and what was promised is kept.

Each master is a program of its own. Its orphans fall to the tests' own reaper.
"""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ..harness.processes import Process, descendants, eventually, is_running, process
from ..harness.scripts import Script, running_script
from .fault_functions import Gate, Journal

ORPHANS_END_WITHIN = 2.0


@contextmanager
def master(body: str, *arguments: str) -> Iterator[Script]:
    """A program whose ``async def main(pool)``, or ``main()`` without a pool, is the body."""
    source = """
        import asyncio, os, signal, sys, aioipc
        from tests.pool import fault_functions as tasks

        def seen(lines):
            with open(sys.argv[1]) as file:
                return len(file.readlines()) >= lines

        async def wait_for(lines):
            while not seen(lines):
                await asyncio.sleep(0.005)
    """
    with running_script(textwrap.dedent(source) + textwrap.dedent(body), *arguments) as script:
        yield script


def family(script: Script) -> list[Process]:
    """All descendants of the master."""
    return descendants(script.pid)


def gone(members: list[Process]) -> Callable[[], bool]:
    """Whether none of these very processes runs any more."""

    def check() -> bool:
        now = [process(each.pid) for each in members]
        return not any(n and n.start == e.start and not n.is_zombie for n, e in zip(now, members, strict=True))

    return check


def in_all_states(journal: Journal, gate: Gate) -> str:
    """A master with four workers: one holds the GIL in C, one is stopped, two have subprocesses."""
    return f"""
        async def main():
            async with aioipc.Pool(5) as pool:
                jobs = [
                    pool.submit(tasks.hold_the_gil, {journal.path!r}),
                    pool.submit(tasks.stop_here, {journal.path!r}),
                    pool.submit(tasks.start_sleep_and_wait, {journal.path!r}, {gate.path!r}, False),
                    pool.submit(tasks.start_sleep_and_wait, {journal.path!r}, {gate.path!r}, True),
                    pool.submit(tasks.stubborn, {journal.path!r}, {gate.path!r}),
                ]
                await wait_for(5)
                print(pool.statistics().zygote_pid, flush=True)
                await asyncio.gather(*jobs)
        aioipc.run(main)
    """


def test_master_killed(journal: Journal, gate: Gate) -> None:
    with master(in_all_states(journal, gate), journal.path) as script:
        script.wait_output("\n")
        eventually(lambda: any(each.state == "T" for each in family(script)))
        members = family(script)
        assert len(members) == 1 + 5 + 2
        assert sum(each.name == "sleep" for each in members) == 2
        assert any(each.name == "sleep" and each.sid == each.pid for each in members)
        script.send_signal(signal.SIGKILL)
        eventually(gone(members), ORPHANS_END_WITHIN, lambda: [process(each.pid) for each in members])
        assert script.wait().returncode == -signal.SIGKILL


@pytest.mark.parametrize("zygote_first", [True, False])
def test_master_and_zygote_killed(zygote_first: bool, journal: Journal, gate: Gate) -> None:
    """Both at once. What the workers' tasks have started is beyond anybody's reach then; the workers are not."""
    body = f"""
        async def main():
            async with aioipc.Pool(3) as pool:
                jobs = [
                    pool.submit(tasks.hold_the_gil, {journal.path!r}),
                    pool.submit(tasks.stop_here, {journal.path!r}),
                    pool.submit(tasks.stubborn, {journal.path!r}, {gate.path!r}),
                ]
                await wait_for(3)
                print(pool.statistics().zygote_pid, flush=True)
                await asyncio.gather(*jobs)
        aioipc.run(main)
    """
    with master(body, journal.path) as script:
        zygote = int(script.wait_output("\n"))
        members = family(script)
        assert len(members) == 4
        for pid in (zygote, script.pid) if zygote_first else (script.pid, zygote):
            os.kill(pid, signal.SIGKILL)
        eventually(gone(members), ORPHANS_END_WITHIN, lambda: [process(each.pid) for each in members])


def test_master_killed_while_the_zygote_is_stopped(journal: Journal) -> None:
    body = """
        async def main():
            async with aioipc.Pool(2) as pool:
                print(pool.statistics().zygote_pid, flush=True)
                await asyncio.Event().wait()
        aioipc.run(main)
    """
    with master(body, journal.path) as script:
        zygote = int(script.wait_output("\n"))
        eventually(lambda: len(family(script)) == 3)
        members = family(script)
        os.kill(zygote, signal.SIGSTOP)
        script.send_signal(signal.SIGKILL)
        eventually(gone(members), ORPHANS_END_WITHIN, lambda: [process(each.pid) for each in members])


def test_master_killed_before_its_workers_are_ready(journal: Journal) -> None:
    """At any moment of the start: the process tree is cut while it grows."""
    body = """
        async def main():
            async with aioipc.Pool(4):
                await asyncio.Event().wait()
        aioipc.run(main)
    """
    for size in range(1, 6):
        with master(body, journal.path) as script:
            eventually(lambda script=script, size=size: len(family(script)) >= min(size, 5))
            members = family(script)
            script.send_signal(signal.SIGKILL)
            eventually(gone(members), ORPHANS_END_WITHIN, lambda members=members: [process(e.pid) for e in members])


SERVING = """
    async def main():
        async with aioipc.graceful_shutdown(timeout=20) as shutdown, aioipc.Pool(2, concurrency=2) as pool:
            function = getattr(tasks, sys.argv[3])
            jobs = [pool.submit(function, sys.argv[1], sys.argv[2], i) for i in range(8)]
            await wait_for(2)
            print("ready", flush=True)
            await shutdown.requested()
            print("asked", flush=True)
            assert await asyncio.gather(*jobs) == list(range(8))
            print(pool.statistics().crashes, flush=True)
        print("done", flush=True)
    aioipc.run(main)
"""


@pytest.mark.parametrize("function", ["held", "held_async"])
def test_terminate_everybody_at_once(function: str, journal: Journal, gate: Gate) -> None:
    """As systemd and container runtimes do it; what runs ends in peace, and what was accepted is still done."""
    with master(SERVING, journal.path, gate.path, function) as script:
        script.wait_output("ready")
        for member in [*family(script), process(script.pid)]:
            assert member is not None
            os.kill(member.pid, signal.SIGTERM)
        script.wait_output("asked")
        running = sum(is_running(member.pid) for member in family(script))
        assert running >= 3
        gate.open()
        assert script.wait().check().stdout == "ready\nasked\n0\ndone\n"
        assert script.stderr == ""
    assert journal.counts() == dict.fromkeys(range(8), 1)


def test_terminate_everybody_again_and_again(journal: Journal, gate: Gate) -> None:
    """Workers that are only just starting get it too; the pool does not give up over it."""
    with master(SERVING, journal.path, gate.path, "held") as script:
        script.wait_output("ready")
        script.send_signal(signal.SIGTERM)
        script.wait_output("asked")
        for _ in range(10):
            members = family(script)
            for member in members:
                try:
                    os.kill(member.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            eventually(lambda: len(family(script)) >= 3)
        gate.open()
        assert script.wait().check().stdout == "ready\nasked\n0\ndone\n"
    assert journal.counts() == dict.fromkeys(range(8), 1)


def test_interrupt_of_the_group(journal: Journal, gate: Gate) -> None:
    """Ctrl-C: the terminal signals the foreground group. Workers are not in it."""
    with master(SERVING, journal.path, gate.path, "held") as script:
        script.wait_output("ready")
        os.killpg(script.pid, signal.SIGINT)
        script.wait_output("asked")
        gate.open()
        assert script.wait().check().stdout == "ready\nasked\n0\ndone\n"
        assert script.stderr == ""


PLAIN = """
    async def main():
        async with aioipc.Pool(2) as pool:
            jobs = [pool.submit(tasks.held, sys.argv[1], sys.argv[2], i) for i in range(8)]
            await wait_for(2)
            print("ready", flush=True)
            try:
                await asyncio.gather(*jobs)
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise
    aioipc.run(main)
"""


@pytest.mark.parametrize(
    ("number", "returncode"), [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_end_by_signal_under_run(number: signal.Signals, returncode: int, journal: Journal, gate: Gate) -> None:
    """Without a graceful_shutdown main is cancelled: nothing new starts, no traceback, the usual exit status."""
    with master(PLAIN, journal.path, gate.path) as script:
        script.wait_output("ready")
        members = family(script)
        os.killpg(script.pid, number)
        done = script.wait()
        assert (done.returncode, done.stdout, done.stderr) == (returncode, "ready\ncancelled\n", "")
        assert gone(members)()
    assert journal.counts() == {0: 1, 1: 1}


def test_second_signal(journal: Journal, gate: Gate) -> None:
    """It ends what would not end."""
    with master(SERVING, journal.path, gate.path, "stubborn_held") as script:
        script.wait_output("ready")
        members = family(script)
        os.killpg(script.pid, signal.SIGINT)
        script.wait_output("asked")
        os.killpg(script.pid, signal.SIGINT)
        assert script.wait(5).returncode != 0
        assert gone(members)()
