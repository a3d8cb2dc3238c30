"""POSIX semaphores against the real ones of the C library, with C programs, posix_ipc and other processes."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from aioipc import ClosedResourceError, PosixSemaphore, WouldBlock
from aioipc._sys import posix_sem
from tests.harness.c_programs import compile_c, run_c
from tests.harness.hostile import TINY_SHM, run_confined
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

NAME = f"/aioipc-semaphore-{os.getpid()}"
FILE = Path("/dev/shm", f"sem.{NAME[1:]}")

PROGRAM = r"""
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    int value;
    sem_t *semaphore = strcmp(words[1], "create") ? sem_open(words[2], 0)
                                                  : sem_open(words[2], O_CREAT | O_EXCL, 0600, atoi(words[3]));
    if (semaphore == SEM_FAILED) { perror("sem_open"); return 1; }
    if (!strcmp(words[1], "post")) return sem_post(semaphore);
    if (!strcmp(words[1], "wait")) return sem_wait(semaphore);
    if (sem_getvalue(semaphore, &value)) return 1;
    printf("%d\n", value);
    return 0;
}
"""


@pytest_asyncio.fixture
async def slots() -> AsyncIterator[PosixSemaphore]:
    async with PosixSemaphore.create(NAME, 2) as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compile_c(PROGRAM, tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not FILE.exists()


async def test_taking_and_giving(slots: PosixSemaphore) -> None:
    assert slots.value == 2
    await slots.acquire()
    slots.acquire_nowait()
    assert slots.value == 0
    with pytest.raises(WouldBlock, match="not ready"):
        slots.acquire_nowait()
    waiting = asyncio.create_task(slots.acquire())
    await eventually_async(lambda: slots.statistics().waiting == 1)
    slots.release()
    await waiting
    slots.release()
    slots.release()
    found = slots.statistics()
    assert (found.value, found.acquired, found.released, found.waiting) == (2, 3, 3, 0)
    assert "value=2" in repr(slots)


async def test_held(slots: PosixSemaphore) -> None:
    async with slots.held():
        assert slots.value == 1
        async with slots.held():
            assert slots.value == 0
    assert slots.value == 2
    with pytest.raises(ZeroDivisionError):
        async with slots.held():
            raise ZeroDivisionError
    assert slots.value == 2


async def test_newcomers_do_not_overtake(slots: PosixSemaphore) -> None:
    order: list[int] = []

    async def take(which: int) -> None:
        await slots.acquire()
        order.append(which)

    await slots.acquire()
    await slots.acquire()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for which in range(10):
            group.create_task(take(which))
        await eventually_async(lambda: slots.statistics().waiting == 10)
        behind = posix_sem.open_semaphore(NAME)  # the object is not told
        behind.post()
        behind.close()
        with pytest.raises(WouldBlock, match="other tasks wait"):
            slots.acquire_nowait()
        for _ in range(9):
            slots.release()
    assert order == list(range(10))


async def test_cancelled_waiting_takes_nothing(slots: PosixSemaphore) -> None:
    async with slots.held(), slots.held():
        with anyio.move_on_after(0.01):
            await slots.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), slots.held():
                pass
        assert slots.statistics().waiting == 0
    assert slots.value == 2


async def test_released_by_a_thread(slots: PosixSemaphore) -> None:
    async with slots.held(), slots.held():
        waiting = asyncio.create_task(slots.acquire())
        await eventually_async(lambda: slots.statistics().waiting == 1)
        thread = threading.Thread(target=slots.release)
        thread.start()
        await waiting
        thread.join()


async def test_many_threads_and_a_close(slots: PosixSemaphore) -> None:
    """Whoever comes too late gets an error, and the process does not end by SIGSEGV."""
    errors: list[Exception] = []
    ready = threading.Barrier(5)

    def release() -> None:
        ready.wait(30)
        try:
            while True:
                slots.release()
        except ClosedResourceError as error:
            errors.append(error)

    threads = [threading.Thread(target=release) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    await eventually_async(lambda: slots.statistics().released > 100)
    slots.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 4


async def test_the_lifetime_of_the_name() -> None:
    async with PosixSemaphore.create(NAME, 3):
        with pytest.raises(FileExistsError, match="exist_ok=True"):
            PosixSemaphore.create(NAME, 5)
        async with PosixSemaphore.create(NAME, 5, exist_ok=True) as same:
            assert same.value == 3
        async with PosixSemaphore.open(NAME) as other:
            assert other.value == 3
        assert FILE.exists()
    assert not FILE.exists()
    async with PosixSemaphore.create(NAME, 0, remove=False) as left:
        pass
    assert FILE.exists()
    async with PosixSemaphore.open(NAME) as left:
        left.remove()
        left.remove()
        assert left.is_removed()


async def test_removed_under_our_feet(slots: PosixSemaphore) -> None:
    async with PosixSemaphore.open(NAME) as other:
        FILE.unlink()
        assert slots.is_removed()
        await slots.acquire()
        assert other.value == 1
        async with PosixSemaphore.create(NAME, 7) as new:
            slots.close()
            assert not new.is_removed()
            assert new.value == 7
            assert other.value == 1


async def test_closing(slots: PosixSemaphore) -> None:
    async with slots.held(), PosixSemaphore.open(NAME) as other:
        await other.acquire()
        waiting = asyncio.create_task(other.acquire())
        await eventually_async(lambda: other.statistics().waiting == 1)
        await other.aclose()
        with pytest.raises(ClosedResourceError):
            await waiting
        for _ in range(2):
            with pytest.raises(ClosedResourceError):
                await other.acquire()
            for use in (other.acquire_nowait, other.release, lambda: other.value):
                with pytest.raises(ClosedResourceError):
                    use()
        assert other.statistics().value == 0
        assert "closed" in repr(other)
    slots.release()


def test_dropped() -> None:
    kept = [PosixSemaphore.create(NAME)]
    with pytest.warns(ResourceWarning, match=f"unclosed <PosixSemaphore {NAME} value=1>"):
        kept.clear()


def test_permissions_whatever_the_umask() -> None:
    before = os.umask(0o077)
    try:
        semaphore = PosixSemaphore.create(NAME, mode=0o666)
    finally:
        os.umask(before)
    assert FILE.stat().st_mode & 0o777 == 0o666
    semaphore.close()


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_file_that_is_no_semaphore(content: bytes) -> None:
    """The C library would map it, and the first use would end the process by SIGBUS."""
    FILE.write_bytes(content)
    with pytest.raises(ValueError, match=f"is no semaphore: it has {len(content)} bytes"):
        PosixSemaphore.open(NAME)
    FILE.unlink()


def test_something_else_of_that_name() -> None:
    FILE.mkdir()
    with pytest.raises(ValueError, match="is no semaphore"):
        PosixSemaphore.open(NAME)
    FILE.rmdir()
    FILE.symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="is no semaphore"):
        PosixSemaphore.open(NAME)
    FILE.unlink()


async def test_the_largest_value() -> None:
    async with PosixSemaphore.create(NAME, (1 << 31) - 1) as semaphore:
        with pytest.raises(OSError, match="largest value, 2147483647"):
            semaphore.release()
        assert semaphore.value == (1 << 31) - 1


def test_full() -> None:
    script = f"""
        import os, aioipc
        fd = os.open("/dev/shm/fill", os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(fd, 0, os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize)
        try:
            aioipc.PosixSemaphore.create({NAME!r})
        except OSError as error:
            print(error)
        """
    assert "/dev/shm is full" in run_confined(TINY_SHM, script).check().stdout


async def test_with_a_c_program(program: Path) -> None:
    async with PosixSemaphore.create(NAME, 0) as semaphore:
        waiting = asyncio.create_task(semaphore.acquire())
        await eventually_async(lambda: semaphore.statistics().waiting == 1)
        await asyncio.to_thread(run_c, program, "post", NAME)
        await waiting
        semaphore.release()
        assert run_c(program, "value", NAME) == "1"
        run_c(program, "wait", NAME)
        assert semaphore.value == 0
        semaphore.remove()
    assert run_c(program, "create", NAME, "41") == "41"
    async with PosixSemaphore.open(NAME) as semaphore:
        assert semaphore.value == 41
        semaphore.remove()


async def test_with_posix_ipc(slots: PosixSemaphore) -> None:
    posix_ipc = pytest.importorskip("posix_ipc")
    other = posix_ipc.Semaphore(NAME)
    assert other.value == 2
    other.acquire()
    assert slots.value == 1
    async with slots.held():
        assert other.value == 0
    other.release()
    other.close()


def test_a_killed_holder_keeps_what_it_had() -> None:
    """As documented: nobody gives it back."""
    script = f"""
        import asyncio, os, signal, aioipc
        async def main():
            await aioipc.PosixSemaphore.open({NAME!r}).acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """
    semaphore = PosixSemaphore.create(NAME, 1)
    assert run_script(script).returncode == -signal.SIGKILL
    assert semaphore.value == 0
    semaphore.close()
