"""Services and commands that hang, die at any point of their life, or lose their master."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
from pathlib import Path

import pytest

from aioipc.supervisor.launch import Launch
from aioipc.supervisor.service_control import EXIT_DEADLINE

from ..harness import hostile
from ..harness.processes import Process, descendants, eventually, eventually_async, process, wait_state
from ..harness.scripts import Script, running_script
from . import service_functions as f
from .launching import LONG, Launcher, Owner, launcher

CAPTURED = Launch(stdout="capture", stderr="capture")
ORPHANS_END_WITHIN = 2.0


# -- what hangs --------------------------------------------------------------------------------------


async def found_silent(start: Launcher, owner: Owner) -> str:
    """Look at its beats, as its supervisor would, and return what is wrong."""
    return str(await eventually_async(lambda: owner.process.diagnose(start.loop.time()), LONG))


async def test_hanging_services(loop_of_services: str) -> None:
    """A blocked loop, a held GIL and a stopped process are told apart, and their stacks are had where that is possible;
    the one beside them that is well stays so.
    """
    async with launcher() as start:
        hanging = {
            each: start.service(each, CAPTURED, heartbeat_timeout=4.0)
            for each in (f.blocks_the_loop, f.holds_the_gil, f.stops_itself)
        }
        well = start.service(f.serve, heartbeat_timeout=4.0)
        unready = start.service(f.never_ready, CAPTURED)
        leaving = start.service(f.exits_and_hangs, CAPTURED)
        for owner in (*hanging.values(), well):
            await owner.heard("ready")
        causes = await asyncio.gather(*(found_silent(start, owner) for owner in hanging.values()))
        assert causes == [
            "no heartbeat of its event loop for 4 s: a task blocked the loop",
            "no heartbeat for 4 s: a task held the GIL",
            "no heartbeat for 4 s: it was stopped (SIGSTOP)",
        ]
        assert well.process.diagnose(start.loop.time()) is None
        stacks: dict[object, str] = {}
        for owner, why in zip((*hanging.values(), unready), (*causes, "it was not ready in time"), strict=True):
            owner.process.condemn(why)
            owner.process.condemn("again")
            report = await owner.ended()
            assert report.exitcode in (-signal.SIGKILL, None)  # a dump may have ended the call that hung
            assert report.reason == why
        for function, owner in hanging.items():
            stacks[function] = owner.process.stacks
        assert "in blocks_the_loop" in stacks[f.blocks_the_loop]
        assert "in holds_the_gil" in stacks[f.holds_the_gil]
        assert stacks[f.stops_itself] == ""
        assert "in never_ready" in unready.process.stacks
        assert unready.stderr == "still thinking\n"
        assert (await leaving.ended()).exitcode == EXIT_DEADLINE
        well.process.stop(start.loop.time() + 20)
        assert (await well.ended()).exitcode == 0


# -- what dies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("zygote-before-fork=raise", ["refused"]),
        ("before-launch=kill", ["exited"]),
        ("before-exit=segv", ["spawned", "status", "ready", "exited"]),
        ("before-ready=kill", ["spawned", "status", "exited"]),
        ("before-ready=segv", ["spawned", "status", "exited"]),
        ("draining=kill", ["spawned", "status", "ready", "exited"]),
        ("zygote-after-fork=kill", ["refused"]),
    ],
)
async def test_death_at_a_point(point: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, in order, and the next process is well."""
    monkeypatch.setenv("AIOIPC_FAILPOINTS", point)
    async with launcher() as start:
        start.losses = point.startswith("zygote-after")
        owner = start.service(f.serve)
        if "ready" in expected:
            await owner.heard("ready")
            owner.process.stop(start.loop.time() + 20)
        report = await owner.ended()
        assert owner.names == expected
        if expected != ["refused"]:
            assert report.exitcode == (-signal.SIGKILL if "kill" in point else -signal.SIGSEGV)


async def test_a_command_that_dies_before_its_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOIPC_FAILPOINTS", "before-exec=kill")
    async with launcher() as start:
        owner = start.command("sleep", "1000")
        assert (await owner.ended()).exitcode == -signal.SIGKILL
        assert owner.names[-1] == "exited"


async def test_out_of_memory_and_killed_from_outside() -> None:
    async with launcher() as start:
        greedy = start.service(f.takes_memory, Launch(rlimits={"as": (1 << 29, 1 << 29)}))
        shot = start.service(f.serve, CAPTURED)
        await shot.heard("ready")
        os.kill(shot.process.pid, signal.SIGKILL)
        assert (await shot.ended()).exitcode == -signal.SIGKILL
        assert shot.process.stacks == ""
        assert (await greedy.ended()).exitcode == 1
        assert "MemoryError" in greedy.stderr


async def test_a_zygote_that_dies_takes_everything_along() -> None:
    """Also what is stopped."""
    async with launcher() as start:
        start.losses = 1
        owners = [start.service(f.serve), start.service(f.never_ready), start.command("sleep", "1000")]
        for owner in owners:
            await owner.heard("spawned")
        os.kill(owners[1].process.pid, signal.SIGSTOP)
        os.kill(start.zygote.pid, signal.SIGKILL)
        for owner in owners:
            report = await owner.ended()
            assert report.with_zygote
            assert report.exitcode is None
            left = process(owner.process.pid)
            assert left is None or left.is_zombie


