"""What the soak has workers do. Each execution first writes its number and the time into the journal."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import aioipc

from .fault_functions import note

LARGE = 60_000
"""How often a large result repeats its number's four bytes."""


NUMBER: ContextVar[int] = ContextVar("NUMBER")
"""The number of the task that is being submitted."""


def begin() -> int:
    """Each worker's initializer."""
    return os.getpid()


def end(state: int) -> None:
    """Each worker's finalizer."""
    assert state == os.getpid()


def _note(journal: str, number: int) -> None:
    """Note the execution, and check that the task is where it should be."""
    note(journal, f"{number} {time.monotonic_ns()}")
    state = aioipc.current_worker().state
    if state not in (None, os.getpid()):
        raise AssertionError(f"the state of worker {state} is in worker {os.getpid()}")
    if (told := NUMBER.get(None)) not in (None, number):
        raise AssertionError(f"task {number} has the context of task {told}")


def work(journal: str, number: int, act: str, seconds: float) -> Any:
    _note(journal, number)
    if act == "sleep":
        time.sleep(seconds)
    elif act == "compute":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
    elif act == "wait":
        threading.Event().wait()
    elif act == "ignore":
        _ignore_interrupts()
    else:
        return _end(number, act)
    return number


async def work_async(journal: str, number: int, act: str, seconds: float) -> Any:
    _note(journal, number)
    if act == "sleep":
        await asyncio.sleep(seconds)
    elif act == "compute":
        for _ in range(20):
            time.sleep(seconds / 20)  # noqa: ASYNC251 - it is the loop that is kept busy
            await asyncio.sleep(0)
    elif act == "wait":
        await asyncio.Event().wait()
    elif act == "ignore":
        await _ignore_cancellation()
    else:
        return _end(number, act)
    return number


def expected(number: int, act: str) -> Any:
    """What the task returns if it returns."""
    return number.to_bytes(4, "little") * LARGE if act == "large" else number


def _end(number: int, act: str) -> Any:
    if act == "raise":
        raise LookupError(number)
    if act == "die" or (act == "gamble" and random.SystemRandom().random() < 0.5):
        os.kill(os.getpid(), random.SystemRandom().choice([signal.SIGKILL, signal.SIGSEGV]))
        threading.Event().wait()
    if act == "exit":
        os._exit(number % 256)
    if act == "talk":
        logging.getLogger("aioipc.soak").info("task %d", number)
        print("task", number, flush=True)
    return expected(number, act)


def _ignore_interrupts() -> None:
    while True:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


async def _ignore_cancellation() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


def work_item(arguments: tuple[str, int, str, float]) -> Any:
    """`work` for maps."""
    return work(*arguments)


async def work_item_async(arguments: tuple[str, int, str, float]) -> Any:
    return await work_async(*arguments)


def rows(journal: str, number: int, act: str, seconds: float, count: int) -> Iterator[tuple[int, int]]:
    """What a stream yields."""
    _note(journal, number)
    for index in range(count):
        yield number, index
    time.sleep(seconds)
    _end(number, act)


async def rows_async(journal: str, number: int, act: str, seconds: float, count: int) -> AsyncIterator[tuple[int, int]]:
    _note(journal, number)
    for index in range(count):
        yield number, index
        await asyncio.sleep(0)
    await asyncio.sleep(seconds)
    _end(number, act)
