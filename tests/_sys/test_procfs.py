"""Processes as /proc shows them, whatever they are called and in whatever state."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioipc._sys.procfs import (
    available_memory,
    children,
    is_running,
    private_memory,
    process_info,
    running_in_sessions,
    session_members,
    start_time,
)

from ..harness.processes import wait_ended, wait_gone, wait_state
from ..harness.scripts import run_script, running_script


@contextmanager
def sleeping(*, session: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "1000"], start_new_session=session)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def ticks() -> float:
    """How long the machine has run, in clock ticks."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


def test_this_process() -> None:
    info = process_info(os.getpid())
    assert info is not None
    assert info[:-1] == (os.getpid(), "R", os.getppid(), os.getpgrp(), os.getsid(0))


def test_no_such_process() -> None:
    with sleeping() as child:
        pass
    assert process_info(child.pid) is None
    assert session_members(child.pid) == []
    assert children(child.pid) == []


def test_states() -> None:
    with sleeping(session=True) as child:
        wait_state(child.pid, "S")
        info = process_info(child.pid)
        assert info is not None
        assert info[:-1] == (child.pid, "S", os.getpid(), child.pid, child.pid)
        assert is_running(child.pid)
        assert is_running(child.pid, info.started)
        assert not is_running(child.pid, info.started + 1)
        os.kill(child.pid, signal.SIGSTOP)
        wait_state(child.pid, "T")
        assert (info := process_info(child.pid)) is not None
        assert info.state == "T"
        child.kill()
        wait_ended(child.pid)
        assert (info := process_info(child.pid)) is not None
        assert info.state == "Z"
        assert not is_running(child.pid)
    assert not is_running(child.pid)


def test_running_in_sessions() -> None:
    """Of several sessions at once, without those that have ended."""
    with sleeping(session=True) as one, sleeping(session=True) as other, sleeping(session=True) as third:
        found = running_in_sessions({one.pid, other.pid})
        assert {info.pid for info in found} == {one.pid, other.pid}
        one.kill()
        wait_ended(one.pid)
        assert [info.pid for info in running_in_sessions({one.pid, third.pid})] == [third.pid]


@pytest.mark.parametrize("name", ["a) R 1 1 (", "two words", ") Z 0 0 0", "line\nline", "(((", "\u00e4\udcff"])
def test_names_that_look_like_fields(tmp_path: Path, name: str) -> None:
    """A process is called after its file, and a file may be called almost anything."""
    path = tmp_path / os.fsdecode(os.fsencode(name))
    path.symlink_to("/bin/sleep")
    before = ticks()
    child = subprocess.Popen([path, "1000"])
    after = ticks()
    try:
        wait_state(child.pid, "S")
        info = process_info(child.pid)
        assert info is not None
        assert info[:-1] == (child.pid, "S", os.getpid(), os.getpgrp(), os.getsid(0))
        assert before - 1 <= info.started <= after + 1
        assert start_time(child.pid) == info.started
    finally:
        child.kill()
        child.wait()


def test_children_by_age_zombies_included() -> None:
    with sleeping() as first, sleeping(session=True) as second:
        first.kill()
        wait_ended(first.pid)
        assert children(os.getpid()) == sorted([first.pid, second.pid])
        assert children(second.pid) == []


def test_session_members() -> None:
    """All that stay in the session, in whatever group, but not those who left for one of their own."""
    source = """
        import subprocess, sys
        same = subprocess.Popen(["sleep", "1000"])
        group = subprocess.Popen(["sleep", "1000"], process_group=0)
        gone = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(same.pid, group.pid, gone.pid, flush=True)
        sys.stdin.read()
        import signal; signal.pause()
    """
    with running_script(source) as script:
        same, group, gone = map(int, script.wait_output("\n").split())
        assert session_members(script.pid) == sorted([script.pid, same, group])
        assert session_members(gone) == [gone]
        assert children(script.pid) == sorted([same, group, gone])
    for pid in (same, group, gone):
        wait_gone(pid)


# -- memory ------------------------------------------------------------------------------------------


def test_private_memory_counts_what_a_process_has_touched_itself() -> None:
    source = """
        import mmap, os
        from aioipc._sys.procfs import private_memory

        SIZE = 64 << 20

        def touched():
            return bytearray(b"x") * SIZE

        def reserved():
            return mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE)

        def shared():
            memory = mmap.mmap(-1, SIZE)
            memory.write(bytes(SIZE))
            return memory

        for make in (touched, reserved, shared):
            before = private_memory(os.getpid())
            kept = make()
            print(make.__name__, (private_memory(os.getpid()) - before) >> 20)
            del kept
    """
    lines = run_script(source).check().stdout.splitlines()
    grown = {name: int(size) for name, size in map(str.split, lines)}
    assert 60 <= grown["touched"] <= 70
    assert grown["reserved"] <= 4
    assert grown["shared"] <= 4


def test_private_memory_of_any_process() -> None:
    with sleeping() as child:
        wait_state(child.pid, "S")
        assert 0 < private_memory(child.pid) < 64 << 20
        child.kill()
        wait_ended(child.pid)
        assert private_memory(child.pid) == 0  # a zombie has none
    assert private_memory(child.pid) == 0
    assert private_memory(os.getpid()) > 0


def test_available_memory() -> None:
    available = available_memory()
    assert available is not None
    assert 1 << 20 < available < 1 << 50
