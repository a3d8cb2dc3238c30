"""Threads that wait for objects without a descriptor: how many there are, and that they leave, whatever happens."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioipc import ClosedResourceError, SysVMessageQueue, SysVSemaphoreSet
from aioipc._loop import object_readiness, wait_threads
from aioipc._loop.back_off import LONGEST
from aioipc._loop.object_readiness import KEPT, ObjectReadiness
from aioipc._loop.wait_queue import WaitQueue
from aioipc._loop.waits import PAUSE, Wait
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script, running_script

from .objects import turns


def waiting_threads() -> int:
    """How many threads of ours the kernel knows."""
    names = []
    for path in Path("/proc/self/task").iterdir():
        try:
            names.append((path / "comm").read_text())
        except OSError:  # it has just ended
            pass
    return names.count("aioipc-wait\n")


def blocked_signals() -> int:
    """Those of the only thread of ours, as the kernel's mask."""
    (thread,) = (path for path in Path("/proc/self/task").iterdir() if (path / "comm").read_text() == "aioipc-wait\n")
    status = dict(line.partition(":\t")[::2] for line in (thread / "status").read_text().splitlines())
    return int(status["SigBlk"], 16)


class Flag:
    """An object that is ready or not; a pipe stands for what the kernel would wake."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.asked = 0
        self.looks = 0  # without waiting
        self.answer: int | None = None
        self._ends = os.pipe()

    def set(self) -> None:
        os.write(self._ends[1], b"x")

    def take(self) -> bytes:
        if not select_read(self._ends[0]):
            raise BlockingIOError
        return os.read(self._ends[0], 1)

    def ask(self, block: bool) -> int | None:
        self.asked += 1
        self.looks += not block
        if not select_read(self._ends[0], None if block else 0):
            raise InterruptedError if block else BlockingIOError
        return self.answer

    def keep(self, taken: int) -> None:
        self.kept.append(taken)

    def close(self) -> None:
        for fd in self._ends:
            os.close(fd)


def select_read(fd: int, timeout: float | None = 0) -> bool:
    """Poll by libc, so that a signal ends it as it ends ``msgrcv``: Python's own calls go on by themselves."""
    import ctypes
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    record = ctypes.create_string_buffer(struct.pack("ihh", fd, 1, 0))
    return libc.poll(record, 1, -1 if timeout is None else 0) > 0


@contextmanager
def flags(count: int = 1) -> Iterator[list[Flag]]:
    made = [Flag() for _ in range(count)]
    try:
        yield made
    finally:
        for flag in made:
            flag.close()


@pytest.fixture
def cap(monkeypatch: pytest.MonkeyPatch) -> int:
    """Few threads, so that the sweeper has to do the rest."""
    pool = wait_threads.WaitThreads(3)
    monkeypatch.setattr(wait_threads, "threads", pool)
    return 3


