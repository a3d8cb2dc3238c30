"""Generators that the tests of `Pool.stream` have workers run. Importable, so that workers find them by name."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from .fault_functions import note, wait_at


def numbers(end: int) -> Iterator[int]:
    yield from range(end)


async def numbers_async(end: int) -> AsyncIterator[int]:
    for i in range(end):
        yield i


async def numbers_by_turns(end: int) -> AsyncIterator[int]:
    for i in range(end):
        await asyncio.sleep(0)
        yield i


def noted_numbers(journal: str) -> Iterator[int]:
    """Count without end; write down each number before it is yielded, and ``finally`` at the end."""
    try:
        for i in itertools.count():
            note(journal, i)
            yield i
    finally:
        note(journal, "finally")


async def noted_numbers_async(journal: str) -> AsyncIterator[int]:
    try:
        for i in itertools.count():
            note(journal, i)
            yield i
    finally:
        await asyncio.sleep(0)
        note(journal, "finally")


def noted_blocks(journal: str, size: int) -> Iterator[bytes]:
    for i in itertools.count():
        note(journal, i)
        yield bytes(size)


async def noted_blocks_async(journal: str, size: int) -> AsyncIterator[bytes]:
    for i in itertools.count():
        note(journal, i)
        yield bytes(size)


def raising(before: int, error: BaseException) -> Iterator[int]:
    yield from range(before)
    raise error


async def raising_async(before: int, error: BaseException) -> AsyncIterator[int]:
    for i in range(before):
        yield i
    raise error


def held_after(before: int, journal: str, gate: str) -> Iterator[int]:
    """Yield some numbers, wait at a gate, yield one more."""
    try:
        yield from range(before)
        note(journal, "waiting")
        wait_at(gate)
        yield before
    finally:
        note(journal, "finally")


async def held_after_async(before: int, journal: str, gate: str) -> AsyncIterator[int]:
    try:
        for i in range(before):
            yield i
        note(journal, "waiting")
        await asyncio.to_thread(wait_at, gate)
        yield before
    finally:
        note(journal, "finally")


def dying_after(before: int) -> Iterator[int]:
    yield from range(before)
    time.sleep(0.05)  # what was yielded has been sent before; how long this is does not matter
    os.kill(os.getpid(), signal.SIGKILL)


async def dying_after_async(before: int) -> AsyncIterator[int]:
    for i in range(before):
        yield i
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def waiting_for_ever(journal: str) -> Iterator[int]:
    yield 0
    try:
        note(journal, "waiting")
        time.sleep(1000)
    finally:
        note(journal, "finally")


async def waiting_for_ever_async(journal: str) -> AsyncIterator[int]:
    yield 0
    try:
        note(journal, "waiting")
        await asyncio.Event().wait()
    finally:
        note(journal, "finally")


def stubborn_numbers(journal: str) -> Iterator[int]:
    """Take no notice of being asked to stop."""
    yield 0
    word = "waiting"
    while True:
        try:
            note(journal, word)
            time.sleep(1000)
        except KeyboardInterrupt:
            word = "ignored"


async def stubborn_numbers_async(journal: str) -> AsyncIterator[int]:
    yield 0
    note(journal, "waiting")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note(journal, "ignored")


def with_items(*items: Any) -> Iterator[Any]:
    yield from items


def with_a_lock(before: int) -> Iterator[Any]:
    import threading

    yield from range(before)
    yield threading.Lock()


async def with_a_lock_async(before: int) -> AsyncIterator[Any]:
    import threading

    for i in range(before):
        yield i
    yield threading.Lock()


class NotLoadable:
    """Is an error as soon as it is unpickled in this file's own process, the master."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _refuse, (self.pid,)


def _refuse(pid: int) -> int:
    if os.getpid() == pid:
        raise LookupError("not here")
    return pid


def with_one_not_loadable(pid: int) -> Iterator[Any]:
    yield 1
    yield NotLoadable(pid)
    yield 2


def a_range(end: int) -> range:
    return range(end)


def a_list(end: int) -> list[int]:
    return list(range(end))


def another_ones(end: int) -> AsyncIterator[int]:
    """No generator function itself, but returns an async generator."""
    return numbers_async(end)


class OwnIterator:
    """An iterable with neither ``close`` nor anything else."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.end))


def a_number(value: int) -> int:
    return value


async def a_coroutine(value: int) -> int:
    return value


class CallableAsyncGenerator:
    """Runs like an async generator function."""

    async def __call__(self, end: int) -> AsyncIterator[int]:
        for i in range(end):
            yield i


class CallableGenerator:
    def __call__(self, end: int) -> Iterable[int]:
        yield from range(end)
