"""Shared memory, anonymous and by name, with C programs, posix_ipc and other processes."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aioipc import ClosedResourceError, SharedMemory
from tests.harness.arrays import import_numpy
from tests.harness.c_programs import compile_c, run_c
from tests.harness.hostile import NOBODY, SECCOMP_EPERM, TINY_SHM, run_confined
from tests.harness.scripts import run_script, running_script

NAME = f"/aioipc-memory-{os.getpid()}"
FILE = Path("/dev/shm", NAME[1:])

PROGRAM = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int count, char **words) {
    struct stat found;
    int fd = shm_open(words[2], strcmp(words[1], "create") ? O_RDWR : O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0) { perror("shm_open"); return 1; }
    if (!strcmp(words[1], "create")) return atoi(words[3]) ? ftruncate(fd, atoi(words[3])) : 0;
    fstat(fd, &found);
    char *memory = mmap(0, found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!strcmp(words[1], "write")) strcpy(memory, words[3]);
    else printf("%ld %s\n", (long)found.st_size, memory);
    return 0;
}
""".replace("#include <sys/stat.h>", "#include <sys/stat.h>\n#include <unistd.h>")


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    with SharedMemory.create(10_000, name=NAME) as made:
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compile_c(PROGRAM, tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not FILE.exists()


@pytest.mark.parametrize("name", [None, NAME])
def test_read_and_write(name: str | None) -> None:
    with SharedMemory.create(1 << 20, name=name) as memory:
        assert memory.size == len(memory.buffer) == 1 << 20
        assert bytes(memory.buffer) == bytes(1 << 20)
        memory.buffer[:5] = b"hello"
        memory.buffer[-1] = 7
        assert bytes(memory.buffer[:6]) == b"hello\0"
        assert memory.buffer[(1 << 20) - 1] == 7
        assert memory.statistics().size == 1 << 20
        assert memory.statistics().allocated >= 1 << 20
        assert memory.is_removed() == (name is None)
        assert f"{name or 'anonymous'}" in repr(memory)
        assert not os.get_inheritable(memory.fileno())
    assert (memory.statistics().size, memory.statistics().allocated) == (0, 0)
    assert "closed" in repr(memory)


async def test_async_with() -> None:
    async with SharedMemory.create(10, name=NAME) as memory:
        assert FILE.exists()
    assert not FILE.exists()
    await memory.aclose()


def test_the_size_of_anonymous_memory_is_sealed() -> None:
    with SharedMemory.create(10_000) as memory:
        for size in (0, 9_999, 20_000):
            with pytest.raises(PermissionError):
                os.ftruncate(memory.fileno(), size)


CHILD = """
    import sys, aioipc
    with aioipc.SharedMemory.from_descriptor(int(sys.argv[1])) as memory:
        assert bytes(memory.buffer[:5]) == b"hello"
        memory.buffer[:5] = b"HELLO"
    """


def test_handed_to_a_child() -> None:
    with SharedMemory.create(10_000) as memory:
        memory.buffer[:5] = b"hello"
        child = [sys.executable, "-c", CHILD.replace("\n    ", "\n"), str(memory.fileno())]
        subprocess.run(child, check=True, timeout=50, pass_fds=[memory.fileno()])
        assert bytes(memory.buffer[:5]) == b"HELLO"


def test_sent_through_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, SharedMemory.create(100) as memory:
        socket.send_fds(ours, [b"x"], [memory.fileno()])
        (fd,) = socket.recv_fds(theirs, 1, 1)[1]
        with SharedMemory.from_descriptor(fd, readonly=True) as other:
            assert not os.get_inheritable(other.fileno())
            memory.buffer[0] = 9
            assert other.buffer[0] == 9
            with pytest.raises(TypeError, match="read-only"):
                other.buffer[0] = 1


def test_the_lifetime_of_the_name(memory: SharedMemory) -> None:
    with pytest.raises(FileExistsError, match="exist_ok=True"):
        SharedMemory.create(10, name=NAME)
    memory.buffer[0] = 5
    with SharedMemory.create(10, name=NAME, exist_ok=True) as same:
        assert (same.size, same.buffer[0]) == (10_000, 5)
    with pytest.raises(ValueError, match="has 10000 bytes, not 10001"):
        SharedMemory.create(10_001, name=NAME, exist_ok=True)
    with SharedMemory.open(NAME):
        pass
    assert FILE.exists()
    memory.close()
    assert not FILE.exists()
    with SharedMemory.create(10, name=NAME, remove=False):
        pass
    with SharedMemory.open(NAME) as left:
        left.remove()
        left.remove()
        assert left.is_removed()


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_that_only_opens_it_removes_nothing(memory: SharedMemory, end: str) -> None:
    script = f"""
        import os, signal, aioipc
        memory = aioipc.SharedMemory.open({NAME!r})
        memory.buffer[0] = 3
        {end}
        memory.close()
        """
    assert run_script(script).returncode == (0 if end == "pass" else -signal.SIGKILL)
    assert FILE.exists()
    assert memory.buffer[0] == 3


def test_removed_under_our_feet(memory: SharedMemory) -> None:
    FILE.unlink()
    assert memory.is_removed()
    memory.buffer[0] = 1
    with SharedMemory.create(10, name=NAME) as other:
        memory.close()
        assert not other.is_removed()


def test_never_seen_half_made() -> None:
    """Whoever finds the name finds all of the memory."""
    script = f"""
        import aioipc
        print("ready", flush=True)
        seen = 0
        while seen < 200:
            try:
                with aioipc.SharedMemory.open({NAME!r}) as memory:
                    assert memory.size == 100_000
                    seen += 1
            except FileNotFoundError:
                pass
        """
    with running_script(script) as opener:
        opener.wait_output("ready", timeout=30)
        while opener.popen.poll() is None:
            with SharedMemory.create(100_000, name=NAME):
                pass
        opener.wait().check()


def test_views_keep_it_open(memory: SharedMemory) -> None:
    whole = memory.buffer
    part = whole[10:20]
    for view in (whole, part):
        with pytest.raises(BufferError, match=r"cannot be closed while there are views.*release\(\)"):
            memory.close()
        memory.buffer[0] = 1
        view.release()
    memory.close()


def test_leaving_with_views() -> None:
    """The block is told; the memory lives as long as the view."""
    with pytest.raises(BufferError, match="views"):
        kept = leave_with_a_view(memory := SharedMemory.create(100, name=NAME))
    assert not FILE.exists()
    with pytest.raises(ClosedResourceError):
        _ = memory.buffer
    kept = VIEWS.pop()
    kept[0] = 4
    assert kept[0] == 4
    kept.release()
    memory.close()


VIEWS: list[memoryview] = []


def leave_with_a_view(memory: SharedMemory) -> memoryview:
    with memory:
        VIEWS.append(memory.buffer)
    return memory.buffer


def test_leaving_by_an_exception_with_views() -> None:
    """The exception is what comes out, and its traceback may hold the views."""
    with pytest.raises(ZeroDivisionError), SharedMemory.create(100, name=NAME) as memory:
        fail_with_a_view(memory)
    assert not FILE.exists()


def fail_with_a_view(memory: SharedMemory) -> None:
    view = memory.buffer
    raise ZeroDivisionError(view)


def test_closing(memory: SharedMemory) -> None:
    memory.close()
    memory.close()
    for use in (lambda: memory.buffer, memory.fileno, memory.is_removed, memory.remove, memory.__enter__):
        with pytest.raises(ClosedResourceError):
            use()
    with pytest.raises(ClosedResourceError):
        memory.array(1)


def test_dropped() -> None:
    kept = [SharedMemory.create(10, name=NAME)]
    with pytest.warns(ResourceWarning, match=f"unclosed <SharedMemory shared memory {NAME}"):
        kept.clear()


def test_dropped_with_a_view() -> None:
    kept = [SharedMemory.create(10)]
    view = kept[0].buffer
    with pytest.warns(ResourceWarning, match="unclosed <SharedMemory anonymous"):
        kept.clear()
    view[0] = 1
    assert view[0] == 1


def test_arrays(memory: SharedMemory) -> None:
    numpy = import_numpy()
    memory.buffer[:4] = b"\1\2\3\4"
    array = memory.array((2, 2))
    assert array.tolist() == [[1, 2], [3, 4]]
    assert array.dtype == numpy.uint8
    wide = memory.array(10, "<f8", offset=8)
    wide[:] = 1.5
    assert memory.array((), "f8", offset=80)[()] == 1.5
    assert memory.array((0, 5)).shape == (0, 5)
    kept = [array, wide[3:], numpy.ndarray(4, "u1", buffer=memory.buffer), numpy.frombuffer(memory.buffer, "u1")]
    del array, wide
    while kept:
        with pytest.raises(BufferError):
            memory.close()
        kept.pop()[0] = 1
    memory.close()


def test_readonly_arrays(memory: SharedMemory) -> None:
    import_numpy()
    with SharedMemory.open(NAME, readonly=True) as other:
        array = other.array(3)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.setflags(write=True)
        del array


@pytest.mark.parametrize(
    ("shape", "dtype", "offset", "error", "text"),
    [
        (10_001, "u1", 0, ValueError, "10001 bytes at 0 does not fit in 10000"),
        ((100, 101), "u1", 0, ValueError, "does not fit"),
        (10, "u1", 9_991, ValueError, "does not fit"),
        (1, "u1", -1, ValueError, "offset must be between 0"),
        (1 << 62, "f8", 0, ValueError, "does not fit"),
        ((1 << 40, 1 << 40), "f8", 0, ValueError, "does not fit"),
        (1.5, "f8", 0, TypeError, "a length in shape must be an int"),
        (1, "O", 0, TypeError, "Python objects"),
        (1, [("a", "O")], 0, TypeError, "Python objects"),
        (-1, "u1", 0, ValueError, "a length in shape must be between 0"),
        (1, "nonsense", 0, TypeError, "nonsense"),
    ],
)
def test_wrong_arrays(
    memory: SharedMemory, shape: object, dtype: object, offset: int, error: type[Exception], text: str
) -> None:
    import_numpy()
    with pytest.raises(error, match=text):
        memory.array(shape, dtype, offset=offset)  # type: ignore[arg-type]


def test_without_numpy() -> None:
    script = """
        import sys, aioipc
        sys.modules["numpy"] = None
        with aioipc.SharedMemory.create(10) as memory:
            try:
                memory.array(1)
            except ImportError as error:
                print(error)
        """
    text = "array() needs NumPy, which is not installed: pip install 'aioipc[numpy]'\n"
    assert run_script(script).check().stdout == text


def test_full() -> None:
    """/dev/shm is full: an error now that says so, and not SIGBUS later."""
    script = f"""
        import os, aioipc
        try:
            aioipc.SharedMemory.create(2 << 20, name={NAME!r})
        except OSError as error:
            print(error.errno, error)
        assert os.listdir("/dev/shm") == []
        with aioipc.SharedMemory.create(1 << 19, name={NAME!r}) as memory:
            memory.buffer[:] = bytes(1 << 19)
        """
    out = run_confined(TINY_SHM, script).check().stdout
    assert out.startswith(f"{errno.ENOSPC} ")
    assert "2097152 bytes do not fit in /dev/shm, where 1048576 of 1048576 are free" in out


def test_without_memfd() -> None:
    script = """
        import aioipc
        with aioipc.SharedMemory.create(100) as memory, aioipc.SharedMemory.create(100, name="/named") as named:
            memory.buffer[:] = named.buffer
        """
    run_confined(SECCOMP_EPERM, script).check()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (FILE.mkdir, OSError, "irectory"),
        (lambda: os.mkfifo(FILE), ValueError, "another kind of file"),
        (lambda: FILE.symlink_to("/etc/passwd"), OSError, "is a symbolic link"),
        (FILE.touch, BlockingIOError, "no size yet"),
    ],
)
def test_something_else_of_that_name(make: Callable[[], None], error: type[Exception], text: str) -> None:
    make()
    try:
        for _ in range(2):
            with pytest.raises(error, match=text):
                SharedMemory.open(NAME)
        with pytest.raises(FileExistsError):
            SharedMemory.create(10, name=NAME)
    finally:
        FILE.rmdir() if FILE.is_dir() else FILE.unlink()


