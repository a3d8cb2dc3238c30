"""A supervisor that is PID 1, or a subreaper, reaps orphans, and takes no exit status away from anybody."""

from __future__ import annotations

import subprocess

import pytest

from ..harness.scripts import run_script

PROGRAM = """
    import asyncio, os, subprocess, sys
    import aioipc
    from aioipc._sys import libc, procfs
    from aioipc.supervisor import foreign_zombies
    from aioipc.testing.waiting import eventually_async

    ORPHAN = "setsid --wait sh -c 'sleep 0.1 & echo $!'"  # its session has another leader, and no parent is left

    def zombies():
        return [pid for pid in procfs.children(os.getpid()) if procfs.process_info(pid).state == "Z"]

    async def main():
        foreign_zombies.EVERY = 0.02
        async with aioipc.Supervisor() as supervisor:
            await supervisor.start_child(aioipc.ChildSpec("sleep", ["sleep", "600"], ready=0.01))
            waited_late = [subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=new) for new in (False, True)]
            orphans = []
            for _ in range(3):
                shell = await asyncio.create_subprocess_shell(ORPHAN, stdout=subprocess.PIPE)
                output, _ = await shell.communicate()
                assert shell.returncode == 0
                orphans.append(int(output))
            codes = [await (await asyncio.create_subprocess_shell(f"exit {n}")).wait() for n in range(20)]
            assert codes == list(range(20)), codes
            await eventually_async(lambda: not any(procfs.process_info(pid) for pid in orphans), 20)
            assert sorted(zombies()) == sorted(each.pid for each in waited_late)
            assert [each.wait() for each in waited_late] == [3, 3]
        print("done")
"""
SUBREAPER = (
    PROGRAM
    + """
    libc.become_subreaper()
    assert libc.is_subreaper()
    aioipc.run(main)
"""
)
PID_1 = (
    PROGRAM
    + """
    assert os.getpid() == 1
    aioipc.run(main)
"""
)


def test_as_a_subreaper() -> None:
    assert run_script(SUBREAPER, timeout=50).check().stdout == "done\n"


def test_as_pid_1() -> None:
    launcher = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        subprocess.run([*launcher, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine makes no PID namespaces: {error}")
    assert run_script(PID_1, timeout=50, launcher=launcher).check().stdout == "done\n"
