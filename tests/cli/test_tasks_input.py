"""Tasks from files and pipes: read in a thread, in bounded batches."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.cli import tasks_input
from aioipc.cli.tasks_input import CHUNK, LOOK_AHEAD, InputError, TaskInput, count_tasks, split_lines
from tests.harness.processes import eventually_async, open_descriptors


async def read_all(source: TaskInput) -> list[tasks_input.Task]:
    tasks = []
    while (batch := await source.next_batch()) is not None:
        tasks.extend(batch)
    return tasks


async def values(*names: str, **options: object) -> list[object]:
    source = TaskInput(list(names), **options)  # type: ignore[arg-type]
    return [task.value for task in await read_all(source)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "b"]),
        (b"a\r\n\r\nb\r\n", ["a", "b"]),
        (b" a \n \n", [" a ", " "]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        ("naïve\n".encode(), ["naïve"]),
    ],
)
async def test_lines_are_tasks(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "tasks").write_bytes(content)

    assert await values(str(tmp_path / "tasks")) == expected


async def test_files_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"a\nb")
    (tmp_path / "two").write_bytes(b"c\n")

    assert await values(str(tmp_path / "one"), str(tmp_path / "two")) == ["a", "b", "c"]


async def test_names_with_any_byte(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"caf\xe9\0two\nlines\0\0")

    source = TaskInput([str(tmp_path / "tasks")], separator=b"\0")
    tasks = await read_all(source)

    assert [os.fsencode(str(task.value)) for task in tasks] == [b"caf\xe9", b"two\nlines"]
    assert [task.shown for task in tasks] == [b'"caf\\udce9"', b'"two\\nlines"']


async def test_json_values(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b'[1, 2]\n{"a": null}\n\n  \n"text"\n12\n')

    source = TaskInput([str(tmp_path / "tasks")], json_values=True)
    tasks = await read_all(source)

    assert [task.value for task in tasks] == [[1, 2], {"a": None}, "text", 12]
    assert [task.shown for task in tasks] == [b"[1, 2]", b'{"a": null}', b'"text"', b"12"]


@pytest.mark.parametrize("line", [b"{", b"NaN", b"\xff", b"[" * 100_000, b"1" * 5000])
async def test_a_line_that_is_no_json_is_told_by_its_place(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "tasks").write_bytes(b"1\n\n" + line + b"\n2\n")

    tasks = await read_all(TaskInput([str(tmp_path / "tasks")], json_values=True))

    assert [task.value for task in tasks] == [1, None, 2]
    assert tasks[1].problem is not None
    assert tasks[1].problem.startswith(f"{tmp_path}/tasks, line 3: not a JSON value")


async def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = TaskInput([str(fifo)])
    writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
    try:
        for text in ("first", "second"):
            os.write(writer, f"{text}\nhalf".encode())
            batch = await source.next_batch()
            assert batch is not None
            assert batch[0].value in (text, f"half{text}")
    finally:
        os.close(writer)
    assert [task.value for task in await read_all(source)] == ["half"]


async def test_no_more_than_the_look_ahead_is_read(tmp_path: Path) -> None:
    name = tmp_path / "tasks"
    name.write_bytes(b"y\n" * CHUNK * 5)
    source = TaskInput([str(name)])

    await eventually_async(lambda: position_in(name) == (LOOK_AHEAD + 1) * CHUNK)
    assert await source.next_batch()
    await eventually_async(lambda: position_in(name) == (LOOK_AHEAD + 2) * CHUNK)
    source.close()


async def test_closing_lets_the_thread_end(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"y\n" * CHUNK * 5)

    source = TaskInput([str(tmp_path / "tasks")])
    await source.next_batch()
    source.close()

    await eventually_async(lambda: not input_threads())


async def test_input_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"a\n")
    source = TaskInput([str(tmp_path / "tasks"), str(tmp_path)])
    assert await source.next_batch()

    with pytest.raises(InputError, match=re.escape(f"cannot read {tmp_path}: Is a directory")):
        await source.next_batch()


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_input, "MAX_TASK", 1 << 20)

    with pytest.raises(InputError, match="longer than 1 MiB"):
        list(split_lines(lambda: b"0" * CHUNK, b"\n"))


@given(st.binary(max_size=30), st.lists(st.integers(1, 5), min_size=1))
def test_lines_do_not_depend_on_how_reads_cut_them(content: bytes, sizes: list[int]) -> None:
    reads = iter([*cut(content, sizes), b""])

    lines = [line for lines in split_lines(lambda: next(reads), b"\n") for line in lines]

    assert lines == (content.removesuffix(b"\n").split(b"\n") if content else [])


def test_tasks_are_counted_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"a\n\nb\r\n\r\nc")
    (tmp_path / "two").write_bytes(b"d\n" * CHUNK)
    os.mkfifo(tmp_path / "fifo")

    assert count_tasks([str(tmp_path / "one"), str(tmp_path / "two")]) == 3 + CHUNK
    assert count_tasks([str(tmp_path / "one"), str(tmp_path / "fifo")]) is None
    assert count_tasks([str(tmp_path / "missing")]) is None


def position_in(name: Path) -> int:
    """How far this process has read in the file."""
    for descriptor, link in open_descriptors().items():
        if link == str(name):
            fields = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
            return int(fields[fields.index("pos:") + 1])
    return -1


def input_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "aioipc-map-input"]


def cut(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in itertools.cycle(sizes):
        if not content:
            return
        yield content[:size]
        content = content[size:]
