"""The record log: what is appended is read, whatever killed writers, rotation and damage leave in the files."""

# ruff: noqa: ASYNC240 - files of a local file system

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aioipc
from aioipc import ClosedResourceError, FileLock, LogReader, ObjectRemovedError, RecordLog, RecordsLostError, WouldBlock
from aioipc.kernel import log_writer
from aioipc.wire.records import HEADER_SIZE, OVERHEAD
from tests.harness.hostile import NOBODY, TINY_SHM, open_to_all, run_confined
from tests.harness.processes import eventually_async, open_descriptors
from tests.harness.scripts import run_script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest_asyncio.fixture
async def log(path: Path) -> AsyncIterator[RecordLog]:
    async with asyncio.timeout(50), RecordLog.open(path) as opened:
        yield opened


async def bodies(reader: LogReader) -> list[bytes]:
    return [record.body async for record in reader]


async def receive(reader: LogReader, count: int) -> list[bytes]:
    return [(await reader.receive()).body for _ in range(count)]


async def test_append_and_read(log: RecordLog, path: Path) -> None:
    written = [b"hello", b"", bytes(100_000), b"\n" * 7, bytes(range(256)), bytes(1 << 20)]
    positions = [await log.append(body) for body in written[:3]]
    positions += await log.append_many([bytearray(written[3]), memoryview(written[4]), written[5]])
    assert positions[:2] == [0, OVERHEAD + 5]
    records = [record async for record in log.read()]
    assert [record.body for record in records] == written
    assert [record.position for record in records] == positions
    assert [record.end for record in records] == [*positions[1:], log.end]
    assert log.end == path.stat().st_size - HEADER_SIZE
    statistics = log.statistics()
    assert (statistics.appended, statistics.appended_bytes) == (6, sum(map(len, written)))
    assert statistics.size == path.stat().st_size
    for record in records:
        assert await bodies(log.read(record.end)) == written[positions.index(record.position) + 1 :]
    assert await log.append_many([]) == []
    assert f"{path}" in repr(log)
    log.append_nowait(b"last")
    assert log.read(records[-1].end).receive_nowait() == (records[-1].end, b"last")


async def test_follow(log: RecordLog, path: Path) -> None:
    """Several readers of one and of another object; they share one inotify descriptor and need no thread."""
    await log.append(b"before")
    async with RecordLog.open(path, readonly=True) as other:
        readers = [log.follow(), log.follow(), other.follow()]
        oldest = other.follow("oldest")
        with pytest.raises(WouldBlock):
            readers[0].receive_nowait()
        tasks = [asyncio.create_task(receive(reader, 20)) for reader in readers]
        await eventually_async(lambda: all(reader.statistics().waiting for reader in readers))
        assert [*open_descriptors().values()].count("anon_inode:inotify") == 1
        sent = [b"%d" % number for number in range(20)]
        for number in sent:
            await log.append(number)
            if int(number) % 3 == 0:
                await asyncio.sleep(0.001)
        assert await asyncio.gather(*tasks) == [sent] * 3
        assert await receive(oldest, 21) == [b"before", *sent]
        assert readers[0].position == log.end
        assert readers[0].statistics().records == 20
        assert not [tid for tid in os.listdir("/proc/self/task") if comm(tid) == "aioipc-wait"]