async def test_a_service_that_writes_garbage_is_killed() -> None:
    """What a child says is never trusted: a frame that is none, and one that announces too much memory."""
    async with launcher() as start:
        owners = [start.service(each) for each in (f.says_garbage, f.announces_much)]
        for owner in owners:
            report = await owner.ended()
            assert report.exitcode == -signal.SIGKILL
            assert report.reason.startswith("it sent garbage")


# -- masters that die --------------------------------------------------------------------------------


MASTER = """
    import asyncio
    from aioipc.supervisor.launch import Launch
    from tests.supervisor import service_functions as f
    from tests.supervisor.launching import launcher

    async def main():
        async with launcher() as start:
            services = [f.serve, f.blocks_the_loop, f.holds_the_gil, f.stops_itself, f.ignores_everything,
                        f.hanging_thread, f.hangs_at_exit, f.has_grandchildren]
            owners = [start.service(each) for each in services]
            commands = [start.command("sh", "-c", "trap '' TERM HUP; setsid sleep 1000 & sleep 1000")]
            commands.append(start.command("sleep", "1000"))
            for owner in owners:
                await owner.heard("ready")
            for command in commands:
                await command.heard("spawned")
            print("ready", flush=True)
            await asyncio.Event().wait()
    asyncio.run(main())
"""


def family(script: Script) -> list[Process]:
    return descendants(script.pid)


def none_runs(members: list[Process]) -> bool:
    """Whether none of these very processes runs any more."""
    now = [process(each.pid) for each in members]
    return not any(n and n.start == e.start and not n.is_zombie for n, e in zip(now, members, strict=True))


def test_master_killed(tmp_path: Path) -> None:
    """Services in every state, commands, their children, and a grandchild that has left for a session of its own."""
    with running_script(textwrap.dedent(MASTER)) as script:
        script.wait_output("ready", 30)
        eventually(lambda: len(family(script)) == 1 + 8 + 2 + 3 and "T" in [each.state for each in family(script)], 20)
        members = family(script)
        script.send_signal(signal.SIGKILL)
        eventually(lambda: none_runs(members), ORPHANS_END_WITHIN, lambda: [process(e.pid) for e in members])


def test_polite_orphans_end_by_themselves() -> None:
    """While the zygote is stopped nobody else can do it: a service sees the end of its master within a second."""
    program = """
        import asyncio
        from tests.supervisor import service_functions as f
        from tests.supervisor.launching import launcher

        async def main():
            async with launcher() as start:
                owners = [start.service(each) for each in (f.serve, f.blocks_the_loop, f.hanging_thread)]
                for owner in owners:
                    await owner.heard("ready")
                print(start.zygote.pid, *(owner.process.pid for owner in owners), flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    with running_script(textwrap.dedent(program)) as script:
        zygote, *services = map(int, script.wait_output("\n", 30).split())
        os.kill(zygote, signal.SIGSTOP)
        wait_state(zygote, "T")
        members = [each for each in family(script) if each.pid in services]
        script.send_signal(signal.SIGKILL)
        eventually(lambda: none_runs(members), ORPHANS_END_WITHIN, lambda: [process(e.pid) for e in members])


def test_beats_cost_next_to_nothing() -> None:
    """An idle service sleeps: the kernel counts what it does."""
    asyncio.run(watch_an_idle_service())


async def watch_an_idle_service() -> None:
    async with launcher() as start:
        owner = start.service(f.serve, heartbeat_timeout=8.0)
        await owner.heard("ready")

        def switches() -> int:
            text = Path(f"/proc/{owner.process.pid}/status").read_text()
            return int(text.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])

        await eventually_async(lambda: owner.process.child.state() == "S", LONG)
        before = switches()
        await asyncio.sleep(2.5)
        assert switches() - before <= 8


def test_where_little_is_allowed() -> None:
    """As nobody, with a read-only root, a tiny /dev/shm, and neither pidfd nor memfd."""
    program = """
        import asyncio, signal
        from aioipc.supervisor.launch import Launch
        from tests.supervisor import service_functions as f
        from tests.supervisor.launching import launcher

        async def main():
            async with launcher() as start:
                served, stuck = start.service(f.serve, Launch(stdout="capture")), start.service(f.blocks_the_loop)
                command = start.command("sleep", "1000")
                refused = start.command("no-such-program")
                for owner in (served, stuck):
                    await owner.heard("ready")
                stuck.process.condemn("it hung")
                served.process.stop(start.loop.time() + 20)
                await command.heard("spawned")
                command.process.stop(start.loop.time() + 20)
                codes = [(await owner.ended()).exitcode for owner in (served, stuck, command, refused)]
            print(codes, start.texts(), refused.names)
        asyncio.run(main())
    """
    names = (hostile.NOBODY, hostile.READ_ONLY_ROOT, hostile.TINY_SHM, hostile.SECCOMP_EPERM)
    done = hostile.run_confined(names, program, timeout=30).check()
    assert done.stdout == "[0, -9, -15, None] ['stopping True'] ['refused']\n"
    assert done.stderr == ""
