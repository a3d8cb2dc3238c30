"""File locks against the real kernel, with flock(1), lockf(3) and other processes at the other end."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aioipc import ClosedResourceError, FileLock, ObjectRemovedError, WouldBlock
from aioipc.testing.conformance.storm import Storm
from tests.harness.c_programs import need
from tests.harness.hostile import NOBODY, open_to_all, run_confined
from tests.harness.processes import eventually, eventually_async
from tests.harness.scripts import run_script, running_script

KINDS = ("flock", "ofd")

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest_asyncio.fixture
async def pair(path: Path, kind: Any) -> AsyncIterator[tuple[FileLock, FileLock]]:
    async with FileLock.open(path, kind=kind) as one, FileLock.open(path, kind=kind) as other:
        yield one, other


def waiting_threads() -> int:
    found = 0
    for tid in os.listdir("/proc/self/task"):
        try:
            found += Path(f"/proc/self/task/{tid}/comm").read_text() == "aioipc-wait\n"
        except OSError:  # it has just ended
            pass
    return found


def somebody_waits(path: Path, how: str = "") -> Callable[[], bool]:
    """Whether a thread or a program waits in the kernel for a lock of the file, to READ or to WRITE."""
    words = (" -> ", how, f":{path.stat().st_ino} ")
    return lambda: any(all(word in line for word in words) for line in Path("/proc/locks").read_text().splitlines())


def is_free(path: Path, kind: Any, shared: bool = False) -> bool:
    lock = FileLock.open(path, kind=kind)
    try:
        lock.acquire_nowait(shared=shared)
    except WouldBlock:
        return False
    finally:
        lock.close()
    return True


async def test_exclusive_and_shared(pair: tuple[FileLock, FileLock], path: Path, kind: Any) -> None:
    one, other = pair
    async with one.held():
        assert one.statistics().held == "exclusive"
        with pytest.raises(WouldBlock):
            other.acquire_nowait()
        with pytest.raises(WouldBlock):
            other.acquire_nowait(shared=True)
        assert "exclusive" in repr(one)
        assert f"{path}" in repr(one)
        assert os.fstat(one.fileno()).st_ino == path.stat().st_ino
    async with one.held(shared=True), other.held(shared=True), other.held(shared=True):
        assert other.statistics().held == "shared"
        assert other.statistics().holders == 2
        assert is_free(path, kind, shared=True)
        assert not is_free(path, kind)
    assert is_free(path, kind)
    assert one.statistics().held is None
    assert one.statistics().acquired == 2
    assert waiting_threads() == 0
    with pytest.raises(RuntimeError, match="not held"):
        one.release()


async def test_waits_for_another_object(pair: tuple[FileLock, FileLock], path: Path) -> None:
    one, other = pair
    for shared in (False, True):
        await one.acquire()
        number = other.fileno()
        task = asyncio.create_task(other.acquire(shared=shared))
        await eventually_async(somebody_waits(path))
        assert other.statistics().waiting == 1
        one.release()
        async with asyncio.timeout(30):
            await task
        assert other.fileno() == number
        assert other.statistics().held == ("shared" if shared else "exclusive")
        other.release()
    assert one.statistics().reopened == other.statistics().reopened == 0


async def test_tasks_of_one_object_come_in_order_and_need_no_thread(pair: tuple[FileLock, FileLock]) -> None:
    one, _ = pair
    log: list[str] = []

    async def use(name: str, shared: bool) -> None:
        async with one.held(shared=shared):
            log.append(f"+{name}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append(f"-{name}")

    await one.acquire()
    wishes = [("a", True), ("b", True), ("c", False), ("d", True), ("e", False)]
    tasks = [asyncio.create_task(use(*wish)) for wish in wishes]
    await eventually_async(lambda: one.statistics().waiting == 5)
    with pytest.raises(WouldBlock):
        one.acquire_nowait()
    assert waiting_threads() == 0
    one.release()
    await asyncio.gather(*tasks)
    assert sorted(log[:4]) == ["+a", "+b", "-a", "-b"]
    assert log[1] == "+b", "two that share it have it at once"
    assert log[4:] == ["+c", "-c", "+d", "-d", "+e", "-e"]


async def test_who_wants_less_than_the_cancelled_one_before(pair: tuple[FileLock, FileLock], path: Path) -> None:
    one, other = pair
    await one.acquire(shared=True)
    first = asyncio.create_task(other.acquire())
    await eventually_async(somebody_waits(path))
    second = asyncio.create_task(other.acquire(shared=True))
    await eventually_async(lambda: other.statistics().waiting == 2)
    first.cancel()
    async with asyncio.timeout(30):
        await second
    assert other.statistics().held == "shared"


async def test_cancelled_when_the_thread_has_got_it(pair: tuple[FileLock, FileLock], path: Path, kind: Any) -> None:
    one, other = pair
    await one.acquire()
    waiting = asyncio.create_task(other.acquire())
    await eventually_async(somebody_waits(path))
    one.release()
    eventually(lambda: not is_free(path, kind))  # and the loop does not turn
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await eventually_async(lambda: is_free(path, kind))
    one.acquire_nowait()


async def test_threads_that_want_different_things(pair: tuple[FileLock, FileLock], path: Path) -> None:
    """What one of them has got for a later task is not in the way of the first one."""
    one, other = pair
    for _ in range(8):
        await one.acquire()
        first, second, third = [asyncio.create_task(other.acquire(shared=shared)) for shared in (False, True, False)]
        await eventually_async(lambda: other.statistics().waiting == 3 and somebody_waits(path)(), 20)
        first.cancel()
        await eventually_async(somebody_waits(path, "READ"), 20)  # and a thread of the first one goes on, as a rule
        one.release()
        async with asyncio.timeout(20):
            await second
            assert other.statistics().held == "shared"
            other.release()
            await third
        assert first.cancelled()
        assert other.statistics().held == "exclusive"
        other.release()


HOLDER = """
    import asyncio, sys, aioipc
    async def main():
        async with aioipc.FileLock.open(sys.argv[1], kind=sys.argv[2]) as lock, lock.held():
            print("held", flush=True)
            await asyncio.Event().wait()
    asyncio.run(main())
