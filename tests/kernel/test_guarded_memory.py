"""Guarded memory: the lock is taken, and a write that did not get to its end is found."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from collections.abc import Iterator

import pytest

from aioipc import GuardedMemory, PosixSemaphore, SharedMemory, SysVSharedMemory, TornWriteError
from tests.harness.arrays import import_numpy
from tests.harness.processes import eventually_async
from tests.harness.scripts import running_script

NAME = f"/aioipc-guarded-{os.getpid()}"


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with SharedMemory.create(64 + 16, name=NAME) as made:
        yield made


async def test_read_and_write(memory: SharedMemory) -> None:
    guarded = GuardedMemory(memory, asyncio.Lock())
    assert guarded.size == 16
    async with guarded.read() as view:
        assert bytes(view) == bytes(16)
    async with guarded.write() as view:
        assert guarded.sequence == 1
        view[:5] = b"hello"
    assert guarded.sequence == 2
    async with guarded.read() as view:
        assert bytes(view[:5]) == b"hello"
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert bytes(memory.buffer[64:69]) == b"hello"


async def test_with_a_system_v_segment() -> None:
    with SysVSharedMemory.create(None, 100) as memory:
        async with GuardedMemory(memory, asyncio.Lock()).write() as view:
            view[0] = 1


async def test_one_at_a_time(memory: SharedMemory) -> None:
    lock = asyncio.Lock()
    guarded = GuardedMemory(memory, lock)

    async def add() -> None:
        for _ in range(50):
            async with guarded.write() as view:
                number = int.from_bytes(view[:8], "little")
                await asyncio.sleep(0)
                view[:8] = (number + 1).to_bytes(8, "little")

    await asyncio.gather(*(add() for _ in range(10)))
    async with guarded.read() as view:
        assert int.from_bytes(view[:8], "little") == 500
    assert guarded.sequence == 1000
    assert not lock.locked()


async def write_half(guarded: GuardedMemory) -> None:
    async with guarded.write() as view:
        view[0] = 1
        raise ZeroDivisionError


async def test_a_block_left_by_an_exception_has_torn_it(memory: SharedMemory) -> None:
    lock = asyncio.Lock()
    guarded = GuardedMemory(memory, lock)
    with pytest.raises(ZeroDivisionError):
        await write_half(guarded)
    assert guarded.sequence == 1
    for enter in (guarded.read, guarded.write):
        with pytest.raises(TornWriteError, match=f"process {os.getpid()} began to write") as caught:
            async with enter():
                pytest.fail("the memory is torn")
        assert caught.value.pid == os.getpid()
        assert not lock.locked()
    async with guarded.write(repair=True) as view:
        view[:] = bytes(16)
    assert guarded.sequence == 2
    async with guarded.read() as view:
        assert view[0] == 0


async def test_a_repair_that_fails_leaves_it_torn(memory: SharedMemory) -> None:
    guarded = GuardedMemory(memory, asyncio.Lock())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with guarded.write(repair=True):
                raise ZeroDivisionError
    with pytest.raises(TornWriteError):
        async with guarded.read():
            pass


async def test_reading_may_fail(memory: SharedMemory) -> None:
    lock = asyncio.Lock()
    guarded = GuardedMemory(memory, lock)
    with pytest.raises(ZeroDivisionError):
        async with guarded.read():
            raise ZeroDivisionError
    async with guarded.read():
        assert lock.locked()
    assert guarded.sequence == 0


async def test_cancelled_while_it_waits_for_the_lock(memory: SharedMemory) -> None:
    lock = asyncio.Lock()
    guarded = GuardedMemory(memory, lock)

    async def write() -> None:
        async with guarded.write():
            pytest.fail("somebody else has the lock")

    async with lock:
        task = asyncio.create_task(write())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert guarded.sequence == 0


async def test_an_array_that_outlives_the_block(memory: SharedMemory) -> None:
    """It keeps the memory open, as any view does, and does not stop the block from ending."""
    numpy = import_numpy()
    guarded = GuardedMemory(memory, asyncio.Lock())
    async with guarded.write() as view:
        array = numpy.frombuffer(view, "<u8")
        array[:] = 7
    with pytest.raises(BufferError):
        memory.close()
    assert guarded.sequence == 2
    del array


WRITER = f"""
    import asyncio, os, signal, sys, aioipc
    async def main():
        with aioipc.SharedMemory.open({NAME!r}) as memory:
            async with aioipc.PosixSemaphore.open({NAME!r}) as lock:
                guarded = aioipc.GuardedMemory(memory, lock.held)
                for number in range(int(sys.argv[1])):
                    async with guarded.write() as view:
                        number = int.from_bytes(view[:8], "little") + 1
                        view[:8] = number.to_bytes(8, "little")
                        view[8:] = number.to_bytes(8, "little")
                if sys.argv[1] == "0":
                    async with guarded.write() as view:
                        view[:8] = b"\\xff" * 8
                        os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(main())
    """


async def test_processes_take_turns(memory: SharedMemory) -> None:
    async with PosixSemaphore.create(NAME, 1) as lock:
        guarded = GuardedMemory(memory, lock.held)
        with running_script(WRITER, "300") as other:
            while other.popen.poll() is None:
                async with guarded.read() as view:
                    assert bytes(view[:8]) == bytes(view[8:])
                async with guarded.write() as view:
                    number = int.from_bytes(view[:8], "little")
                    view[:8] = view[8:] = number.to_bytes(8, "little")
                await asyncio.sleep(0.001)
            other.wait().check()
        async with guarded.read() as view:
            assert int.from_bytes(view[8:], "little") == 300


async def test_a_killed_writer_is_found(memory: SharedMemory) -> None:
    async with PosixSemaphore.create(NAME, 1) as lock:
        guarded = GuardedMemory(memory, lock.held)
        with running_script(WRITER, "0") as other:
            await eventually_async(lambda: other.popen.poll() is not None, timeout=30)
            assert other.popen.returncode == -signal.SIGKILL
            pid = other.pid
        lock.release()  # nobody else gives back what a killed process held
        with pytest.raises(TornWriteError, match=f"process {pid} began") as caught:
            async with guarded.read():
                pass
        assert caught.value.pid == pid
        async with guarded.write(repair=True) as view:
            view[:] = bytes(16)
        async with guarded.read():
            pass


async def test_what_is_refused(memory: SharedMemory) -> None:
    for lock in (threading.Lock(), None, 5, "lock"):
        with pytest.raises(TypeError, match="lock must be something for `async with`"):
            GuardedMemory(memory, lock)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="memory must be"):
        GuardedMemory(bytearray(100), asyncio.Lock())  # type: ignore[arg-type]
    with SharedMemory.create(64) as small, pytest.raises(ValueError, match="more than 64 bytes, not 64"):
        GuardedMemory(small, asyncio.Lock())
    with SharedMemory.open(NAME, readonly=True) as other, pytest.raises(ValueError, match="must be writable"):
        GuardedMemory(other, asyncio.Lock())
    memory.buffer[:8] = b"somebody"
    with pytest.raises(ValueError, match="holds something else"):
        GuardedMemory(memory, asyncio.Lock())


def test_the_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(TornWriteError("torn", pid=5)))
    assert (str(error), error.pid) == ("torn", 5)
