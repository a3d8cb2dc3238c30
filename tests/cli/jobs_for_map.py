"""Functions that the tests have `aioipc map` run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

LIMIT = 3


def shout(line: str) -> str:
    return line.upper()


def echo(value: Any) -> Any:
    return value


async def echo_later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def wrapped_echo_later(value: Any) -> Any:
    """An async function behind a decorator that hides it."""
    return echo_later(value)


def positive(line: str) -> int:
    if int(line) < 0:
        raise ValueError(f"{line} is negative")
    return int(line)


def wait_for_writer(line: str) -> str:
    """Where the line names a FIFO, wait until somebody writes into it; that is the result."""
    return Path(line).read_text() if line.startswith("/") else line


_barriers: list[asyncio.Barrier] = []


async def meet_two_others(line: str) -> str:
    """Return once three of these run at the same time in this worker."""
    if not _barriers:
        _barriers.append(asyncio.Barrier(3))
    await _barriers[0].wait()
    return line


def hang(line: str) -> None:
    signal.pause()


def kill_yourself(line: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_yourself_once(line: str) -> str:
    """The line names a file, made by the first try."""
    try:
        Path(line).touch(exist_ok=False)
    except FileExistsError:
        return "second try"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fail_once(line: str) -> str:
    """The line names a file, made by the first try."""
    try:
        Path(line).touch(exist_ok=False)
    except FileExistsError:
        return "second try"
    raise OSError("the first try fails")


def print_everywhere(line: str) -> str:
    print(f"stdout of {line}")
    print(f"stderr of {line}", file=sys.stderr)
    os.system(f"echo child of {line}")
    return line


def exit_with_text(line: str) -> None:
    sys.exit("leaving")