"""


async def test_the_lock_dies_with_its_holder(path: Path, kind: Any) -> None:
    with running_script(HOLDER, str(path), kind) as holder:
        holder.wait_output("held")
        async with FileLock.open(path, kind=kind) as lock:
            waiting = asyncio.create_task(lock.acquire())
            await eventually_async(somebody_waits(path))
            assert not waiting.done()
            holder.send_signal(signal.SIGKILL)
            async with asyncio.timeout(30):
                await waiting


FORKER = """
    import asyncio, os, signal, sys, aioipc
    async def main():
        lock = aioipc.FileLock.open(sys.argv[1], kind=sys.argv[2])
        other = aioipc.FileLock.open(sys.argv[1], kind=sys.argv[2])
        await lock.acquire()
        waiting = asyncio.create_task(other.acquire())
        await asyncio.sleep(0)
        child = os.fork()
        if not child:
            for use in (lock.release, lock.acquire_nowait, lock.fileno):
                try:
                    use()
                except aioipc.ClosedResourceError:
                    pass
                else:
                    os._exit(1)
            lock.close()
            assert lock.statistics().held is None
            again = aioipc.FileLock.open(sys.argv[1], kind=sys.argv[2])
            try:
                again.acquire_nowait()
            except aioipc.WouldBlock:
                os.write(1, b"the parent holds it\\n")
            signal.pause()
        os.write(1, b"forked %d\\n" % child)
        await asyncio.Event().wait()
    asyncio.run(main())
