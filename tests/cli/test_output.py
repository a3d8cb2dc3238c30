"""Results leave through a thread that a slow reader may hold up, but nobody else."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioipc.cli.output import BACKLOG, OutputError, ResultWriter, open_file, write_all


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose read end is closed at the end; the write end belongs to the writer under test."""
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)


def broken(error: OSError) -> None:
    raise AssertionError("the output is not broken") from error


async def read_some(descriptor: int) -> bytes:
    return await asyncio.to_thread(os.read, descriptor, 1 << 20)


async def test_a_line_is_written_without_waiting_for_company() -> None:
    with pipe() as (read, write):
        writer = ResultWriter(write, broken)
        for line in (b"one\n", b"two\n"):
            writer.write(line)
            assert await read_some(read) == line
        await writer.aclose()


async def test_lines_of_one_moment_are_written_together() -> None:
    with pipe() as (read, write):
        writer = ResultWriter(write, broken)
        for number in range(100):
            writer.write(b"%d\n" % number)
        assert (await read_some(read)).count(b"\n") == 100
        await writer.aclose()


async def test_closing_writes_the_rest() -> None:
    with pipe() as (read, write):
        writer = ResultWriter(write, broken)
        writer.write(b"last\n")
        await writer.aclose()
        assert os.read(read, 100) == b"last\n"
        assert os.read(read, 100) == b""


async def test_a_slow_reader_makes_it_full_and_then_empty() -> None:
    line = b"x" * 65_535 + b"\n"
    with pipe() as (read, write):
        writer = ResultWriter(write, broken)
        count = 0
        while not writer.full:
            writer.write(line)
            count += 1
        assert BACKLOG < count * len(line) <= BACKLOG + 2 * len(line)
        waiting = asyncio.ensure_future(writer.wait_room())
        received = 0
        while not waiting.done():
            received += len(await read_some(read))
        closing = asyncio.ensure_future(writer.aclose())
        while received < count * len(line):
            received += len(await read_some(read))
        await closing


async def test_a_reader_that_leaves_is_noticed_while_there_is_nothing_to_write() -> None:
    errors: asyncio.Queue[OSError] = asyncio.Queue()
    read, write = os.pipe()
    writer = ResultWriter(write, errors.put_nowait)

    os.close(read)
    error = await errors.get()

    assert error.errno == errno.EPIPE
    writer.write(b"nobody hears this\n")
    assert not writer.full
    await writer.aclose()


async def test_a_full_disk_is_reported_once() -> None:
    errors: list[OSError] = []
    writer = ResultWriter(os.open("/dev/full", os.O_WRONLY), errors.append)
    writer.write(b"one\n")
    await writer.aclose()

    assert [error.errno for error in errors] == [errno.ENOSPC]


async def test_a_cancelled_close_waits_for_nobody() -> None:
    read, write = os.pipe()
    writer = ResultWriter(write, lambda error: None)
    writer.write(b"x" * BACKLOG)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await writer.aclose()
    os.close(read)
    await writer.aclose()


def test_a_descriptor_that_somebody_made_non_blocking() -> None:
    data = os.urandom(300_000)
    read, write = os.pipe()
    os.set_blocking(write, False)
    child = os.fork()
    if not child:
        os.close(read)
        write_all(write, data)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        assert file.read() == data
    os.waitpid(child, 0)


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("a\n")
    (tmp_path / "link").symlink_to("tasks")

    with pytest.raises(OutputError, match="is an input"):
        open_file(str(tmp_path / "link"), ["-", str(tmp_path / "tasks")])

    assert (tmp_path / "tasks").read_text() == "a\n"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*results: No such file or directory"):
        open_file(str(tmp_path / "missing" / "results"), [])