def comm(tid: str) -> str:
    try:
        return Path(f"/proc/self/task/{tid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_a_cancelled_receive_took_nothing(log: RecordLog) -> None:
    reader = log.follow()
    for number in range(200):
        task = asyncio.create_task(reader.receive())
        await asyncio.sleep(0)
        if number % 2:
            await log.append(b"%d" % number)
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled() and number % 2:
            assert (await reader.receive()).body == b"%d" % number


async def test_torn_at_every_byte(path: Path) -> None:
    """A reader ends before it, or waits at it; the next one to append cuts it off."""
    async with asyncio.timeout(50), RecordLog.open(path) as log:
        await log.append(b"first")
        whole = path.stat().st_size
        await log.append(b"second, torn")
    data = path.read_bytes()
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        async with RecordLog.open(path) as log:
            assert log.end == whole - HEADER_SIZE
            reader = log.follow("oldest")
            assert await bodies(log.read()) == [b"first"] == await receive(reader, 1)
            waiting = asyncio.create_task(reader.receive())
            await eventually_async(lambda reader=reader: reader.statistics().waiting)
            assert await log.append(b"x" * (size % 40)) == whole - HEADER_SIZE
            assert await waiting == (whole - HEADER_SIZE, b"x" * (size % 40))
            assert log.statistics().repaired == size - whole
            assert await bodies(log.read()) == [b"first", b"x" * (size % 40)]


async def test_a_large_one_that_is_torn(log: RecordLog, path: Path) -> None:
    """What a reader has seen of it is no longer so when it is cut off."""
    await log.append(bytes(500_000))
    with path.open("r+b") as file:
        file.truncate(HEADER_SIZE + 300_000)
    reader = log.follow("oldest")
    for body in (b"small", bytes(70_000), b"end"):
        with pytest.raises(WouldBlock):
            reader.receive_nowait()
        async with RecordLog.open(path) as other:
            await other.append(body)
        assert (await reader.receive()).body == body


async def test_torn_header_and_zeros(path: Path) -> None:
    for size in range(HEADER_SIZE):
        async with RecordLog.open(path) as log:
            reader = log.follow("oldest")
            assert log.end == 0
            waiting = asyncio.create_task(reader.receive())
            await asyncio.sleep(0)
            await log.append(b"first")
            assert await waiting == (0, b"first")
            await log.append(b"second")
        whole = path.read_bytes()
        path.write_bytes(whole[:size])
    path.write_bytes(whole + bytes(5000))
    async with RecordLog.open(path) as log:
        reader = log.follow("oldest")
        assert await receive(reader, 2) == [b"first", b"second"] == await bodies(log.read())
        assert log.end == len(whole) - HEADER_SIZE
        await log.append(b"third")
        assert await receive(reader, 1) == [b"third"]
        assert log.statistics().repaired == 5000


@pytest.mark.parametrize("at", [0, 5, 10, 14, 17, 25, 30])
async def test_damage(path: Path, at: int) -> None:
    """Bits that are not as they were written, in the header, the body or the end of a record: told, and passed."""
    async with asyncio.timeout(50), RecordLog.open(path) as log:
        positions = [await log.append(b"%d--------" % number) for number in range(5)]
        spoil(path, HEADER_SIZE + positions[2] + at)
        reader = log.follow("oldest")
        assert await receive(reader, 2) == [b"0--------", b"1--------"]
        with pytest.raises(RecordsLostError, match=f"position {positions[2]} .*goes on at {positions[3]}") as caught:
            await reader.receive()
        assert (caught.value.position, caught.value.resume) == (positions[2], positions[3])
        assert pickle.loads(pickle.dumps(caught.value)).resume == positions[3]
        assert await receive(reader, 2) == [b"3--------", b"4--------"]
        skipping = log.read(on_lost="skip")
        assert [body[:1] for body in await bodies(skipping)] == [b"0", b"1", b"3", b"4"]
        assert skipping.statistics().lost == reader.statistics().lost == 1
        assert [body[:1] for body in await bodies(log.read(positions[1] + 3, on_lost="skip"))] == [b"3", b"4"]

        spoil(path, HEADER_SIZE + positions[4] + at)  # at the end: it stays there, and the log goes on behind it
        end = log.end
        assert end == path.stat().st_size - HEADER_SIZE
    async with asyncio.timeout(50), RecordLog.open(path) as log:
        assert await log.append(b"5") == end
        assert [body[:1] for body in await bodies(log.read(on_lost="skip"))] == [b"0", b"1", b"3", b"5"]


def spoil(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


async def test_max_record(path: Path) -> None:
    async with RecordLog.open(path, max_record=100) as small, RecordLog.open(path) as large:
        with pytest.raises(ValueError, match="101 bytes is more than max_record=100"):
            await small.append(bytes(101))
        assert small.end == 0
        await large.append(bytes(101))
        await small.append(bytes(100))
        reader = small.read()
        with pytest.raises(RecordsLostError, match="101 bytes, more than the 100"):
            await reader.receive()
        assert await bodies(reader) == [bytes(100)]


async def test_rotation(path: Path) -> None:
    """Readers that follow, that start late, that stand in an old file; files above ``keep`` are removed."""
    async with asyncio.timeout(50), RecordLog.open(path, max_bytes=400, keep=3) as log:
        live = log.follow()
        resumed = log.follow(0)
        numbers = [b"%03d" % number for number in range(100)]
        received = []
        positions = []
        for number in numbers:
            positions.append(await log.append(number))
            received += await receive(live, 1)
        assert received == numbers
        assert positions == [number * (OVERHEAD + 3) for number in range(100)]
        assert log.statistics().rotations == live.statistics().files > 5
        assert sorted(each.name for each in path.parent.iterdir()) == ["log", "log.1", "log.2", "log.3"]
        assert path.stat().st_size <= 400
        kept = await bodies(log.read())
        assert kept == numbers[-len(kept) :]
        assert len(kept) > 40
        assert await bodies(log.read(positions[-30])) == numbers[-30:]
        in_first = len(await bodies(log.read(0, on_lost="skip"))) - len(kept)
        assert in_first == 0
        first_file = [resumed.receive_nowait().body for _ in range(13)]
        assert first_file == numbers[:13], "its file is open, though it is gone"
        with pytest.raises(RecordsLostError, match="gone by rotation") as caught:
            await resumed.receive()
        assert caught.value.resume == positions[-len(kept)]
        assert await receive(resumed, len(kept)) == kept
        with pytest.raises(RecordsLostError):
            log.read(positions[3]).receive_nowait()
        await log.rotate()
        await log.rotate()
        await log.append(b"end")
        assert await receive(live, 1) == [b"end"]
        assert path.with_name("log.1").stat().st_size == HEADER_SIZE


async def test_an_old_file_that_was_cut_off(path: Path) -> None:
    """What is missing is told once, and the next file is read."""
    async with asyncio.timeout(50), RecordLog.open(path) as log:
        end = 0
        for number in range(3):
            end = await log.append(b"%d" % number)
        await log.rotate()
        await log.append(b"3")
        os.truncate(path.with_name("log.1"), HEADER_SIZE + end + 5)
        reader = log.follow("oldest")
        assert await receive(reader, 2) == [b"0", b"1"]
        with pytest.raises(RecordsLostError) as caught:
            await reader.receive()
        assert (caught.value.position, caught.value.resume) == (end, end + OVERHEAD + 1)
        assert await receive(reader, 1) == [b"3"]


async def test_nobody_appends_during_a_rotation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the old file nor to the new one: what came to the old one then would be read by nobody."""

    def is_locked() -> bool:
        lock = FileLock.open(path)
        try:
            lock.acquire_nowait()
        except WouldBlock:
            return True
        finally:
            lock.close()
        return False

    locked = []

    def put_in_place(*arguments: Any, put_in_place: Callable[..., None] = log_writer.put_in_place) -> None:
        locked.append(is_locked())
        put_in_place(*arguments)
        locked.append(is_locked())

    monkeypatch.setattr(log_writer, "put_in_place", put_in_place)
    async with RecordLog.open(path) as log:
        await log.append(b"x")
        await log.rotate()
        assert locked == [True, True]
        assert not is_locked()


async def test_keeping_nothing(path: Path) -> None:
    async with RecordLog.open(path, max_bytes=100, keep=0) as log:
        reader = log.follow()
        for number in range(20):
            await log.append(bytes(50 + number))
            assert len((await reader.receive()).body) == 50 + number
        assert [each.name for each in path.parent.iterdir()] == ["log"]


async def test_rotation_that_was_interrupted(path: Path) -> None:
    """At each step of it: nothing is lost, and the next rotation puts things in order."""
    async with RecordLog.open(path, keep=4) as log:
        for number in range(3):
            await log.append(b"%d" % number)
            await log.rotate()
        await log.append(b"3")
    (path.parent / "log.next").write_bytes(b"half made")
    os.rename(path.parent / "log.3", path.parent / "log.4")
    os.rename(path.parent / "log.2", path.parent / "log.3")
    async with RecordLog.open(path, keep=4) as log:
        assert await bodies(log.read()) == [b"0", b"1", b"2", b"3"]
        await log.rotate()
        assert await bodies(log.read()) == [b"0", b"1", b"2", b"3"]
        await log.append(b"4")
        os.unlink(path.parent / "log.4")
        os.rename(path.parent / "log.1", path.parent / "log.4")
        os.link(path, path.parent / "log.1")
        reader = log.follow("oldest", on_lost="skip")
        await log.append(b"5")
        await log.rotate()
        await log.append(b"6")
        assert (await bodies(log.read(on_lost="skip")))[-3:] == [b"4", b"5", b"6"]
        assert await receive(reader, 6) == [b"1", b"2", b"3", b"4", b"5", b"6"]


async def test_removed_replaced_and_shortened(path: Path, tmp_path: Path) -> None:
    async with asyncio.timeout(50), RecordLog.open(path) as log, RecordLog.open(tmp_path / "other") as other:
        await log.append(b"x" * 100)
        reader = log.follow()
        waiting = asyncio.create_task(reader.receive())
        await eventually_async(lambda: reader.statistics().waiting)
        path.unlink()
        with pytest.raises(ObjectRemovedError):
            await waiting
        with pytest.raises(ObjectRemovedError):
            await log.append(b"x")
        assert not path.exists()

        await other.append(b"other")
        os.link(tmp_path / "other", path)
        for use in (lambda: log.append(b"x"), reader.receive):
            with pytest.raises(ObjectRemovedError, match="another one"):
                await use()

        await other.append(bytes(50))
        reader = other.follow()
        os.truncate(path, HEADER_SIZE + 3)
        with pytest.raises(aioipc.BrokenResourceError, match="shortened"):
            await other.append(b"x")
        with pytest.raises(ObjectRemovedError, match="shortened"):
            await reader.receive()


async def test_fsync_always(path: Path) -> None:
    async with asyncio.timeout(50), RecordLog.open(path, fsync="always", max_bytes=1000) as log:
        await asyncio.gather(*(log.append(b"%d" % number) for number in range(100)))
        assert 1 <= log.statistics().syncs < 50, "tasks share them"
        log.append_nowait(b"100")
        await log.rotate()
        await log.append(b"101")
        assert log.statistics().rotations > 1
        assert sorted(map(int, await bodies(log.read()))) == list(range(102))


async def test_fsync_now_and_then(path: Path) -> None:
    async with asyncio.timeout(50), RecordLog.open(path, fsync=0.01) as log:
        await log.append(b"x")
        await eventually_async(lambda: log.statistics().syncs == 1)
        log.append_nowait(b"x")
        await eventually_async(lambda: log.statistics().syncs == 2)
    async with RecordLog.open(path, fsync=1000) as log:
        await log.append(b"x")
        assert log.statistics().syncs == 0
    assert log.statistics().syncs == 1, "at the end, if not before"
    async with RecordLog.open(path) as log:
        await log.append(b"x")
        await log.sync()
        assert log.statistics().syncs == 1


async def test_an_fsync_that_fails(path: Path) -> None:
    """A pipe in place of the file is something that the kernel refuses to sync. What follows is refused."""
    async with RecordLog.open(path, fsync="always") as log:
        await log.append(b"1")
        fd = log._sync._fds[-1]
        kept = os.dup(fd)
        reader, writer = os.pipe()
        os.dup2(writer, fd, inheritable=False)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            await log.append(b"2")
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(aioipc.BrokenResourceError, match="has failed"):
            await log.append(b"3")
        for each in (reader, writer, kept):
            os.close(each)
        assert await bodies(log.read()) == [b"1", b"2"]


FULL = """
    import asyncio, errno, resource, sys, aioipc
    async def main():
        path = sys.argv[1]
        if "/dev/shm" not in path:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        async with aioipc.RecordLog.open(path) as log:
            reader = log.follow()
            count = 0
            try:
                while True:
                    await log.append(bytes(70_000))
                    count += 1
            except OSError as error:
                print(errno.errorcode[error.errno], error.strerror)
            assert count == len([record async for record in log.read()]) > 3
            assert log.end == count * 70_024
            await log.append(b"small")
            assert [len((await reader.receive()).body) for _ in range(count + 1)][-1] == 5
            assert not log.statistics().repaired
    aioipc.run(main)
"""


def test_no_room(path: Path) -> None:
    """It is told, nothing of the record stays, and smaller ones still fit."""
    done = run_script(FULL, str(path)).check()
    assert done.stdout.startswith("EFBIG the file would be larger")
    done = run_confined(TINY_SHM, FULL, "/dev/shm/log").check()
    assert done.stdout.startswith("ENOSPC the disk is full; nothing was appended")


READER = """
    import asyncio, sys, aioipc
    async def main():
        try:
            aioipc.RecordLog.open(sys.argv[1])
        except PermissionError as error:
            print(error.strerror)
        async with aioipc.RecordLog.open(sys.argv[1], readonly=True) as log:
            async for record in log.follow("oldest"):
                print(record.body)
                break
            try:
                await log.append(b"x")
            except PermissionError as error:
                print(error.strerror)
    asyncio.run(main())
"""


async def test_without_a_descriptor_for_the_sync_nothing_is_appended(path: Path) -> None:
    async with RecordLog.open(path, fsync="always") as log:
        with limited_descriptors(0), pytest.raises(OSError, match="Too many open files"):
            await log.append(b"once")
        await log.append(b"once")
        assert await bodies(log.read()) == [b"once"]


@contextmanager
def limited_descriptors(left: int) -> Iterator[None]:
    """Have no more descriptors than are open, but for ``left``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_nobody_sees_a_part_of_what_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several records are written at once; where they do not fit, not even the first pages of them."""
    async with RecordLog.open(path) as log, RecordLog.open(path, readonly=True) as other:
        await log.append(b"good")
        reader = other.follow("oldest")
        assert (await reader.receive()).body == b"good"
        sizes = {path.stat().st_size}
        cut = os.ftruncate  # what would take a part away again
        monkeypatch.setattr(os, "ftruncate", lambda fd, size: (sizes.add(path.stat().st_size), cut(fd, size)))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            with pytest.raises(OSError, match="nothing was appended"):
                await log.append_many([bytes(100)] * 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(sizes) == 1
        await log.append_many([b"more", b"and more"])
        assert await receive(reader, 2) == [b"more", b"and more"]


async def test_seconds_outside_of_a_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could do it later, so it is done at once."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    log = RecordLog.open(path, fsync=1000.0)
    await asyncio.to_thread(log.append_nowait, b"x")
    assert synced
    synced.clear()
    await log.rotate()
    await log.aclose()
    assert synced


async def test_reading_without_permission_to_write() -> None:
    with open_to_all() as folder:
        async with RecordLog.open(folder / "log", mode=0o644) as log:
            await log.append(b"hello")
            done = run_confined(NOBODY, READER, str(folder / "log")).check()
    assert done.stdout.splitlines() == [
        "may be read only, not appended to; readonly=True opens it",
        "b'hello'",
        "the record log was opened with readonly=True",
    ]


async def test_closing(log: RecordLog, path: Path) -> None:
    await log.append(b"x")
    readers = [log.follow(), log.read()]
    waiting = asyncio.create_task(readers[0].receive())
    await eventually_async(lambda: readers[0].statistics().waiting)
    await readers[1].aclose()
    assert log.statistics().readers == 1
    await log.aclose()
    with pytest.raises(ClosedResourceError):
        await waiting
    uses: list[Callable[[], object]] = [log.follow, log.read, lambda: log.append_nowait(b""), lambda: log.end]
    for use in uses:
        with pytest.raises(ClosedResourceError):
            use()
    for reader in readers:
        with pytest.raises(ClosedResourceError):
            reader.receive_nowait()
        assert "closed" in repr(reader)
    with pytest.raises(ClosedResourceError):
        await log.append(b"x")
    assert log.statistics().appended == 1
    with pytest.warns(ResourceWarning, match="unclosed <RecordLog"):
        RecordLog.open(path)


async def test_wrong_arguments(path: Path, log: RecordLog) -> None:
    await log.append(b"x")
    text = path.parent / "text"
    text.write_text("no log, but some text that is long enough")
    wrong: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: RecordLog.open(text), ValueError),
        (lambda: RecordLog.open(text, readonly=True), ValueError),
        (lambda: RecordLog.open(path.parent), OSError),
        (lambda: RecordLog.open(path.parent / "none", readonly=True), FileNotFoundError),
        (lambda: RecordLog.open(path.parent / "none", create=False), FileNotFoundError),
        (lambda: RecordLog.open(path, fsync="sometimes"), TypeError),  # type: ignore[arg-type]
        (lambda: RecordLog.open(path, fsync=0), ValueError),
        (lambda: RecordLog.open(path, max_bytes=0), ValueError),
        (lambda: RecordLog.open(path, keep=-1), ValueError),
        (lambda: RecordLog.open(path, max_record=1 << 31), ValueError),
        (lambda: log.follow(1000), ValueError),
        (lambda: log.follow("begin"), TypeError),  # type: ignore[arg-type]
        (lambda: log.follow(on_lost="ignore"), ValueError),  # type: ignore[arg-type]
        (lambda: log.append_nowait("text"), TypeError),  # type: ignore[arg-type]
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    assert text.read_text().startswith("no log")
    assert sorted(each.name for each in path.parent.iterdir()) == ["log", "text"]