"""


async def test_a_forked_child_neither_frees_nor_keeps_it(path: Path, kind: Any) -> None:
    """Not even a child that outlives the parent, which was killed."""
    with running_script(FORKER, str(path), kind, python=("-W", "ignore")) as forker:
        pattern = r"(?=.*forked (\d+)$)(?=.*the parent holds it$)"
        found = await eventually_async(
            lambda: re.match(pattern, forker.stdout, re.DOTALL | re.MULTILINE),
            20,
            lambda: f"{forker.stdout} {forker.stderr}",
        )
        assert not is_free(path, kind)
        os.kill(forker.pid, signal.SIGSTOP)
        assert not is_free(path, kind)
        child = int(found[1])
        try:
            os.kill(forker.pid, signal.SIGKILL)
            await eventually_async(lambda: is_free(path, kind), 20)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


async def test_other_programs(path: Path, kind: Any) -> None:
    """``flock(1)`` against flock, ``lockf(3)`` against ofd: each excludes the other, both ways."""
    if kind == "flock":
        need("flock")
        command: list[str] = ["flock", str(path), "sh", "-c", "echo held; cat"]
    else:
        source = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=1)"
        command = ["python3", "-c", f"{source}; sys.stdin.read()", str(path)]
    pipe = asyncio.subprocess.PIPE
    async with asyncio.timeout(50), FileLock.open(path, kind=kind) as lock:
        await lock.acquire()
        program = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert program.stdout is not None
        line = asyncio.ensure_future(program.stdout.readline())
        await eventually_async(somebody_waits(path), 20)
        assert not line.done()
        lock.release()
        assert await line == b"held\n"
        waiting = asyncio.create_task(lock.acquire())
        await eventually_async(somebody_waits(path))
        assert not is_free(path, kind)
        await program.communicate(b"")
        await waiting


async def test_closing_another_descriptor_frees_nothing(path: Path, kind: Any) -> None:
    async with FileLock.open(path, kind=kind) as lock, lock.held():
        path.read_bytes()
        FileLock.open(path, kind=kind).close()
        assert not is_free(path, kind)


@pytest.mark.parametrize("replace", ["remove", "replace"])
async def test_the_path_gets_another_file(pair: tuple[FileLock, FileLock], path: Path, kind: Any, replace: str) -> None:
    """Whoever gets the lock has that of the file that is there now."""
    one, other = pair
    await one.acquire()
    waiting = asyncio.create_task(other.acquire())
    await eventually_async(somebody_waits(path))
    if replace == "remove":
        path.unlink()
    else:
        (path.parent / "new").touch()
        (path.parent / "new").rename(path)
    assert is_free(path, kind) or waiting.done()
    one.release()
    async with asyncio.timeout(30):
        await waiting
    assert other.statistics().reopened >= 1
    assert os.fstat(other.fileno()).st_ino == path.stat().st_ino
    assert not is_free(path, kind)
    with pytest.raises(WouldBlock):
        one.acquire_nowait()
    other.release()
    async with one.held():
        assert os.fstat(one.fileno()).st_ino == path.stat().st_ino


async def test_the_file_vanishes_for_good(path: Path, kind: Any) -> None:
    path.touch()
    async with FileLock.open(path, kind=kind, create=False) as lock, FileLock.open(path, kind=kind) as other:
        await other.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await eventually_async(somebody_waits(path))
        path.unlink()
        other.release()
        async with asyncio.timeout(30):
            with pytest.raises(ObjectRemovedError, match="was removed"):
                await waiting
        with pytest.raises(ObjectRemovedError):
            lock.acquire_nowait()
        path.touch()
        lock.acquire_nowait()


async def test_ranges(path: Path, kind: Any) -> None:
    if kind == "flock":
        with pytest.raises(ValueError, match="whole files"):
            FileLock.open(path, length=10)
        return
    async with AsyncExitStack() as stack:
        ranges = [(0, 10), (10, 10), (15, 0), (5, 1)]
        locks = [FileLock.open(path, kind="ofd", start=start, length=length) for start, length in ranges]
        for lock in locks:
            await stack.enter_async_context(lock)
        locks[0].acquire_nowait()
        locks[1].acquire_nowait()
        for lock in locks[2:]:
            with pytest.raises(WouldBlock):
                lock.acquire_nowait()
        locks[1].release()
        locks[2].acquire_nowait()
        assert not is_free(path, kind)


async def test_closing_wakes_who_waits(pair: tuple[FileLock, FileLock], path: Path) -> None:
    one, other = pair
    await one.acquire()
    waiting = asyncio.create_task(other.acquire())
    await eventually_async(somebody_waits(path))
    other.close()
    with pytest.raises(ClosedResourceError):
        await waiting
    for use in (other.acquire_nowait, other.release, other.fileno):
        with pytest.raises(ClosedResourceError):
            use()
    assert "closed" in repr(other)
    await other.aclose()
    one.close()
    assert one.statistics().held is None


def test_wrong_arguments(path: Path, kind: Any, tmp_path: Path) -> None:
    wrong: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: FileLock.open(path, kind="lockf"), ValueError),  # type: ignore[arg-type]
        (lambda: FileLock.open("", kind=kind), ValueError),
        (lambda: FileLock.open(3, kind=kind), TypeError),  # type: ignore[arg-type]
        (lambda: FileLock.open(path, kind=kind, mode=0o7777), ValueError),
        (lambda: FileLock.open(path, kind="ofd", start=-1), ValueError),
        (lambda: FileLock.open(path, kind=kind, create=False), FileNotFoundError),
        (lambda: FileLock.open(tmp_path / "no" / "lock", kind=kind), FileNotFoundError),
        (lambda: FileLock.open("/dev/null", kind=kind), ValueError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    assert not path.exists()
    with pytest.warns(ResourceWarning, match="unclosed <FileLock"):
        FileLock.open(path, kind=kind)


READ_ONLY = """
    import sys, aioipc
    path, kind = sys.argv[1:]
    lock = aioipc.FileLock.open(path, kind=kind)
    lock.acquire_nowait(shared=True)
    lock.release()
    try:
        lock.acquire_nowait()
        print("exclusive")
    except PermissionError as error:
        print(error.strerror)
    lock.close()
    folder = aioipc.FileLock.open("/tmp")
    folder.close()
