"""What the workers are asked to do. Importable, so that every peer can send it by name."""

from __future__ import annotations

import asyncio
import os
import time


def noop(number: int) -> int:
    return number


def echo(data: bytes) -> bytes:
    return data


Work = tuple[int, str, float]
"""Number of the task, log file, seconds."""


def work(task: Work) -> None:
    """Say in the log who started which task when; take some time."""
    log_start(task)
    time.sleep(task[2])


def log_start(task: Work) -> None:
    """One line, appended in one write: task, pid, time (of a clock that all processes share)."""
    fd = os.open(task[1], os.O_WRONLY | os.O_APPEND)
    os.write(fd, f"{task[0]} {os.getpid()} {time.monotonic()}\n".encode())
    os.close(fd)


async def async_noop(number: int) -> int:
    return number


async def async_echo(data: bytes) -> bytes:
    return data


async def async_work(task: Work) -> None:
    log_start(task)
    await asyncio.sleep(task[2])


ASYNC = {noop: async_noop, echo: async_echo, work: async_work}
"""The same for the peers that take nothing but coroutine functions."""
