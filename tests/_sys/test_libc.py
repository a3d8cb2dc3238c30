"""prctl(2): death signals, subreapers, names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aioipc._sys import libc
from aioipc.testing.reaper import reaper_pid

from ..harness.processes import is_running, process, wait_gone
from ..harness.scripts import run_script

ORPHAN = """
    import os, signal, sys
    from aioipc._sys import libc

    parent = os.getpid()
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        for signum in map(int, sys.argv[1:]):
            libc.set_parent_death_signal(signum)
        os.write(tell, b"!")
        signal.pause()
    os.read(ready, 1)
    print(pid)
"""


@pytest.mark.parametrize("signum", [9, 15])
def test_death_signal(signum: int) -> None:
    done = run_script(ORPHAN, str(signum)).check()
    wait_gone(int(done.stdout))


def test_no_death_signal_any_more() -> None:
    """The kernel sends it in the same step in which it gives the orphan another parent."""
    done = run_script(ORPHAN, "9", "0").check()
    orphan = int(done.stdout)
    try:
        found = process(orphan)
        assert found is not None
        assert found.ppid == reaper_pid()
        assert is_running(orphan)
    finally:
        os.kill(orphan, 9)
    wait_gone(orphan)


def test_a_signal_that_does_not_exist() -> None:
    with pytest.raises(OSError, match=r"prctl\(1\): Invalid argument") as caught:
        libc.set_parent_death_signal(1000)
    assert caught.value.errno == errno.EINVAL


def test_subreaper() -> None:
    source = """
        import os, signal
        from aioipc._sys import libc

        libc.become_subreaper()
        if not os.fork():
            if not os.fork():
                signal.pause()
            os._exit(0)
        os.wait()
        [orphan] = open(f"/proc/self/task/{os.getpid()}/children").read().split()
        print("adopted")
        os.kill(int(orphan), signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert run_script(source).check().stdout == "adopted\n-9\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("aioipc-worker-1", "aioipc-worker-1"),
        ("aioipc-worker-1234", "aioipc-worker-1"),
        ("ä" * 10, "ä" * 7 + "\N{REPLACEMENT CHARACTER}"),
        ("", ""),
    ],
)
def test_name(name: str, shown: str) -> None:
    comm = Path("/proc/self/comm")
    before = comm.read_text().removesuffix("\n")
    try:
        libc.set_process_name(name)
        assert comm.read_bytes().decode(errors="replace") == shown + "\n"
    finally:
        libc.set_process_name(before)