"""


def test_a_file_that_may_only_be_read(kind: Any) -> None:
    with open_to_all() as folder:
        path = folder / "lock"
        path.touch()
        path.chmod(0o644)
        done = run_confined(NOBODY, READ_ONLY, str(path), kind).check()
    assert done.stdout.startswith("exclusive" if kind == "flock" else "an exclusive lock of this kind needs")


WAITS_AT_EXIT = """
    import asyncio, fcntl, os, sys, aioipc
    holder = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    if sys.argv[2] == "ofd":
        blocker = aioipc.FileLock.open(sys.argv[1], kind="ofd")
        blocker.acquire_nowait()
    loop = asyncio.new_event_loop()
    lock = aioipc.FileLock.open(sys.argv[1], kind=sys.argv[2])
    task = loop.create_task(lock.acquire())
    loop.run_until_complete(asyncio.sleep(0.1))
    print("ends", flush=True)
    os.environ.get("X")
"""


def test_a_wait_does_not_hold_up_the_end(path: Path, kind: Any) -> None:
    done = run_script(WAITS_AT_EXIT, str(path), kind, timeout=20, python=("-W", "ignore"))
    assert "ends" in done.stdout
    assert done.returncode == 0, str(done)


async def test_cancelled_waits_leave_nothing(pair: tuple[FileLock, FileLock], path: Path, kind: Any) -> None:
    one, other = pair
    await one.acquire()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        task = asyncio.create_task(other.acquire(shared=random.random() < 0.5))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
    assert waiting_threads() <= 3
    one.release()
    await eventually_async(lambda: is_free(path, kind))
    await eventually_async(lambda: len(os.listdir("/proc/self/fd")) <= before)
    other.acquire_nowait()
    other.close()
    await eventually_async(lambda: waiting_threads() == 0)


COUNTER = """
    import asyncio, os, sys, aioipc
    from aioipc.testing.conformance.storm import Storm

    async def main():
        path, kind, counter, rounds, seed = sys.argv[1:]
        storm, over = Storm(int(seed)), asyncio.Event()
        async with aioipc.FileLock.open(path, kind=kind) as lock:
            async def work():
                for _ in range(int(rounds)):
                    await storm.until_done(lock.acquire)
                    with open(counter, "r+") as file:
                        number = int(file.read())
                        await asyncio.sleep(0)
                        file.seek(0)
                        file.write(str(number + 1))
                    lock.release()
                    await asyncio.sleep(0.001)

            async def all_of_them():
                await asyncio.gather(*(work() for _ in range(4)))
                over.set()

            await asyncio.gather(all_of_them(), storm.blow(over))
        print("cancelled", storm.cancelled)
    aioipc.run(main)
"""


async def test_a_storm_of_cancellations_in_two_processes(path: Path, kind: Any, tmp_path: Path) -> None:
    """A read-modify-write under the lock: every round counts, so no two had it at once, and it is free at the end."""
    rounds = 150
    counter = tmp_path / "counter"
    counter.write_text("0")
    arguments = [str(path), kind, str(counter), str(rounds)]
    with running_script(COUNTER, *arguments, "1") as one, running_script(COUNTER, *arguments, "2") as other:
        for script in (one, other):
            await eventually_async(lambda script=script: script.popen.poll() is not None, 50)  # type: ignore[misc]
            assert int(script.wait().check().stdout.split()[1]) > 300
    assert int(counter.read_text()) == 2 * 4 * rounds
    assert is_free(path, kind)


async def test_a_storm_beside_a_plain_holder(path: Path, kind: Any) -> None:
    """Shared and exclusive waits are cancelled while another description takes and gives the lock."""
    storm, over = Storm(3), asyncio.Event()
    chance = random.Random(3)
    inside = {False: 0, True: 0}
    async with asyncio.timeout(50), FileLock.open(path, kind=kind) as lock, FileLock.open(path, kind=kind) as blocker:

        async def work() -> None:
            for _ in range(60):
                shared = chance.random() < 0.5
                await storm.until_done(lambda shared=shared: lock.acquire(shared=shared))  # type: ignore[misc]
                inside[shared] += 1
                assert inside[False] + bool(inside[True]) == 1
                assert blocker.statistics().held is None or (shared and blocker.statistics().held == "shared")
                await asyncio.sleep(0)
                inside[shared] -= 1
                lock.release()

        async def block() -> None:
            while not over.is_set():
                async with blocker.held(shared=chance.random() < 0.3):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.001)

        async def work_all() -> None:
            await asyncio.gather(*(work() for _ in range(10)))
            over.set()

        await asyncio.gather(work_all(), block(), storm.blow(over))
    assert storm.cancelled > 1000
    assert is_free(path, kind)
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
