"""What workers print, as lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONGEST_LINE = 64 * 1024
"""Bytes after which a line is cut in two."""


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line that a worker, or a process that it has started, has printed."""

    slot: int
    """The worker's place in the pool, or among the replicas of its service."""
    pid: int
    """The worker's process id."""
    stream: Literal["stdout", "stderr"]
    text: str
    """Without the line's end; bytes that are no UTF-8 are U+FFFD."""
    service: str = ""
    """The name of the service; empty for a worker of a pool."""


class LineSplitter:
    """Bytes in, lines out. A line ends with a newline, is cut after ``limit`` bytes, or ends with `finish`."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Take in what was read; return the lines that are whole now."""
        pieces = data.split(b"\n")
        lines: list[str] = []
        for piece in pieces[:-1]:
            self._append(piece, lines)
            lines.append(_decode(self._rest.removesuffix(b"\r")))
            self._rest.clear()
        self._append(pieces[-1], lines)
        return lines

    def finish(self) -> list[str]:
        """Return the last line, if it lacks its newline."""
        rest, self._rest = self._rest, bytearray()
        return [_decode(rest)] if rest else []

    def _append(self, piece: bytes, lines: list[str]) -> None:
        self._rest += piece
        while len(self._rest) > self._limit:
            end = _boundary(self._rest, self._limit)
            lines.append(_decode(self._rest[:end]))
            del self._rest[:end]


def _boundary(data: bytearray, limit: int) -> int:
    """Return where to cut at ``limit`` or just before it, so that no character is torn apart."""
    for end in range(limit, max(0, limit - 4), -1):
        if data[end] & 0xC0 != 0x80:
            return end
    return limit


def _decode(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
