"""Watching and signalling processes, with pidfds and without."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from aioipc.kernel.processes import ExitWatch, kill_group, kill_session, open_pidfd

from ..harness.hostile import SECCOMP_ENOSYS, SECCOMP_EPERM, run_confined
from ..harness.processes import children, eventually, is_running, process, wait_ended, wait_gone, wait_state


@contextmanager
def started(*command: str, session: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours; it is reaped here at the latest."""
    child = subprocess.Popen(command, start_new_session=session)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@contextmanager
def sleeping(*, session: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    with started("sleep", "1000", session=session) as child:
        yield child


def leave_behind(source: str) -> tuple[int, int]:
    """Run a program that leads a session and leaves a process behind; return both pids.

    The leader has ended and is not reaped. What was left behind has printed its pid.
    """
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        member = int(leader.stdout.readline())
        wait_ended(leader.pid)
        leader.returncode = 0  # leave it to the test to reap it
    return leader.pid, member


def is_zombie(pid: int) -> bool:
    found = process(pid)
    return found is not None and found.is_zombie


def in_group(pid: int) -> int:
    found = process(pid)
    assert found is not None
    return found.pgid


# -- pidfds ------------------------------------------------------------------------------------------


def test_pidfd_names_the_process_and_tells_its_end() -> None:
    with sleeping() as child:
        fd = open_pidfd(child.pid)
        assert fd is not None
        try:
            assert not os.get_inheritable(fd)
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            assert poller.poll(0) == []
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            assert poller.poll(5000)
        finally:
            os.close(fd)


def test_pidfd_of_a_zombie_and_of_nobody() -> None:
    with started("true") as child:
        wait_ended(child.pid)
        fd = open_pidfd(child.pid)
        assert fd is not None
        os.close(fd)
    with pytest.raises(ProcessLookupError):
        open_pidfd(child.pid)


@pytest.mark.parametrize("refusal", [SECCOMP_EPERM, SECCOMP_ENOSYS])
def test_pidfd_refused(refusal: str) -> None:
    source = "import os; from aioipc.kernel.processes import open_pidfd; print(open_pidfd(os.getpid()))"
    assert run_confined(refusal, source).check().stdout == "None\n"


# -- groups and sessions -----------------------------------------------------------------------------


def test_a_child_that_leads_no_group_yet_is_killed_alone() -> None:
    """Its group is still its parent's: ours, and the sibling's."""
    with sleeping() as child, sleeping() as sibling:
        assert in_group(child.pid) == os.getpgrp()
        kill_group(child.pid)
        assert child.wait(5) == -signal.SIGKILL
        wait_state(sibling.pid, "S")


def test_a_group() -> None:
    with started("sh", "-c", "sleep 1000 & sleep 1000 & wait", session=True) as child:
        eventually(lambda: len(children(child.pid)) == 2)
        members = [each.pid for each in children(child.pid)]
        kill_group(child.pid)
        assert child.wait(5) == -signal.SIGKILL
        for pid in members:
            wait_gone(pid)


def test_another_signal() -> None:
    with started("sh", "-c", "sleep 1000 & wait", session=True) as child:
        [member] = eventually(lambda: [each.pid for each in children(child.pid)])
        kill_group(child.pid, signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
        wait_gone(member)


def test_the_group_of_a_leader_that_has_ended() -> None:
    """Until it is reaped its number is its own, and the group's."""
    leader, member = leave_behind("import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)")
    assert in_group(member) == leader
    kill_group(leader)
    wait_gone(member)
    assert os.waitpid(leader, 0) == (leader, 0)


def test_a_group_that_is_gone() -> None:
    for session in (True, False):
        with started("true", session=session) as child:
            wait_ended(child.pid)
            kill_group(child.pid)
            assert child.wait() == 0


LEAVES_THE_GROUP = """
import os, signal
if not os.fork():
    os.setpgid(0, 0)
    print(os.getpid(), flush=True)
    signal.pause()
"""


def test_what_left_the_group_but_not_the_session() -> None:
    leader, member = leave_behind(LEAVES_THE_GROUP)
    assert in_group(member) == member
    kill_group(leader)
    assert is_running(member), "a group is no session"
    os.waitpid(leader, 0)
    kill_session(leader)
    wait_gone(member)


def test_a_session_that_is_gone() -> None:
    with started("true", session=True) as child:
        pass
    kill_session(child.pid)


# -- watching ----------------------------------------------------------------------------------------


class Listener:
    """Notes when and where it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()

    def __call__(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.calls += 1
        self.called.set()

    async def wait(self) -> None:
        async with asyncio.timeout(5):
            await self.called.wait()


async def a_few_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tells_the_end_once_and_does_not_reap() -> None:
    listener = Listener()
    with sleeping() as child:
        watch = ExitWatch(asyncio.get_running_loop(), child.pid, listener)
        await a_few_turns()
        assert listener.calls == 0
        child.kill()
        await listener.wait()
        assert is_zombie(child.pid)
        await a_few_turns()
        assert listener.calls == 1
        watch.close()
        assert child.wait(5) == -signal.SIGKILL


async def test_one_that_has_ended_already() -> None:
    listener = Listener()
    with started("true") as child:
        wait_ended(child.pid)
        ExitWatch(asyncio.get_running_loop(), child.pid, listener)
        assert listener.calls == 0, "never from within the call"
        await listener.wait()


async def test_closed_before_the_end() -> None:
    listener = Listener()
    with sleeping() as child:
        watch = ExitWatch(asyncio.get_running_loop(), child.pid, listener)
        watch.close()
        watch.close()
        child.kill()
        child.wait()
        await a_few_turns()
    assert listener.calls == 0


async def test_closed_between_the_end_and_the_news_of_it() -> None:
    listener = Listener()
    with sleeping() as child:
        watch = ExitWatch(asyncio.get_running_loop(), child.pid, listener)
        child.kill()
        wait_ended(child.pid)
        watch.close()
        await a_few_turns()
    assert listener.calls == 0


async def test_many_at_once() -> None:
    listeners = [Listener() for _ in range(5)]
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        running = [stack.enter_context(sleeping()) for _ in listeners]
        for child, listener in zip(running, listeners, strict=True):
            stack.callback(ExitWatch(loop, child.pid, listener).close)
        running[3].kill()
        await listeners[3].wait()
        await a_few_turns()
        assert [each.calls for each in listeners] == [0, 0, 0, 1, 0]


# Without pidfds a thread waits: the same again, in a process that a filter refuses them to.

IN_THREADS = """
    import asyncio, importlib, os, subprocess, sys, threading
    from aioipc.kernel.processes import ExitWatch
    from tests.harness.processes import eventually, eventually_async

    class Listener(list):
        def __call__(self):
            assert threading.current_thread() is threading.main_thread()
            self.append("ended")

    def watched(child):
        listener = Listener()
        watch = ExitWatch(asyncio.get_running_loop(), child.pid, listener)
        assert listener == [], "never from within the call"
        return watch, listener

    def sleeping():
        return subprocess.Popen(["sleep", "1000"])

    def waiting():
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("aioipc-wait-")]

    async def tells_the_end_once_and_does_not_reap():
        child = sleeping()
        watch, listener = watched(child)
        assert waiting() == [f"aioipc-wait-{child.pid}"]
        child.kill()
        await eventually_async(lambda: listener)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        watch.close()
        assert child.wait() == -9
        await eventually_async(lambda: not waiting())
        assert listener == ["ended"]

    async def one_that_has_ended_already():
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        watch, listener = watched(child)
        await eventually_async(lambda: listener)
        child.wait()

    async def one_that_somebody_else_reaps():
        child = sleeping()
        watch, listener = watched(child)
        child.kill()
        child.wait()
        await eventually_async(lambda: listener)
        await eventually_async(lambda: not waiting())
        assert listener == ["ended"]

    async def closed_before_the_end():
        child = sleeping()
        watch, listener = watched(child)
        watch.close()
        watch.close()
        child.kill()
        child.wait()
        await eventually_async(lambda: not waiting())
        await asyncio.sleep(0)
        assert listener == []

    async def left_watching(child):
        return watched(child)[1]

    def run(coroutine):
        loop = importlib.import_module(sys.argv[1]).new_event_loop()
        result = loop.run_until_complete(coroutine)
        loop.close()
        return result

    run(tells_the_end_once_and_does_not_reap())
    run(one_that_has_ended_already())
    run(one_that_somebody_else_reaps())
    run(closed_before_the_end())

    child = sleeping()
    listener = run(left_watching(child))  # the loop is closed before the child ends
    child.kill()
    child.wait()
    eventually(lambda: not waiting())
    assert listener == []

    child = sleeping()
    run(left_watching(child))  # this process ends before the child does
    child.returncode = 0  # so that it is not waited for
    print(child.pid)
"""


@pytest.mark.parametrize(("loop", "refusal"), [("asyncio", SECCOMP_EPERM), ("uvloop", SECCOMP_ENOSYS)])
def test_threads_wait_where_pidfds_are_refused(loop: str, refusal: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    done = run_confined(refusal, IN_THREADS, loop).check()
    assert done.stderr == "", "a thread that has nobody to tell it says nothing"
    os.kill(int(done.stdout), signal.SIGKILL)
    wait_gone(int(done.stdout))
