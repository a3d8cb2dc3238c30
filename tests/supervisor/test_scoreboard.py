"""The scoreboard says what a worker was doing, also after it was killed in the middle of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from aioipc.supervisor.scoreboard import Scoreboard

from ..harness.processes import eventually
from ..harness.scripts import ROOT


@contextmanager
def boards(slots: int) -> Iterator[tuple[Scoreboard, Scoreboard]]:
    """The two ends, as a master and a worker have them; the descriptor is needed no longer."""
    fd = Scoreboard.create(slots)
    try:
        master, worker = Scoreboard(fd), Scoreboard(fd)
    finally:
        os.close(fd)
    with closing(master), closing(worker):
        yield master, worker


@contextmanager
def writing_child(source: str) -> Iterator[tuple[Scoreboard, subprocess.Popen[bytes]]]:
    """A process that has attached ``board`` and then runs the source; its scoreboard is read here."""
    fd = Scoreboard.create(16)
    try:
        board = Scoreboard(fd)
        code = f"from aioipc.supervisor.scoreboard import Scoreboard\nboard = Scoreboard({fd})\n{source}"
        child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[fd], cwd=ROOT)
    finally:
        os.close(fd)
    with closing(board):
        try:
            yield board, child
        finally:
            child.kill()
            child.wait()


@pytest.mark.parametrize("slots", [1, 2, 513, 1024])
def test_each_slot_is_its_own(slots: int) -> None:
    with boards(slots) as (master, worker):
        assert master.slots == worker.slots == slots
        assert len(master.started) == len(master.started_at) == slots
        assert not any(master.started)
        assert not any(master.started_at)
        for slot in range(slots):
            worker.started[slot] = 2**63 + slot
            worker.started_at[slot] = 2**62 + slot
        assert list(master.started) == [2**63 + slot for slot in range(slots)]
        assert list(master.started_at) == [2**62 + slot for slot in range(slots)]
        assert master.pid == 0
        assert master.beats() == (0, None)


def test_a_slot_that_does_not_exist() -> None:
    with boards(3) as (master, worker):
        with pytest.raises(IndexError):
            worker.started[3] = 1
        with pytest.raises(IndexError):
            master.started_at[3]


def test_register_and_beat() -> None:
    with boards(1) as (master, worker):
        before = time.monotonic_ns()
        worker.register()
        assert master.pid == os.getpid()
        first, loop = master.beats()
        assert before <= first <= time.monotonic_ns()
        assert loop is None
        worker.beat()
        assert master.beats()[0] > first


def test_the_loop_beats_only_while_one_runs() -> None:
    with boards(1) as (master, worker):
        worker.loop_beat()
        assert master.beats()[1] is None
        before = time.monotonic_ns()
        worker.loop_runs(True)
        first = master.beats()[1]
        assert first is not None
        assert first >= before, "a loop that starts to run is not judged by the beats of the one before"
        worker.loop_beat()
        second = master.beats()[1]
        assert second is not None
        assert second > first
        worker.loop_runs(False)
        assert master.beats() == (0, None)


def test_memory_is_given_back() -> None:
    fd = Scoreboard.create(1)
    board = Scoreboard(fd)
    os.close(fd)
    board.close()
    with pytest.raises(ValueError, match="released"):
        board.beats()
    with pytest.raises(ValueError, match="released"):
        board.started[0] = 1


def test_it_can_be_read_after_the_worker_was_killed() -> None:
    with writing_child(
        "board.register()\nboard.started[3] = 42\nboard.started_at[3] = 7\nimport signal; signal.pause()"
    ) as (
        board,
        child,
    ):
        eventually(lambda: board.started_at[3])
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert board.pid == child.pid
        assert board.started[3] == 42
        assert board.started_at[3] == 7


def test_no_value_is_ever_seen_half() -> None:
    """A reader in another process sees the one word or the other, whenever it looks."""
    source = """
board.register()
words = board.started
while True:
    words[5] = 0x1111111111111111
    words[5] = 0xEEEEEEEEEEEEEEEE
"""
    with writing_child(source) as (board, _):
        eventually(lambda: board.started[5])
        words = board.started
        seen: set[int] = set()
        for _ in range(20):
            seen.update(words[5] for _ in range(20_000))
        assert seen <= {0x1111111111111111, 0xEEEEEEEEEEEEEEEE}
        eventually(lambda: seen.add(words[5]) or len(seen) == 2)  # the writer did write while we read


def test_nobody_can_cut_it_off_under_its_master() -> None:
    """A worker may have given up rights that its master has: it must not be able to end it by SIGBUS."""
    fd = Scoreboard.create(1)
    try:
        for size in (0, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    finally:
        os.close(fd)


def test_counts_work() -> None:
    fd = Scoreboard.create(0)
    with closing(Scoreboard(fd)) as board:
        os.close(fd)
        assert (board.slots, board.work) == (0, 0)
        board.count(1)
        board.count(5)
        assert board.work == 6
