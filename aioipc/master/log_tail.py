"""The last log records of the master, and those that come, for whoever asks by the control socket."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from ..wire.control_protocol import MOST_LOG_LINES
from .log_records import describe

_MOST_WAITING = 1000
_LONGEST = 4096
"""Characters; so that a thousand records are an answer."""


class LogTail(logging.Handler):
    """Keeps the last records as plain values, and hands new ones to the followers; from any thread."""

    def __init__(self, most: int = MOST_LOG_LINES) -> None:
        super().__init__()
        self._records: deque[dict[str, Any]] = deque(maxlen=most)
        self._followers: set[LogFollower] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            described = _cut(describe(record))
        except Exception:
            self.handleError(record)
            return
        self._records.append(described)
        for follower in tuple(self._followers):
            follower.put(described)

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return that many of the last records, or as many as there are."""
        return list(self._records)[-count:] if count > 0 else []

    def follow(self) -> LogFollower:
        """Return a follower for the running loop, to be closed."""
        follower = LogFollower(asyncio.get_running_loop(), self._followers)
        self._followers.add(follower)
        return follower


def _cut(described: dict[str, Any]) -> dict[str, Any]:
    """Leave out what makes a record longer than anybody reads: the end of a message, the beginning of a traceback."""
    if len(message := described["message"]) > _LONGEST:
        described["message"] = f"{message[:_LONGEST]}…"
    if len(trace := described.get("exception", "")) > _LONGEST:
        described["exception"] = f"…{trace[-_LONGEST:]}"
    if len(repr(described.get("extra", ""))) > _LONGEST:
        del described["extra"]
    return described


class LogFollower:
    """Gets new records; one that does not fetch them loses some, and is told how many."""

    def __init__(self, loop: asyncio.AbstractEventLoop, followers: set[LogFollower]) -> None:
        self._loop = loop
        self._all = followers
        self._waiting: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._there = asyncio.Event()

    def put(self, record: dict[str, Any]) -> None:
        """Hand a record over; callable from any thread."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(record)
        else:
            self._lost += 1
        try:
            self._loop.call_soon_threadsafe(self._there.set)
        except RuntimeError:  # the loop has ended
            self.close()

    async def next(self) -> list[dict[str, Any]]:
        """Wait for records and return them. Cancelled: they are for the next call."""
        while not self._waiting and not self._lost:
            self._there.clear()
            await self._there.wait()
        found = [self._waiting.popleft() for _ in range(len(self._waiting))]
        lost, self._lost = self._lost, 0
        return [*found, {"lost": lost}] if lost else found

    def close(self) -> None:
        """Get no more."""
        self._all.discard(self)