@pytest.fixture(autouse=True)
def looking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave all waiting to the threads, which these tests are about, unless a test says for how long the loop looks."""
    mark = request.node.get_closest_marker("looking")
    monkeypatch.setattr(object_readiness, "LOOKING", mark.args[0] if mark else 0)


@pytest.mark.looking(20.0)
async def test_what_comes_soon_needs_no_thread() -> None:
    with flags() as (flag,):
        queue = WaitQueue(ObjectReadiness(flag), "flag")
        for _ in range(10):
            task = asyncio.create_task(queue.take(flag.take))
            await eventually_async(lambda: flag.looks)
            flag.set()
            assert await asyncio.wait_for(task, 30) == b"x"
            assert flag.asked == flag.looks
            flag.asked = flag.looks = 0
        assert waiting_threads() == 0
        queue.close(lambda: None)


@pytest.mark.looking(1e-9)
async def test_after_looking_in_vain_the_next_waits_do_not_look() -> None:
    """Each time twice as many: who waits for long seldom looks."""
    with flags() as (flag,):
        queue = WaitQueue(ObjectReadiness(flag), "flag")
        looks = []
        for _ in range(40):
            task = asyncio.create_task(queue.take(flag.take))
            await eventually_async(lambda: flag.asked > flag.looks)  # a thread waits
            flag.set()
            assert await asyncio.wait_for(task, 30) == b"x"
            looks.append(flag.looks)
            flag.asked = flag.looks = 0
        assert [number for number, count in enumerate(looks) if count] == [0, 2, 6, 14, 30]
        queue.close(lambda: None)


@pytest.mark.looking(20.0)
async def test_what_a_look_could_not_leave_is_kept() -> None:
    reports = []
    with flags() as (flag,):
        flag.answer = 7
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: bool(reports.append(1)))
        flag.set()
        await eventually_async(lambda: reports == [1])
        assert flag.kept == [7]
        readiness.close()


@pytest.mark.looking(20.0)
async def test_disarmed_or_closed_it_does_not_look_on() -> None:
    with flags() as (flag,):
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: False)
        await eventually_async(lambda: flag.looks)
        readiness.disarm()
        await turns()
        looks = flag.looks
        await turns()
        assert flag.looks == looks
        readiness.arm(lambda: False)
        await eventually_async(lambda: flag.looks > looks)
        readiness.close()
        looks = flag.looks
        await turns()
        assert flag.looks == looks


async def test_reports_once_for_each_time_it_is_armed() -> None:
    reports = []
    with flags() as (flag,):
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: bool(reports.append(1)))
        await eventually_async(lambda: flag.asked == 1)
        flag.set()
        await eventually_async(lambda: reports)
        await turns()
        assert reports == [1]
        readiness.arm(lambda: bool(reports.append(2)))
        await eventually_async(lambda: reports == [1, 2])
        readiness.close()
        readiness.close()


async def test_disarmed_it_reports_nothing_and_armed_again_it_does() -> None:
    reports = []
    with flags() as (flag,):
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: bool(reports.append("first")))
        readiness.disarm()
        flag.set()
        await eventually_async(lambda: not readiness._waits)
        assert not reports
        readiness.arm(lambda: bool(reports.append("second")))
        await eventually_async(lambda: reports == ["second"])
        readiness.close()


async def test_what_could_not_be_left_is_kept_and_not_lost() -> None:
    with flags() as (flag,):
        flag.answer = 7
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: False)
        flag.set()
        await eventually_async(lambda: flag.kept == [7])
        readiness.arm(lambda: False)
        await eventually_async(lambda: flag.asked == 2)
        readiness.close()  # at once, before the loop could hear of it
        assert flag.kept == [7, 7]


async def test_closing_gets_the_thread_out() -> None:
    for _ in range(50):
        with flags() as (flag,):
            readiness = ObjectReadiness(flag)
            readiness.arm(lambda: False)
            readiness.close()  # it may not even have begun
    await eventually_async(lambda: waiting_threads() == 0)


async def test_closing_keeps_a_handler_of_the_program() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
    try:
        with flags() as (flag,):
            readiness = ObjectReadiness(flag)
            readiness.arm(lambda: False)
            await eventually_async(lambda: flag.asked)
            readiness.close()
        assert heard
        os.kill(os.getpid(), signal.SIGURG)
        await eventually_async(lambda: len(heard) > 1)
    finally:
        signal.signal(signal.SIGURG, before)


async def test_the_threads_get_none_of_the_programs_signals() -> None:
    with flags() as (flag,):
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: False)
        await eventually_async(lambda: waiting_threads() == 1)
        blocked = blocked_signals()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM):
            assert blocked >> (number - 1) & 1
        assert not blocked >> (signal.SIGURG - 1) & 1
        assert not blocked >> (signal.SIGSEGV - 1) & 1
        readiness.close()


async def test_starting_a_thread_leaves_the_stack_size_and_the_mask_alone() -> None:
    stack, mask = threading.stack_size(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with flags() as (flag,):
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: False)
        assert threading.stack_size() == stack
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        readiness.close()


async def test_other_probes_are_let_go_when_there_are_too_many() -> None:
    count = 3 * KEPT
    with flags(count) as made:
        readiness = ObjectReadiness(made[0])
        for flag in made:
            readiness.probe = flag
            readiness.arm(lambda: False)
        assert len(readiness._waits) <= KEPT + 1
        assert readiness.probe in readiness._waits
        await eventually_async(lambda: waiting_threads() <= KEPT + 2)
        readiness.close()


async def test_above_the_cap_one_sweeper_waits_for_all_others(cap: int) -> None:
    with flags(20) as made:
        queues = [WaitQueue(ObjectReadiness(flag), "flag") for flag in made]
        tasks = [asyncio.create_task(queue.take(flag.take)) for queue, flag in zip(queues, made, strict=True)]
        await eventually_async(lambda: all(flag.asked > 0 for flag in made))
        assert waiting_threads() == cap + 1
        for flag in made:
            flag.set()
        async with asyncio.timeout(30):
            assert await asyncio.gather(*tasks) == [b"x"] * 20
        for queue in queues:
            queue.close(lambda: None)
    await eventually_async(lambda: waiting_threads() == 0)


async def test_a_swept_wait_can_be_closed(cap: int) -> None:
    with flags(10) as made:
        queues = [WaitQueue(ObjectReadiness(flag), "flag") for flag in made]
        tasks = [asyncio.create_task(queue.take(flag.take)) for queue, flag in zip(queues, made, strict=True)]
        await eventually_async(lambda: all(flag.asked > 0 for flag in made))
        for queue in queues:
            queue.close(lambda: None)
        for task in tasks:
            with pytest.raises(ClosedResourceError):
                await asyncio.wait_for(task, 30)
        asked = [flag.asked for flag in made]
        await asyncio.sleep(2 * LONGEST)
        assert [flag.asked for flag in made] == asked  # nobody asks any more
    await eventually_async(lambda: waiting_threads() == 0)


async def test_without_a_thread_to_start_the_sweeper_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads run out, those that there are do what they can; without any, the error says so."""
    real = wait_threads.start_new_thread
    allowed = 1

    def start(*arguments: object) -> int:
        nonlocal allowed
        if threads_refused() or allowed <= 0:
            raise RuntimeError("can't start new thread")
        allowed -= 1
        return real(*arguments)  # type: ignore[arg-type]

    refuse_next = [True]

    def threads_refused() -> bool:
        return refuse_next.pop() if refuse_next else False

    monkeypatch.setattr(wait_threads, "threads", wait_threads.WaitThreads())
    monkeypatch.setattr(wait_threads, "start_new_thread", start)
    with flags(2) as (flag, other):
        queue = WaitQueue(ObjectReadiness(flag), "flag")
        task = asyncio.create_task(queue.take(flag.take))
        await eventually_async(lambda: flag.asked > 0)
        flag.set()
        assert await asyncio.wait_for(task, 30) == b"x"
        queue.close(lambda: None)
        await eventually_async(lambda: waiting_threads() == 0)
        readiness = ObjectReadiness(other)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            readiness.arm(lambda: False)
        readiness.close()


