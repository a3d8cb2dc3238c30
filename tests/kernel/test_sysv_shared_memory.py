"""System V shared memory, with C programs, sysv_ipc and other processes."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysv_ipc

from aioipc import ClosedResourceError, ObjectRemovedError, SysVSharedMemory
from tests.harness.arrays import import_numpy
from tests.harness.c_programs import compile_c, run_c
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.scripts import run_script

KEY = 0x5A000000 | os.getpid() & 0xFFFFFF

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>

int main(int count, char **words) {
    int key = strtoul(words[2], 0, 10);
    int id = strcmp(words[1], "create") ? shmget(key, 0, 0) : shmget(key, 500, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0) { perror("shmget"); return 1; }
    if (!strcmp(words[1], "remove")) return shmctl(id, IPC_RMID, 0);
    char *memory = shmat(id, 0, 0);
    if (memory == (void *)-1) { perror("shmat"); return 1; }
    if (!strcmp(words[1], "read")) puts(memory);
    else strcpy(memory, words[3]);
    return shmdt(memory);
}
"""


@pytest.fixture
def memory() -> Iterator[SysVSharedMemory]:
    with SysVSharedMemory.create(KEY, 10_000) as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compile_c(PROGRAM, tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not exists()


def exists() -> bool:
    try:
        SysVSharedMemory.open(KEY).close()
    except FileNotFoundError:
        return False
    return True


@pytest.mark.parametrize("key", [None, KEY, -5, 0xFFFFFFF0])
async def test_read_and_write(key: int | None) -> None:
    async with SysVSharedMemory.create(key, 5000) as memory:
        assert memory.size == len(memory.buffer) == 5000
        assert bytes(memory.buffer) == bytes(5000)
        memory.buffer[:5] = b"hello"
        with SysVSharedMemory.open(id=memory.id) as other:
            assert bytes(other.buffer[:5]) == b"hello"
            found = memory.statistics()
            assert (found.size, found.attached, found.removed) == (5000, 2, False)
            assert found.creator == found.last == os.getpid()
        assert memory.statistics().attached == 1
        assert f"System V shared memory {memory.id}" in repr(memory)
    assert memory.statistics().attached == 0
    with pytest.raises(ObjectRemovedError, match="any more") as caught:
        SysVSharedMemory.open(id=memory.id)
    assert caught.value.errno == errno.EINVAL


def test_the_lifetime_of_the_segment(memory: SysVSharedMemory) -> None:
    with pytest.raises(FileExistsError, match="exist_ok=True"):
        SysVSharedMemory.create(KEY, 10)
    memory.buffer[0] = 5
    with SysVSharedMemory.create(KEY, 10, exist_ok=True) as same:
        assert (same.size, same.buffer[0], same.id) == (10_000, 5, memory.id)
    with pytest.raises(ValueError, match="has less than 10001 bytes"):
        SysVSharedMemory.create(KEY, 10_001, exist_ok=True)
    assert exists()
    memory.close()
    memory.close()
    assert not exists()
    with SysVSharedMemory.create(KEY, 10, remove=False):
        pass
    with SysVSharedMemory.open(KEY) as left:
        left.remove()
        left.remove()
        assert left.is_removed()
        left.buffer[0] = 1


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_that_only_opens_it_removes_nothing(memory: SysVSharedMemory, end: str) -> None:
    script = f"""
        import os, signal, aioipc
        memory = aioipc.SysVSharedMemory.open({KEY})
        memory.buffer[0] = memory.statistics().attached
        {end}
        memory.close()
        """
    assert run_script(script).returncode == (0 if end == "pass" else -signal.SIGKILL)
    assert memory.buffer[0] == 2
    assert memory.statistics().attached == 1
    assert not memory.is_removed()


def test_removed_under_our_feet(memory: SysVSharedMemory) -> None:
    sysv_ipc.remove_shared_memory(memory.id)
    assert memory.is_removed()
    assert memory.statistics().removed
    memory.buffer[0] = 1
    with SysVSharedMemory.create(KEY, 10) as other:
        memory.close()
        assert not other.is_removed()


def test_views_keep_it_attached(memory: SysVSharedMemory) -> None:
    whole = memory.buffer
    part = whole[5:10]
    for view in (whole, part):
        with pytest.raises(BufferError, match="cannot be closed while there are views"):
            memory.close()
        view[0] = 1
        view.release()
        view.release()
    memory.close()
    with pytest.raises(ClosedResourceError):
        _ = memory.buffer


def test_leaving_with_views() -> None:
    """The segment is removed, and detached with the last view: no address ever leads nowhere."""
    views: list[memoryview] = []

    def leave() -> None:
        with SysVSharedMemory.create(KEY, 100) as memory:
            views.append(memory.buffer[10:])

    with pytest.raises(BufferError):
        leave()
    assert not exists()
    views[0][0] = 7
    assert views[0][0] == 7
    assert attached_by_this_process() == 1
    views.clear()
    assert attached_by_this_process() == 0


def attached_by_this_process() -> int:
    return Path("/proc/self/maps").read_text().count("/SYSV")


def test_dropped_with_a_view() -> None:
    kept = [SysVSharedMemory.create(KEY, 10)]
    view = kept[0].buffer
    with pytest.warns(ResourceWarning, match="unclosed <SysVSharedMemory"):
        kept.clear()
    view[0] = 1
    assert view[0] == 1
    del view
    assert attached_by_this_process() == 0


def test_readonly(memory: SysVSharedMemory) -> None:
    """sysv_ipc would let one write, and the process end by SIGSEGV."""
    with SysVSharedMemory.open(KEY, readonly=True) as other:
        memory.buffer[0] = 3
        assert other.buffer[0] == 3
        assert other.buffer.readonly
        with pytest.raises(TypeError, match="read-only"):
            other.buffer[0] = 1


def test_arrays(memory: SysVSharedMemory) -> None:
    import_numpy()
    array = memory.array((10, 10), "<i4")
    array[:] = 5
    assert memory.buffer[4] == 5
    with pytest.raises(BufferError):
        memory.close()
    row = array[3]
    del array
    with pytest.raises(BufferError):
        memory.close()
    assert row.sum() == 50
    del row
    memory.close()


def test_another_user() -> None:
    script = f"""
        import aioipc
        try:
            aioipc.SysVSharedMemory.open({KEY})
        except PermissionError as error:
            print(error)
        with aioipc.SysVSharedMemory.open({KEY}, readonly=True) as memory:
            print(bytes(memory.buffer[:2]))
            try:
                memory.remove()
            except PermissionError:
                print("not removed")
        """
    with SysVSharedMemory.create(KEY, 10, mode=0o644) as memory:
        memory.buffer[:2] = b"hi"
        assert run_confined(NOBODY, script).check().stdout.splitlines() == [
            f"[Errno 13] the permissions of this System V shared memory forbid it: 'key {KEY:#x}'",
            "b'hi'",
            "not removed",
        ]


def test_with_a_c_program(program: Path) -> None:
    with SysVSharedMemory.create(KEY, 5000) as memory:
        run_c(program, "write", str(KEY), "hello from C")
        assert bytes(memory.buffer[:13]) == b"hello from C\0"
        memory.buffer[:18] = b"hello from Python\0"
        assert run_c(program, "read", str(KEY)) == "hello from Python"
    run_c(program, "create", str(KEY), "made in C")
    with SysVSharedMemory.open(KEY) as memory:
        assert bytes(memory.buffer[:9]) == b"made in C"
        run_c(program, "remove", str(KEY))
        assert memory.is_removed()


def test_with_sysv_ipc(memory: SysVSharedMemory) -> None:
    other = sysv_ipc.SharedMemory(KEY)
    assert (other.id, other.size) == (memory.id, 10_000)
    assert other.number_attached == memory.statistics().attached == 2
    other.write(b"theirs")
    assert bytes(memory.buffer[:6]) == b"theirs"
    other.detach()
