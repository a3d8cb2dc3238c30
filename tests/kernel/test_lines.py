"""Lines of text out of byte streams."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream
from hypothesis import given
from hypothesis import strategies as st

from aioipc import ClosedResourceError, EndOfStream, Lines, LineTooLong, create_pipe
from tests.harness.processes import eventually_async


class Chunks(ByteReceiveStream):
    """A stream of anyio's that brings these chunks."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._chunks:
            raise anyio.EndOfStream
        return self._chunks.pop(0)

    async def aclose(self) -> None:
        pass


async def collect(*chunks: bytes, **options: object) -> list[str]:
    return [line async for line in Lines(Chunks(*chunks), **options)]  # type: ignore[arg-type]


def without_a_loop(coroutine: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run what never waits; a loop for each of many examples takes long."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value


async def test_lines_of_a_pipe() -> None:
    reader, writer = create_pipe()
    async with reader:
        await writer.send(b"first\nsec")
        lines = reader.lines()
        assert await anext(lines) == "first"
        task = asyncio.create_task(anext(lines))  # type: ignore[arg-type]
        await eventually_async(lambda: reader._queue.waiting)
        await writer.send(b"ond\n\nlast")
        assert await task == "second"
        await writer.aclose()
        assert [line async for line in lines] == ["", "last"]
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\rc\n", ["a\r", "b\rc"]),
        (b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n", ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),  # str.splitlines would cut
    ],
)
async def test_only_the_newline_ends_a_line(data: bytes, expected: list[str]) -> None:
    assert await collect(data) == expected
    assert await collect(*[data[i : i + 1] for i in range(len(data))]) == expected


@given(text=st.text(), cuts=st.lists(st.integers(0, 200)))
def test_any_text_in_any_chunks(text: str, cuts: list[int]) -> None:
    data = text.encode(errors="surrogatepass")
    edges = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    expected = text.split("\n")
    if not expected[-1]:
        expected.pop()
    assert without_a_loop(collect(*chunks, errors="surrogatepass")) == expected


async def test_encodings() -> None:
    assert await collect("grün\nblau".encode("latin-1"), encoding="latin-1") == ["grün", "blau"]
    assert await collect("one\ntwo\n".encode("utf-8-sig"), encoding="utf-8-sig") == ["one", "two"]
    assert await collect("日本\n語\n".encode("iso-2022-jp"), encoding="iso-2022-jp") == ["日本", "語"]
    assert await collect(b"\xff\n\xfe", errors="replace") == ["\ufffd", "\ufffd"]
    assert await collect(b"\xff\n", errors="surrogateescape") == ["\udcff"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp500"])
def test_an_encoding_with_another_newline_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="a line does not end with the byte 10"):
        Lines(Chunks(), encoding=encoding)


def test_wrong_arguments() -> None:
    for encoding in ("nonsense", "hex"):
        with pytest.raises(LookupError, match=encoding):
            Lines(Chunks(), encoding=encoding)
    with pytest.raises(LookupError, match="nonsense"):
        Lines(Chunks(), errors="nonsense")
    with pytest.raises(TypeError, match="max_line must be an int"):
        Lines(Chunks(), max_line=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_line must be at least 1"):
        Lines(Chunks(), max_line=0)


async def test_a_bad_byte_spoils_its_own_line_only() -> None:
    lines = Lines(Chunks(b"one\nt\xffo\nth", b"ree\nfo\xc3\nlast\xc3"))
    assert await anext(lines) == "one"
    with pytest.raises(UnicodeDecodeError):
        await anext(lines)
    assert await anext(lines) == "three"
    with pytest.raises(UnicodeDecodeError):
        await anext(lines)
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        await anext(lines)
    with pytest.raises(StopAsyncIteration):
        await anext(lines)


async def test_a_bad_byte_does_not_change_how_the_next_line_is_read() -> None:
    lines = Lines(Chunks(b"\x1b$B\xff\nabcd\n"), encoding="iso-2022-jp")
    with pytest.raises(UnicodeDecodeError):
        await anext(lines)
    assert await anext(lines) == "abcd"


@pytest.mark.parametrize("chunks", [(b"1234\n12345\nx\n",), (b"1234\n", b"123", b"45", b"6\n")])
async def test_a_line_that_is_too_long(chunks: tuple[bytes, ...]) -> None:
    lines = Lines(Chunks(*chunks), max_line=4)
    assert await anext(lines) == "1234"
    for _ in range(2):
        with pytest.raises(LineTooLong, match="more than 4 bytes"):
            await anext(lines)
    assert lines.rest.startswith(b"12345")
    assert await collect(*chunks, max_line=None) == b"".join(chunks).decode().splitlines()


async def test_a_last_line_that_is_too_long() -> None:
    with pytest.raises(LineTooLong):
        await collect(b"12345", max_line=4)
    with pytest.raises(ValueError, match="more than 4 bytes"):
        await collect(b"1\n12345", max_line=4)


async def test_memory_stays_bounded_by_max_line() -> None:
    reader, writer = create_pipe()
    async with reader, writer:
        sender = asyncio.create_task(writer.send(bytes(1 << 20)))
        lines = reader.lines(max_line=1000)
        with pytest.raises(LineTooLong):
            await anext(lines)
        assert len(lines.rest) <= 1000 + 65536
        sender.cancel()


async def test_cancelled_nothing_is_lost() -> None:
    reader, writer = create_pipe()
    async with reader:
        lines, got = reader.lines(), []
        for number in range(200):
            task = asyncio.create_task(anext(lines))  # type: ignore[arg-type]
            for _ in range(number % 4):
                await asyncio.sleep(0)
            writer.send_nowait(b"%d" % number)
            await asyncio.sleep(0)
            if number % 2:
                writer.send_nowait(b"\n")
            for _ in range(number % 3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            got += [] if task.cancelled() else [task.result()]
        await writer.aclose()
        got += [line async for line in lines]
    assert got == [f"{number}{number + 1}" for number in range(0, 200, 2)]


async def test_rest_is_what_no_line_has_had() -> None:
    reader, writer = create_pipe()
    async with reader, writer:
        await writer.send(b"header\nbo\ndy")
        lines = reader.lines()
        async for line in lines:
            assert line == "header"
            break
        assert lines.rest == b"bo\ndy"
        await writer.send(b"!")
        assert await reader.receive() == b"!"


async def test_the_loop_turns_while_lines_are_at_hand() -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        handle[0] = loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    handle = [loop.call_soon(turn)]
    count = sum([1 async for _ in Lines(Chunks(b"\n" * 6400))])
    handle[0].cancel()
    assert count == 6400
    assert turns >= 90


async def test_many_lines_are_quick() -> None:
    """Splitting is linear: the buffer is not copied for each line."""
    began = time.thread_time()
    assert len(await collect(*[b"line\n" * 10_000] * 10)) == 100_000
    assert time.thread_time() - began < 10


async def test_errors_of_the_stream_come_out() -> None:
    reader, writer = create_pipe()
    writer.close()
    lines = reader.lines()
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    with pytest.raises(EndOfStream):
        await reader.receive()
    reader.close()
    with pytest.raises(ClosedResourceError):
        await anext(reader.lines())
