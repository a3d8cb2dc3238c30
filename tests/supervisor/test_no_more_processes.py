"""What the kernel does where a user has as many processes as he may: fork(2) fails, then threads do."""

from __future__ import annotations

import shutil

import pytest

from ..harness.scripts import run_script

RIGHTS = "-all,+dac_override,+dac_read_search"  # the interpreter and the checkout may be in the home of root
NOBODY_ELSE = "54321"  # root has no such limit, and nobody may have other processes
LAUNCHER = (
    *("setpriv", "--reuid", NOBODY_ELSE, "--regid", NOBODY_ELSE, "--clear-groups"),
    *("--inh-caps", RIGHTS, "--ambient-caps", RIGHTS),
)
NO_FORK = "see ulimit -u (RLIMIT_NPROC), pids.max"
SCRIPT = """
    import asyncio, logging, os, resource, sys
    from pathlib import Path
    import aioipc
    from aioipc.testing.waiting import eventually_async

    MOST = resource.getrlimit(resource.RLIMIT_NPROC)[1]

    async def stand(worker):
        await worker.ready()
        await worker.stopping()

    def tasks():
        found = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.stat().st_uid == os.getuid():
                    found += len(os.listdir(process / "task"))
            except OSError:  # it has just ended
                pass
        return found

    def states(supervisor):
        return [process.state for process in supervisor.children()[0].processes]

    async def main():
        async with aioipc.Supervisor() as supervisor:
            await supervisor.start_child(aioipc.ChildSpec("web", stand))
            (first,) = [process.pid for process in supervisor.children()[0].processes]
            (zygote,) = supervisor.statistics().zygotes.values()
            resource.prlimit(zygote, resource.RLIMIT_NPROC, (tasks() + int(sys.argv[1]), MOST))
            try:
                await supervisor.scale("web", 3)
            except aioipc.WorkerBootError as error:
                print(str(error) + error.stderr)
            else:
                print("they have started")
            assert states(supervisor)[0] == "RUNNING" and states(supervisor) != 3 * ["RUNNING"], states(supervisor)
            resource.prlimit(zygote, resource.RLIMIT_NPROC, (MOST, MOST))
            await eventually_async(lambda: states(supervisor) == 3 * ["RUNNING"], 30)
            assert supervisor.children()[0].processes[0].pid == first
        print("done")

    logging.basicConfig(level=logging.CRITICAL)
    aioipc.run(main)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
@pytest.mark.parametrize(
    ("more", "whys"), [(0, (NO_FORK,)), (1, (NO_FORK, "can't start new thread"))], ids=("none", "one")
)
def test_no_more_processes(more: int, whys: tuple[str, ...]) -> None:
    """What runs goes on, the error says which limit it is, and the rest starts when there is room again."""
    done = run_script(SCRIPT, str(more), launcher=LAUNCHER, timeout=50).check()
    assert any(why in done.stdout for why in whys), done.stdout
    assert done.stdout.endswith("done\n")