def test_no_memory() -> None:
    with pytest.raises(FileNotFoundError, match="no shared memory of this name"):
        SharedMemory.open(NAME)


def test_wrong_descriptors() -> None:
    reader, writer = os.pipe()
    with open("/etc/passwd", "rb") as file:
        for fd, error in (
            (reader, ValueError),
            (-1, ValueError),
            ("1", TypeError),
            (1 << 40, ValueError),
            (10_000, OSError),
            (file.fileno(), PermissionError),
        ):
            with pytest.raises(error):
                SharedMemory.from_descriptor(fd)  # type: ignore[arg-type]
        os.fstat(file.fileno())
    os.close(reader)
    os.close(writer)


def test_another_user() -> None:
    script = f"""
        import aioipc
        try:
            aioipc.SharedMemory.open({NAME!r})
        except PermissionError as error:
            print(error)
        with aioipc.SharedMemory.open({NAME!r}, readonly=True) as memory:
            print(bytes(memory.buffer[:2]))
            try:
                memory.remove()
            except PermissionError:
                print("not removed")
        """
    with SharedMemory.create(10, name=NAME, mode=0o644) as memory:
        memory.buffer[:2] = b"hi"
        assert run_confined(NOBODY, script).check().stdout.splitlines() == [
            f"[Errno 13] the permissions of this shared memory forbid it: {NAME!r}",
            "b'hi'",
            "not removed",
        ]


