"""FIFOs against the real kernel, with shells and strangers at the other end."""

# ruff: noqa: ASYNC220, ASYNC240 - files of a local file system, and the shell is to be in our hands at once

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledByteStream
from anyio.streams.text import TextReceiveStream

from aioipc import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    FifoAttribute,
    FifoReceiveStream,
    FifoSendStream,
    WouldBlock,
    open_fifo_reader,
    open_fifo_writer,
)
from aioipc.kernel.claims import Claim
from tests.harness.hostile import run_confined
from tests.harness.processes import eventually_async, open_descriptors
from tests.harness.scripts import run_script

PAGE = os.sysconf("SC_PAGESIZE")
MANY = 5 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fifo"


@pytest.fixture
def fifo(path: Path) -> Path:
    os.mkfifo(path, 0o600)
    return path


@contextmanager
def shell(line: str, path: Path, **options: int) -> Iterator[subprocess.Popen[bytes]]:
    """A shell command with the FIFO's path as $1; it is gone when the block is left."""
    child = subprocess.Popen(["sh", "-c", line, "sh", str(path)], start_new_session=True, **options)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


async def ended(child: subprocess.Popen[bytes]) -> int:
    await eventually_async(lambda: child.poll() is not None, timeout=30)
    assert child.returncode is not None
    return child.returncode


async def asleep(stream: FifoReceiveStream | FifoSendStream) -> None:
    await eventually_async(lambda: stream._queue.waiting)


async def both(path: Path, *, persistent: bool = False) -> tuple[FifoReceiveStream, FifoSendStream]:
    reader = await open_fifo_reader(path, create=True, persistent=persistent)
    return reader, await open_fifo_writer(path)


async def rest(reader: FifoReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in reader])


# --- meeting


async def test_a_shell_writes(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        with shell("echo hello > $1", fifo):
            assert await task == b"hello\n"
            with pytest.raises(EndOfStream, match="every writer has left the FIFO"):
                await reader.receive()


async def test_a_shell_reads(fifo: Path) -> None:
    with shell("cat < $1", fifo, stdout=subprocess.PIPE) as child:
        async with await open_fifo_writer(fifo) as writer:
            await writer.send(b"hello world\n")
        assert await ended(child) == 0
        assert child.stdout is not None
        assert child.stdout.read() == b"hello world\n"


async def test_no_end_before_the_first_writer(fifo: Path) -> None:
    """read(2) says b"" there, as it does at the end."""
    async with await open_fifo_reader(fifo) as reader:
        assert os.read(reader.fileno(), 1) == b""
        for _ in range(3):
            with pytest.raises(WouldBlock):
                reader.receive_nowait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.receive(), 0.001)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.receive_into(bytearray(1)), 0.001)
        async with await open_fifo_writer(fifo) as writer:
            with pytest.raises(WouldBlock):
                reader.receive_nowait()
            await writer.send(b"x")
            assert reader.receive_nowait() == b"x"
        with pytest.raises(EndOfStream):
            reader.receive_nowait()


@pytest.mark.parametrize("data", [b"", b"left behind"])
async def test_a_writer_that_has_left_before_we_looked(fifo: Path, data: bytes) -> None:
    async with await open_fifo_reader(fifo) as reader:
        async with await open_fifo_writer(fifo) as writer:
            await writer.send(data)
        assert await rest(reader) == data


