"""What the tests of recycling, resizing and limits have workers run. Importable by workers."""

from __future__ import annotations

import asyncio
import os
import time

from .fault_functions import note

_hoard: list[bytearray] = []


def pid_of(_: object = None) -> int:
    return os.getpid()


async def pid_of_async(_: object = None) -> int:
    await asyncio.sleep(0)
    return os.getpid()


def noted_pid(journal: str, number: int) -> int:
    note(journal, f"{os.getpid()} {number}")
    return number


async def noted_pid_async(journal: str, number: int) -> int:
    note(journal, f"{os.getpid()} {number}")
    await asyncio.sleep(0.001)
    return number


def keep_memory(size: int) -> int:
    """Keep so many bytes of memory for good, all of them touched."""
    _hoard.append(bytearray(b"x") * size)
    return os.getpid()


def size_of(value: bytes) -> int:
    return len(value)


def block_of(size: int) -> bytes:
    return bytes(size)


def slow_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