def test_permissions_whatever_the_umask() -> None:
    before = os.umask(0o077)
    try:
        memory = SharedMemory.create(10, name=NAME, mode=0o666)
    finally:
        os.umask(before)
    assert FILE.stat().st_mode & 0o777 == 0o666
    memory.close()


def test_with_a_c_program(program: Path) -> None:
    with SharedMemory.create(5000, name=NAME) as memory:
        run_c(program, "write", NAME, "hello from C")
        assert bytes(memory.buffer[:13]) == b"hello from C\0"
        memory.buffer[:18] = b"hello from Python\0"
        assert run_c(program, "read", NAME) == "5000 hello from Python"
    run_c(program, "create", NAME, "0")
    with pytest.raises(BlockingIOError, match="its maker has not called ftruncate"):
        SharedMemory.open(NAME)
    FILE.unlink()
    run_c(program, "create", NAME, "123")
    with SharedMemory.open(NAME) as memory:
        assert memory.size == 123
        memory.remove()


def test_with_posix_ipc(memory: SharedMemory) -> None:
    posix_ipc = pytest.importorskip("posix_ipc")
    other = posix_ipc.SharedMemory(NAME)
    assert other.size == 10_000
    os.pwrite(other.fd, b"theirs", 0)
    assert bytes(memory.buffer[:6]) == b"theirs"
    other.close_fd()


async def test_cancelled_leaving_closes_it_all_the_same() -> None:
    async def use() -> None:
        async with SharedMemory.create(10, name=NAME):
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not FILE.exists()