async def test_a_writer_that_says_nothing_wakes_who_waits_when_it_leaves(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        async with await open_fifo_writer(fifo):
            pass
        with pytest.raises(EndOfStream):
            await task


async def test_the_end_is_when_the_last_of_them_has_left_and_final(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        first, second = await open_fifo_writer(fifo), await open_fifo_writer(fifo)
        await first.send(b"a")
        await first.aclose()
        assert await reader.receive() == b"a"
        with pytest.raises(WouldBlock):
            reader.receive_nowait()
        await second.aclose()
        with pytest.raises(EndOfStream):
            await reader.receive()
        async with await open_fifo_writer(fifo) as late:
            await late.send(b"too late")
            for _ in range(2):
                with pytest.raises(EndOfStream):
                    await reader.receive()
                with pytest.raises(EndOfStream):
                    await reader.receive_into(bytearray(1))


async def test_a_persistent_reader_outlives_its_writers(path: Path) -> None:
    async with await open_fifo_reader(path, create=True, persistent=True) as reader:
        lines = reader.lines()
        for number in range(5):
            with shell(f"echo {number} > $1", path) as child:
                assert await anext(lines) == str(number)
                assert await ended(child) == 0
            with pytest.raises(WouldBlock):
                reader.receive_nowait()


async def test_a_persistent_reader_sleeps_between_writers(path: Path) -> None:
    """No hang-up is reported for ever: the loop does not turn."""
    async with await open_fifo_reader(path, create=True, persistent=True) as reader:
        async with await open_fifo_writer(path) as writer:
            await writer.send(b"x")
        assert await reader.receive() == b"x"
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        poller = select.poll()
        poller.register(reader.fileno(), select.POLLIN)
        assert poller.poll(0) == []
        task.cancel()


async def test_a_reader_at_its_end_does_not_keep_the_loop_busy(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        async with await open_fifo_writer(fifo):
            pass
        with pytest.raises(EndOfStream):
            await task
        await eventually_async(lambda: reader._queue._reports == 0)
        reports = 0
        for _ in range(50):
            await asyncio.sleep(0.001)
            reports += reader._queue._reports
        assert reports == 0


async def test_a_writer_waits_for_a_reader(fifo: Path) -> None:
    task = asyncio.create_task(open_fifo_writer(fifo))
    await asyncio.sleep(0.05)
    assert not task.done()
    async with await open_fifo_reader(fifo) as reader, await task as writer:
        await writer.send(b"x")
        assert await reader.receive() == b"x"


async def test_cancelled_opens_leave_nothing(fifo: Path) -> None:
    before = open_descriptors(), threading.active_count(), os.listdir(fifo.parent)
    tasks = []
    for number in range(50):
        tasks.append(asyncio.create_task(open_fifo_writer(fifo)))
        tasks.append(asyncio.create_task(open_fifo_reader(fifo)))
        for _ in range(number % 3):
            await asyncio.sleep(0)
        tasks[-1].cancel()
    await asyncio.sleep(0.01)
    assert threading.active_count() == before[1]
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError | FifoReceiveStream | FifoSendStream)
        if not isinstance(result, asyncio.CancelledError):
            result.close()
    assert (open_descriptors(), threading.active_count(), os.listdir(fifo.parent)) == before


@pytest.mark.parametrize("remove", [True, False])
async def test_a_cancelled_writer_takes_its_own_fifo_away(path: Path, remove: bool) -> None:
    with anyio.move_on_after(0.01) as scope:
        await open_fifo_writer(path, create=True, remove=remove)
    assert scope.cancelled_caught
    assert path.exists() != remove


# --- the file


async def test_made_with_exactly_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        for mode in (0o600, 0o622, 0o666):
            path = tmp_path / f"{mode:o}"
            async with await open_fifo_reader(path, create=True, mode=mode):
                assert stat.S_IMODE(path.stat().st_mode) == mode
                assert stat.S_ISFIFO(path.stat().st_mode)
    finally:
        os.umask(old)
    async with await open_fifo_reader(tmp_path / "default", create=True) as reader:
        assert stat.S_IMODE(os.fstat(reader.fileno()).st_mode) == 0o600


async def test_create_takes_what_is_there(fifo: Path) -> None:
    async with await open_fifo_reader(fifo, create=True, mode=0o666, remove=True):
        assert stat.S_IMODE(fifo.stat().st_mode) == 0o600
        async with await open_fifo_writer(fifo, create=True, remove=True):
            pass
    assert fifo.exists(), "it was not made by these calls"


async def test_remove(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    reader = await open_fifo_reader(path.name, create=True, remove=True)
    assert reader.path == str(path)
    monkeypatch.chdir("/")
    await reader.aclose()
    assert not path.exists()
    async with await open_fifo_reader(path, create=True, remove=True):
        path.unlink()
    async with await open_fifo_reader(path, create=True, remove=True):
        path.unlink()
        path.write_text("somebody else's by now")
    assert path.exists()


async def test_removed_under_our_feet(fifo: Path) -> None:
    reader, writer = await both(fifo)
    async with reader, writer:
        assert not reader.is_removed()
        fifo.unlink()
        assert reader.is_removed()
        await writer.send(b"as before")
        assert await reader.receive() == b"as before"
        with pytest.raises(FileNotFoundError):
            await open_fifo_writer(fifo)
    with pytest.raises(ClosedResourceError):
        reader.is_removed()


async def test_removed_while_a_writer_waits(fifo: Path) -> None:
    task = asyncio.create_task(open_fifo_writer(fifo))
    await asyncio.sleep(0.01)
    fifo.unlink()
    with pytest.raises(FileNotFoundError, match="there is no FIFO"):
        await task


async def test_a_link_is_followed(fifo: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(fifo)
    reader, writer = await both(tmp_path / "link")
    async with reader, writer:
        await writer.send(b"x")
        assert await reader.receive() == b"x"


@pytest.mark.parametrize("open_fifo", [open_fifo_reader, open_fifo_writer])
@pytest.mark.parametrize("create", [True, False])
async def test_what_is_no_fifo_is_refused(
    tmp_path: Path, open_fifo: Callable[..., Awaitable[object]], create: bool
) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, kind in [("file", "a regular file"), ("directory", "a directory"), ("socket", "a socket")]:
            with pytest.raises(FileExistsError, match=f"is {kind}, not a FIFO") as caught:
                await open_fifo(tmp_path / name, create=create)
            assert str(tmp_path / name) in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"precious"
    with pytest.raises(FileExistsError, match="is a character device"):
        await open_fifo("/dev/null", create=create)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="is a symbolic link to nothing"):
        await open_fifo(tmp_path / "link", create=create)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(FileNotFoundError):
        await open_fifo(tmp_path / "no directory" / "fifo", create=create)
    with pytest.raises(NotADirectoryError):
        await open_fifo(tmp_path / "file" / "fifo", create=create)


async def test_there_is_none(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no FIFO .* create=True makes one") as caught:
        await open_fifo_reader(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
async def test_somebody_elses_in_a_shared_directory(tmp_path: Path) -> None:
    """As open(2) with O_CREAT does it under fs.protected_fifos."""
    shared = tmp_path / "shared"
    shared.mkdir()
    path = shared / "fifo"
    os.mkfifo(path, 0o600)
    os.chown(path, 65534, 65534)
    (await open_fifo_reader(path, create=True)).close()
    shared.chmod(0o1777)
    async with await open_fifo_reader(path):  # without create it is asked for by name
        for make in (open_fifo_reader, open_fifo_writer):
            with pytest.raises(PermissionError, match=r"made by somebody else .*owner 65534, mode 0o600"):
                await make(path, create=True)
    os.chown(shared, 65534, 65534)  # of the owner of the directory it is all right
    (await open_fifo_reader(path, create=True)).close()


def test_without_permission() -> None:
    script = """
        import asyncio, errno, os, tempfile, aioipc
        async def main():
            with tempfile.TemporaryDirectory() as folder:
                path = folder + "/fifo"
                os.mkfifo(path, 0o000)
                for opened in (aioipc.open_fifo_reader, aioipc.open_fifo_writer):
                    try:
                        await opened(path)
                    except PermissionError as error:
                        assert "may not be opened: its permissions forbid it" in str(error), error
                        assert "mode 0o0" in str(error) and path in str(error), error
                    else:
                        raise SystemExit("no error")
                os.chmod(path, 0o400)
                (await aioipc.open_fifo_reader(path)).close()
                try:
                    await aioipc.open_fifo_reader(path, persistent=True)
                except PermissionError:
                    pass
                else:
                    raise SystemExit("no error")
            try:
                await aioipc.open_fifo_reader("/proc/fifo", create=True)
            except OSError as error:
                assert error.errno in (errno.EACCES, errno.ENOENT, errno.EPERM, errno.EROFS), error
            else:
                raise SystemExit("no error")
        asyncio.run(main())
    """
    run_confined("nobody", script).check()


async def test_paths_of_every_kind(path: Path) -> None:
    for name in (path, str(path), os.fsencode(path)):
        async with await open_fifo_reader(name, create=True) as reader:
            assert reader.path == str(path)
            assert reader.extra(FifoAttribute.path) == str(path)
            assert reader.extra(FifoAttribute.fileno) == reader.fileno()
            assert BufferedByteReceiveStream(reader).extra(FifoAttribute.capacity) >= PAGE


def test_never_on_the_numbers_of_standard_input_and_output(path: Path) -> None:
    script = """
        import asyncio, os, sys, aioipc
        async def main():
            os.close(0)
            reader = await aioipc.open_fifo_reader(sys.argv[1], create=True)
            writer = await aioipc.open_fifo_writer(sys.argv[1])
            assert min(reader.fileno(), writer.fileno()) > 2
            assert not os.get_inheritable(reader.fileno())
            reader.close(); writer.close()
        asyncio.run(main())
    """
    run_script(script, str(path)).check()


# --- a stream like any other


async def test_much_from_a_shell(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        with shell(f"head -c {MANY} /dev/zero > $1", fifo):
            assert sum([len(chunk) async for chunk in reader]) == MANY


async def test_much_to_a_shell(fifo: Path) -> None:
    with shell("wc -c < $1", fifo, stdout=subprocess.PIPE) as child:
        async with await open_fifo_writer(fifo) as writer:
            await writer.send(bytes(MANY))
            assert writer.statistics().bytes_sent == MANY
        assert await ended(child) == 0
        assert child.stdout is not None
        assert int(child.stdout.read()) == MANY


async def test_a_writer_that_is_killed(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        with shell("exec yes > $1", fifo) as child:
            assert (await reader.receive()).startswith(b"y\n")
            child.kill()
            assert set(await rest(reader)) <= set(b"y\n")


async def test_a_reader_that_is_killed_while_we_wait_for_room(fifo: Path) -> None:
    with shell("exec sleep 1000 < $1", fifo) as child:
        async with await open_fifo_writer(fifo) as writer:
            task = asyncio.create_task(writer.send(bytes(MANY)))
            await asleep(writer)
            child.kill()
            with pytest.raises(BrokenResourceError, match="every reader has left the FIFO"):
                await task
            with pytest.raises(BrokenResourceError):
                writer.send_nowait(b"x")
            async with await open_fifo_reader(fifo) as reader:  # another one gets what the first has left unread
                left = reader.statistics().buffered
                assert len(await reader.receive()) == left
                await writer.send(b"again")
                assert await reader.receive() == b"again"


async def test_no_sigpipe(fifo: Path) -> None:
    handler = signal.getsignal(signal.SIGPIPE)
    reader, writer = await both(fifo)
    reader.close()
    with pytest.raises(BrokenResourceError):
        await writer.send(b"x")
    writer.close()
    assert signal.getsignal(signal.SIGPIPE) == handler


async def test_four_processes_do_not_mix_their_messages(fifo: Path) -> None:
    size, each = 512, 500
    script = f"""if True:
        import os, sys
        out = os.open(sys.argv[1], os.O_WRONLY)
        for _ in range({each}):
            os.write(out, sys.argv[2].encode() * {size})
    """
    async with await open_fifo_reader(fifo, persistent=True) as reader:
        writers = [subprocess.Popen([sys.executable, "-SE", "-c", script, fifo, letter]) for letter in "abcd"]
        buffered, counts = BufferedByteReceiveStream(reader), dict.fromkeys(b"abcd", 0)
        async with asyncio.timeout(30):
            for _ in range(4 * each):
                message = await buffered.receive_exactly(size)
                assert len(set(message)) == 1
                counts[message[0]] += 1
        assert set(counts.values()) == {each}
        for writer in writers:
            assert await ended(writer) == 0


async def test_clogged(fifo: Path) -> None:
    """Nobody reads: a sender waits, is cancelled, and has said how far it got."""
    reader, writer = await both(fifo)
    async with reader, writer:
        task = asyncio.create_task(writer.send(bytes(MANY)))
        await asleep(writer)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        held = writer.statistics()
        assert held.bytes_sent == held.buffered == reader.statistics().buffered == held.capacity
        with pytest.raises(WouldBlock):
            writer.send_nowait(b"x")
        await reader.receive(PAGE)
        assert writer.send_nowait(bytes(2 * PAGE)) == PAGE


async def test_receive_into(fifo: Path) -> None:
    reader, writer = await both(fifo)
    async with reader, writer:
        buffer = bytearray(b"......")
        await writer.send(b"abc")
        assert await reader.receive_into(memoryview(buffer)[1:]) == 3
        assert buffer == b".abc.."
        assert reader.statistics().receives == 1


async def test_one_task_at_a_time(fifo: Path) -> None:
    async with await open_fifo_reader(fifo) as reader:
        task = asyncio.create_task(reader.receive())
        await asleep(reader)
        with pytest.raises(BusyResourceError):
            await reader.receive()
        reader.close()
        with pytest.raises(ClosedResourceError, match="the FIFO's read end is closed"):
            await task


async def test_detached_ends_in_a_child_process(path: Path) -> None:
    reader, writer = await both(path)
    fd = reader.detach()
    assert os.get_blocking(fd)
    child = subprocess.Popen(["cat"], stdin=fd, stdout=subprocess.PIPE)
    os.close(fd)
    async with writer:
        await writer.send(b"through the child")
    assert await ended(child) == 0
    assert child.communicate()[0] == b"through the child"
    assert path.exists()


async def test_under_the_streams_of_anyio(tmp_path: Path) -> None:
    there_reader, there_writer = await both(tmp_path / "there")
    back_reader, back_writer = await both(tmp_path / "back")
    ours, theirs = StapledByteStream(there_writer, back_reader), StapledByteStream(back_writer, there_reader)
    async with ours, theirs:
        await ours.send("zwölf\nrest".encode())
        assert await BufferedByteReceiveStream(theirs).receive_until(b"\n", 10) == "zwölf".encode()
        await theirs.send("zurück".encode())
        assert await TextReceiveStream(ours.receive_stream).receive() == "zurück"
        await ours.send_eof()
        with pytest.raises(EndOfStream):
            await theirs.receive()


async def test_says_what_it_is(fifo: Path) -> None:
    reader, writer = await both(fifo)
    async with reader, writer:
        assert repr(reader) == f"<FifoReceiveStream fd={reader.fileno()}, 0 bytes in 0 calls>"
        with pytest.raises(ValueError, match="is not the write end"):
            FifoSendStream(reader.fileno(), str(fifo), Claim("fifo"))
    assert repr(writer) == "<FifoSendStream closed, 0 bytes in 0 calls>"


async def test_unclosed(path: Path) -> None:
    reader = await open_fifo_reader(path, create=True, remove=True)
    with pytest.warns(ResourceWarning, match="unclosed <FifoReceiveStream"):
        del reader
    assert not path.exists()


# --- where it lives


@pytest_asyncio.fixture
async def pair(path: Path) -> AsyncIterator[tuple[FifoReceiveStream, FifoSendStream]]:
    reader = await open_fifo_reader(path, create=True, remove=True)
    async with reader, await open_fifo_writer(path) as writer:
        yield reader, writer


async def test_as_a_fixture(pair: tuple[FifoReceiveStream, FifoSendStream]) -> None:
    reader, writer = pair
    await writer.send(b"x")
    assert await reader.receive() == b"x"


async def test_left_in_a_cancelled_scope(path: Path) -> None:
    with anyio.CancelScope() as scope:
        reader = await open_fifo_reader(path, create=True, remove=True)
        async with reader, await open_fifo_writer(path) as writer:
            scope.cancel()
            await reader.receive()
    assert scope.cancelled_caught
    assert not path.exists()
    for stream in (reader, writer):
        with pytest.raises(ClosedResourceError):
            stream.fileno()
