"""Lines of text out of a byte stream.

The bytes are cut at the byte 10 (``\\n``) and nowhere else, and then decoded. So a character that arrives in two
chunks stays whole, a bad byte spoils its own line only, and an encoding in which the byte 10 alone does not
end a line (UTF-16, UTF-32, EBCDIC) is refused. A carriage return is a character like any other: a line that
Windows ended keeps its ``\\r``.

Rejected: the reading-ahead of `asyncio.StreamReader`, whose ``readline`` throws away what it holds when a line
is too long.
"""

from __future__ import annotations

import codecs
from asyncio import sleep
from collections import deque
from collections.abc import AsyncIterator

import anyio
from anyio.abc import ByteReceiveStream

from aioipc._loop.fairness import current_turn
from aioipc.exceptions import LineTooLong

from .buffers import check_positive


class Lines(AsyncIterator[str]):
    """The lines of a byte stream, without their newline; a last line that lacks one is a line too.

    ``stream`` is any byte stream of anyio; ``stream.lines()`` makes one of these for our own.
    ``encoding`` and ``errors`` are those of `bytes.decode`. ``max_line`` is how many bytes a line may have,
    None for any number. Raises `LookupError`, `TypeError` or `ValueError` where one of them cannot be.

    What was received and not given out yet is kept here, as `rest`, and the stream does not know of it. So go
    on with the same object after a ``break``; or take `rest` first and then the stream.
    """

    def __init__(
        self,
        stream: ByteReceiveStream,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        max_line: int | None = 1 << 20,
    ) -> None:
        _check_encoding(encoding, errors)
        if max_line is not None:
            check_positive("max_line", max_line)
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._max_line = max_line
        self._whole: deque[bytes] = deque()  # lines whose newline has come, without it
        self._tail = bytearray()  # what came after the last newline
        self._ended = False

    @property
    def rest(self) -> bytes:
        """What was received from the stream and is in no line that was given out."""
        return b"".join([line + b"\n" for line in self._whole]) + self._tail

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        """Return the next line.

        Raises `LineTooLong` where it has more than ``max_line`` bytes, again and again: it stays in `rest`.
        Raises `UnicodeDecodeError` where it cannot be decoded; the call after that goes on behind it.
        Raises whatever the stream's ``receive`` raises, but for the end of the stream, which ends the lines.
        Cancelled: nothing is lost, the next call goes on.
        """
        if self._whole:
            await _give_way()
        while not self._whole:
            self._check_length(len(self._tail))
            if self._ended:
                return self._last()
            try:
                self._add(await self._stream.receive())
            except anyio.EndOfStream:
                self._ended = True
        self._check_length(len(self._whole[0]))
        return self._decode(self._whole.popleft() + b"\n", final=False).removesuffix("\n")

    def _add(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._tail += first
        if others:
            self._whole.append(bytes(self._tail))
            self._tail = bytearray(others.pop())
            self._whole.extend(others)

    def _last(self) -> str:
        if not self._tail:
            raise StopAsyncIteration
        line, self._tail = bytes(self._tail), bytearray()
        return self._decode(line, final=True)

    def _decode(self, line: bytes, final: bool) -> str:
        try:
            return self._decoder.decode(line, final)
        except UnicodeDecodeError:
            self._decoder.reset()
            raise

    def _check_length(self, length: int) -> None:
        if self._max_line is not None and length > self._max_line:
            raise LineTooLong(
                f"a line has more than {self._max_line} bytes; take it as bytes, or allow more with max_line="
            )


def _check_encoding(encoding: str, errors: str) -> None:
    codecs.lookup_error(errors)
    one = "\n".encode(encoding)
    if "\n\n".encode(encoding).removeprefix(one) != b"\n":  # a signature at the start, as of utf-8-sig, is fine
        raise ValueError(
            f"in the encoding {encoding!r} a line does not end with the byte 10; "
            "use anyio's TextReceiveStream and split its text"
        )


async def _give_way() -> None:
    """Let the loop turn now and then while lines are at hand; nothing is taken yet."""
    turn = current_turn()
    if turn.spend():
        await sleep(0)
        turn.renew()
        turn.spend()
