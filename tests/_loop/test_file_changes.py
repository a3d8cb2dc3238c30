"""Changes of files, as a wait queue hears of them."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioipc import RecordLog, WouldBlock
from aioipc._loop.file_changes import ChangeReadiness
from tests.harness.processes import eventually_async, open_descriptors


class Watched:
    """A file, its readiness, and the reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.readiness = ChangeReadiness()
        self.readiness.watch(self.fd)
        self.reports = 0

    def arm(self) -> None:
        self.readiness.arm(self.report)

    def report(self) -> bool:
        self.reports += 1
        return True

    async def reported(self, count: int) -> None:
        await eventually_async(lambda: self.reports >= count)
        assert self.reports == count

    def close(self) -> None:
        self.readiness.close()
        os.close(self.fd)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[Watched]]:
    watched = [Watched(tmp_path / name) for name in ("a", "b")]
    yield watched
    for each in watched:
        each.close()
    assert "anon_inode:inotify" not in open_descriptors().values()


async def test_reports(files: list[Watched]) -> None:
    one, other = files
    same = Watched(one.path)
    one.arm()
    await one.reported(1)  # it may have changed before
    for number, change in enumerate(
        [
            lambda: os.write(one.fd, b"x"),
            lambda: os.truncate(one.fd, 0),
            lambda: os.link(one.path, one.path.with_name("c")),
            lambda: one.path.rename(one.path.with_name("d")),
            lambda: one.path.with_name("d").unlink(),
        ],
        2,
    ):
        one.arm()
        other.arm()
        same.arm()
        await asyncio.sleep(0.01)
        change()
        await one.reported(number)
    await eventually_async(lambda: same.reports >= 5)
    assert other.reports == 1
    os.write(one.fd, b"not armed")
    await asyncio.sleep(0.01)
    one.arm()
    await one.reported(7)
    one.arm()
    one.readiness.disarm()
    os.write(one.fd, b"disarmed")
    await asyncio.sleep(0.01)
    assert one.reports == 7
    one.arm()
    await one.reported(8)
    same.close()
    one.readiness.watch(other.fd)
    one.arm()
    await one.reported(9)
    one.arm()
    os.write(other.fd, b"x")
    await one.reported(10)


def kept_events() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


async def test_more_events_than_the_kernel_keeps(files: list[Watched]) -> None:
    """It drops the rest and says so; then everybody looks."""
    one, other = files
    limit = kept_events()
    if limit > 100_000:
        pytest.skip(f"the kernel keeps {limit} events")
    last = Watched(one.path.with_name("last"))
    for number, each in enumerate((one, other, last)):
        each.arm()
        await each.reported(1)
        each.arm()
        assert number < 3
    for _ in range(limit // 2 + 10):
        os.write(one.fd, b"x")
        os.write(other.fd, b"x")
    os.write(last.fd, b"x")  # the event of which is lost
    for each in (one, other, last):
        await each.reported(2)
    last.close()


async def test_a_limit_is_named(tmp_path: Path) -> None:
    log = RecordLog.open(tmp_path / "log")
    reader = log.follow()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(set(range(1000)) - open_descriptors().keys()), hard))
    try:
        with pytest.raises(OSError, match=r"fs\.inotify\.max_user_instances") as caught:
            await reader.receive()
        assert caught.value.errno == errno.EMFILE
        with pytest.raises(WouldBlock):
            reader.receive_nowait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await log.append(b"x")
    assert (await reader.receive()).body == b"x"
    await log.aclose()
