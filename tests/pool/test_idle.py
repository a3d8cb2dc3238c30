"""An idle pool lets the machine sleep."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..harness.processes import command_line, descendants, eventually
from ..harness.scripts import running_script

SECONDS = 10
SCRIPT = """
    import asyncio, sys, aioipc

    async def main():
        async with aioipc.Pool(2) as sync, aioipc.Pool(2) as both:
            assert [r async for r in sync.map(abs, range(-200, 0))] == list(range(200, 0, -1))
            assert [r async for r in both.map(abs, range(-200, 0))] == list(range(200, 0, -1))
            await asyncio.gather(*(both.run(asyncio.sleep, 0.01) for _ in range(200)))
            print("idle", flush=True)
            await asyncio.Event().wait()

    if sys.argv[1] == "uvloop":
        aioipc.run(main)
    else:
        asyncio.run(main())
"""


def wakes(pid: int) -> int:
    """How often the threads of a process were given a CPU so far."""
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        status = Path(f"/proc/{pid}/task/{tid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        total += int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
    return total


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.timeout(40)
def test_idle_pools_hardly_wake() -> None:
    """At most once a second and process, on either loop, after sync tasks and after async ones."""
    with ExitStack() as stack:
        scripts = [stack.enter_context(running_script(SCRIPT, loop)) for loop in ("asyncio", "uvloop")]
        for script in scripts:
            script.wait_output("idle")
        eventually(lambda: all(len(descendants(script.pid)) == 6 for script in scripts))
        pids = [pid for script in scripts for pid in (script.pid, *(each.pid for each in descendants(script.pid)))]
        wait_until_settled(pids)
        before = {pid: wakes(pid) for pid in pids}
        time.sleep(SECONDS)  # what is measured
        counted = {pid: wakes(pid) - before[pid] for pid in pids}
        assert sorted(before) == sorted(pids)
        for pid, count in counted.items():
            assert count <= SECONDS, f"{count} wake-ups of {command_line(pid)} in {SECONDS} s"
        assert all(threads(pid) <= 2 for pid in pids if pid not in {script.pid for script in scripts})
        for script in scripts:
            assert script.popen.poll() is None


def wait_until_settled(pids: list[int]) -> None:
    """Until nobody has run for half a second: the start's last imports and replacements are over."""
    last = dict.fromkeys(pids, -1)
    since = time.monotonic()

    def settled() -> bool:
        nonlocal last, since
        now = {pid: wakes(pid) for pid in pids}
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 0.5

    eventually(settled, 10)