async def test_1000_tasks_on_one_queue_share_one_thread() -> None:
    async with SysVMessageQueue.create() as queue:
        tasks = [asyncio.create_task(queue.receive()) for _ in range(1000)]
        await eventually_async(lambda: queue.statistics().receivers_waiting == 1000)
        await eventually_async(lambda: waiting_threads() == 1)
        for number in range(1000):
            await queue.send(number.to_bytes(2))
            assert waiting_threads() <= 1
        async with asyncio.timeout(50):
            received = await asyncio.gather(*tasks)
        assert [int.from_bytes(message.body) for message in received] == list(range(1000))


async def test_1000_queues_need_the_capped_threads_and_one_sweeper() -> None:
    queues = [SysVMessageQueue.create() for _ in range(1000)]
    try:
        tasks = [asyncio.create_task(queue.receive()) for queue in queues]
        await eventually_async(lambda: wait_threads.threads.count == wait_threads.CAP, 30)
        await eventually_async(lambda: waiting_threads() == wait_threads.CAP + 1, 30)
        for number, queue in enumerate(queues):
            await queue.send(number.to_bytes(2))
        async with asyncio.timeout(50):
            received = await asyncio.gather(*tasks)
        assert [int.from_bytes(message.body) for message in received] == list(range(1000))
    finally:
        for queue in queues:
            queue.close()


WAIT = """
    import asyncio, sys, aioipc

    async def main():
        queue = aioipc.SysVMessageQueue.open(id=int(sys.argv[1]))
        semaphores = aioipc.SysVSemaphoreSet.open(id=int(sys.argv[2]))
        tasks = [asyncio.create_task(queue.receive()), asyncio.create_task(semaphores.acquire())]
        while semaphores.statistics().waiting != (1,):
            await asyncio.sleep(0.001)
        print("waiting", flush=True)
        {end}

    asyncio.run(main())
    print("over")
"""


@pytest.mark.parametrize(
    "end",
    [
        "return",
        "sys.exit(0)",
        "queue.close(); semaphores.close(); await asyncio.gather(*tasks, return_exceptions=True)",
        "globals()['kept'] = queue, semaphores",
    ],
)
def test_the_end_of_the_interpreter_is_not_held_up(end: str) -> None:
    """Whatever is left of the objects then, and with threads that still sit in their calls."""
    queue, semaphores = SysVMessageQueue.create(), SysVSemaphoreSet.create(None, [0])
    try:
        done = run_script(WAIT.format(end=end), str(queue.id), str(semaphores.id), python=("-W", "ignore"))
        done.check()
        assert "waiting" in done.stdout
        assert not done.stderr
        queue.send_nowait(b"still there")
        assert queue.receive_nowait().body == b"still there"
    finally:
        queue.close()
        semaphores.close()


