"""Mapped files: shared by processes, kept on the disk, safe to grow, and told when somebody shortens them."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from aioipc import BrokenResourceError, ClosedResourceError, FileLock, GuardedMemory, MappedFile
from tests.harness.arrays import import_numpy
from tests.harness.hostile import NOBODY, TINY_SHM, open_to_all, run_confined
from tests.harness.scripts import run_script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def test_create_and_open(path: Path) -> None:
    with MappedFile.create(path, 10_000, mode=0o640) as file:
        assert bytes(file.buffer) == bytes(10_000)
        assert path.stat().st_mode & 0o777 == 0o640
        file.buffer[:5] = b"hello"
        with MappedFile.open(path, readonly=True) as other:
            assert bytes(other.buffer[:6]) == b"hello\0"
            with pytest.raises(TypeError):
                other.buffer[0] = 1
        assert path.read_bytes()[:5] == b"hello"
        statistics = file.statistics()
        assert (statistics.size, statistics.file_size) == (10_000, 10_000)
        assert statistics.allocated >= 10_000
        assert not os.get_inheritable(file.fileno())
        assert f"{path}" in repr(file)
        file.flush()
    assert path.read_bytes()[:5] == b"hello"
    assert file.statistics().size == 0
    with MappedFile.create(path, 20_000, exist_ok=True, remove=True) as file:
        assert bytes(file.buffer[:5]) == b"hello"
        assert file.size == 20_000
    assert path.exists(), "it was there before"
    path.unlink()
    with MappedFile.create(path, 1, remove=True):
        assert path.exists()
    assert not path.exists()


def test_arrays(path: Path) -> None:
    import_numpy()
    with MappedFile.create(path, 800) as file:
        table = file.array(100, "float64")
        table[3] = 1.5
        with pytest.raises(BufferError):
            file.close()
        del table
    with MappedFile.open(path) as file:
        assert file.array(100, "float64")[3] == 1.5


def test_growing(path: Path) -> None:
    with MappedFile.create(path, 5000) as file, MappedFile.open(path) as other:
        file.buffer[4999] = 7
        view = file.buffer[:10]
        with pytest.raises(BufferError, match="while there are views"):
            file.resize(10_000)
        view.release()
        file.resize(1 << 20)
        assert file.size == len(file.buffer) == path.stat().st_size == 1 << 20
        assert file.buffer[4999] == 7
        file.buffer[-1] = 8
        assert other.size == 5000
        assert other.statistics().file_size == 1 << 20
        other.resize()
        assert other.buffer[(1 << 20) - 1] == 8
        with pytest.raises(ValueError, match="shortened"):
            other.resize(10)
    with MappedFile.open(path, readonly=True) as file, pytest.raises(PermissionError):
        file.resize(1 << 21)


def test_shortened_by_somebody(path: Path) -> None:
    with MappedFile.create(path, 10_000) as file:
        os.truncate(path, 4096)
        for call in (file.check, file.flush):
            with pytest.raises(BrokenResourceError, match="has 4096 bytes of the 10000 that are mapped"):
                call()
        assert file.statistics().file_size == 4096
        file.resize()
        file.check()
        assert len(bytes(file.buffer)) == 4096
    done = run_script(
        "import os, sys, aioipc; f = aioipc.MappedFile.open(sys.argv[1]); os.truncate(sys.argv[1], 0); f.buffer[0]",
        str(path),
        python=("-W", "ignore"),
    )
    assert done.returncode == -signal.SIGBUS, "what check() is for"


async def test_flush_in_a_thread(path: Path) -> None:
    async with MappedFile.create(path, 10_000) as file:
        file.buffer[0] = 1
        await asyncio.gather(*(file.aflush() for _ in range(10)))
        task = asyncio.create_task(file.aflush())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        file.resize(20_000)
        await file.aflush()
    with pytest.raises(ClosedResourceError):
        await file.aflush()


async def test_guarded_by_a_lock(path: Path) -> None:
    async with MappedFile.create(path, 1000) as file, FileLock.open(path) as lock:
        table = GuardedMemory(file, lock.held)
        async with table.write() as view:
            view[:5] = b"hello"
        async with table.read() as view:
            assert bytes(view[:5]) == b"hello"


FULL = """
    import errno, os, resource, sys, aioipc
    path = sys.argv[1]
    if "/dev/shm" not in path:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        aioipc.MappedFile.create(path, 10_000_000)
    except OSError as error:
        print(errno.errorcode[error.errno], error.strerror)
    assert not os.path.exists(path)
    with aioipc.MappedFile.create(path, 5000) as file:
        try:
            file.resize(10_000_000)
        except OSError as error:
            print(errno.errorcode[error.errno])
        assert file.size == 5000
        file.buffer[:] = bytes(5000)
"""


def test_no_room(path: Path) -> None:
    """It is an error in time, not a SIGBUS later."""
    done = run_script(FULL, str(path)).check()
    assert done.stdout.startswith("EFBIG 10000000 bytes are more than a file may have")
    done = run_confined(TINY_SHM, FULL, "/dev/shm/table").check()
    assert done.stdout.startswith("ENOSPC 10000000 bytes do not fit on the disk, where ")
    assert done.stdout.endswith("\nENOSPC\n")


def test_permissions() -> None:
    source = """
        import sys, aioipc
        with aioipc.MappedFile.open(sys.argv[1], readonly=True) as file:
            print(bytes(file.buffer))
        aioipc.MappedFile.open(sys.argv[1])
    """
    with open_to_all() as folder:
        MappedFile.create(folder / "table", 10, mode=0o644).close()
        done = run_confined(NOBODY, source, str(folder / "table"))
    assert done.stdout == f"{bytes(10)!r}\n"
    assert "PermissionError" in done.stderr


def test_wrong_arguments(path: Path) -> None:
    path.touch()
    wrong: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: MappedFile.create(path, 10), FileExistsError),
        (lambda: MappedFile.create(path, 0), ValueError),
        (lambda: MappedFile.create(path, "10"), TypeError),  # type: ignore[arg-type]
        (lambda: MappedFile.create(path, 10, mode=-1), ValueError),
        (lambda: MappedFile.create(path / "x", 10), NotADirectoryError),
        (lambda: MappedFile.open(path), BlockingIOError),
        (lambda: MappedFile.open(path.parent / "none"), FileNotFoundError),
        (lambda: MappedFile.open("/dev/zero"), ValueError),
        (lambda: MappedFile.create("/dev/zero", 10, exist_ok=True), ValueError),
        (lambda: MappedFile.open(""), ValueError),
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    with pytest.warns(ResourceWarning, match="unclosed <MappedFile"):
        MappedFile.create(path, 10, exist_ok=True)


def test_a_forked_child_does_not_remove_it(tmp_path: Path) -> None:
    with MappedFile.create(tmp_path / "file", 4096, remove=True) as memory:
        for end in (memory.close, lambda: None):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # from 3.12 on of threads at a fork
                pid = os.fork()
            if not pid:
                try:
                    end()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert (tmp_path / "file").exists()
    assert not (tmp_path / "file").exists()
