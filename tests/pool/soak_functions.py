"""What the soak has workers do. Each execution first writes its number and the time into the journal."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from typing import Any

from .fault_functions import note

LARGE = 60_000
"""How often a large result repeats its number's four bytes."""


def work(journal: str, number: int, act: str, seconds: float) -> Any:
    note(journal, f"{number} {time.monotonic_ns()}")
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
    note(journal, f"{number} {time.monotonic_ns()}")
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