def test_a_signal_ends_a_program_that_waits() -> None:
    queue, semaphores = SysVMessageQueue.create(), SysVSemaphoreSet.create(None, [0])
    try:
        with running_script(
            WAIT.format(end="await asyncio.gather(*tasks)"), str(queue.id), str(semaphores.id)
        ) as script:
            script.wait_output("waiting", 30)
            script.send_signal(signal.SIGTERM)
            assert script.wait(30).returncode == -signal.SIGTERM
    finally:
        queue.close()
        semaphores.close()


def test_a_forked_child_can_close_what_it_has_inherited() -> None:
    """The threads are the parent's; the child neither waits for them nor removes the parent's objects."""
    source = """
        import asyncio, os, aioipc

        async def main():
            Queue, Set = aioipc.SysVMessageQueue, aioipc.SysVSemaphoreSet
            async with Queue.create() as queue, Set.create(None, [0]) as semaphores:
                tasks = [asyncio.create_task(queue.receive()), asyncio.create_task(semaphores.acquire())]
                while semaphores.statistics().waiting != (1,):
                    await asyncio.sleep(0.001)
                pid = os.fork()
                if pid == 0:
                    queue.close()
                    semaphores.close()
                    os._exit(0)
                _, status = os.waitpid(pid, 0)
                assert status == 0, status
                await queue.send(b"for the parent")
                semaphores.release()
                print(await asyncio.gather(*tasks))

        asyncio.run(main())
    """
    done = run_script(source, python=("-W", "error", "-W", "ignore::DeprecationWarning")).check()
    assert "for the parent" in done.stdout


async def test_a_loop_that_is_closed_meanwhile_does_not_matter() -> None:
    with flags() as (flag,):
        loop = asyncio.new_event_loop()
        wait = Wait(flag, loop, lambda wait: None)
        wait.hold()
        loop.close()
        flag.set()
        wait.block()
        wait.leave()
        wait.cancel()


async def test_a_thread_that_will_not_come_out_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes later it hands back by itself."""
    monkeypatch.setattr("aioipc._loop.waits.interrupt", lambda thread, out: False)
    with flags() as (flag,):
        flag.answer = 3
        readiness = ObjectReadiness(flag)
        readiness.arm(lambda: False)
        await eventually_async(lambda: flag.asked)
        readiness.close()
        assert not flag.kept
        flag.set()
        await eventually_async(lambda: flag.kept == [3])
        await eventually_async(lambda: waiting_threads() == 0)


async def test_a_question_that_fails_is_not_asked_again_at_once() -> None:
    """The task that tries does not see why, and arms again and again."""

    class Failing(Flag):
        def ask(self, block: bool) -> int | None:
            self.asked += 1
            raise OSError(errno.ENOMEM, "no memory")

    flag = Failing()
    queue = WaitQueue(ObjectReadiness(flag), "flag")
    task = asyncio.create_task(queue.take(flag.take))
    await eventually_async(lambda: flag.asked > 3)
    begin, asked = time.monotonic(), flag.asked
    await asyncio.sleep(0.1)
    assert flag.asked - asked <= (time.monotonic() - begin) / PAUSE + 2
    flag.set()
    assert await asyncio.wait_for(task, 30) == b"x"
    queue.close(flag.close)


async def test_the_garbage_collector_may_close_objects_anywhere() -> None:
    """Also in a thread that is about to do something with them."""
    for _ in range(30):
        queues = [SysVMessageQueue.create() for _ in range(4)]
        for queue in queues:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await queue.receive()
            queue.cycle = queue  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del queue, queues
            await asyncio.to_thread(gc.collect)


async def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_threads, "IDLE", 0.01)
    with flags(2) as (flag, other):
        readiness, another = ObjectReadiness(flag), ObjectReadiness(other)
        flag.set()
        readiness.arm(lambda: False)
        await eventually_async(lambda: flag.asked)
        await eventually_async(lambda: waiting_threads() == 0)
        another.arm(lambda: False)
        await eventually_async(lambda: other.asked)
        readiness.close()
        another.close()
