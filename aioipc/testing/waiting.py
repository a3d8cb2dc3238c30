"""Wait until something is true, with a deadline: for what neither an event nor a descriptor tells.

A test that sleeps instead is slow where the machine is quick, and fails where it is busy.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar, overload

from .processes import is_running, process

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02


def eventually(predicate: Callable[[], T], timeout: float = 5, message: object = "") -> T:
    """Call ``predicate`` until its answer is true, and return that answer.

    ``timeout`` is in seconds; the predicate is asked once more after it. ``message``, or what it returns when
    called, says in the error what was waited for. Raises `AssertionError` when the time is over, and what the
    predicate raises. It blocks the thread; where a loop has to go on meanwhile take `eventually_async`.
    """
    for pause in _pauses(timeout, predicate, message):
        if answer := predicate():
            return answer
        time.sleep(pause)
    raise AssertionError("unreachable")


@overload
async def eventually_async(predicate: Callable[[], Awaitable[T]], timeout: float = 5, message: object = "") -> T: ...


@overload
async def eventually_async(predicate: Callable[[], T], timeout: float = 5, message: object = "") -> T: ...


async def eventually_async(predicate: Callable[[], Any], timeout: float = 5, message: object = "") -> Any:
    """Do what `eventually` does with the loop running meanwhile; the predicate may be a coroutine function.

    Cancelled: it stops asking, and cancels the predicate if that is being awaited.
    """
    for pause in _pauses(timeout, predicate, message):
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(pause)
    raise AssertionError("unreachable")


def _pauses(timeout: float, predicate: object, message: object) -> Iterator[float]:
    """Yield growing pauses; fail once the predicate was asked after the deadline too."""
    end, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        last = time.monotonic() >= end
        yield pause
        if last:
            text = (message() if callable(message) else message) or getattr(predicate, "__qualname__", predicate)
            raise AssertionError(f"not within {timeout:g} s: {text}")
        pause = min(pause * 2, _LONGEST_PAUSE)


def wait_gone(pid: int, timeout: float = 5) -> None:
    """Wait until the process has ended and was reaped; `AssertionError` after ``timeout`` seconds."""
    first = process(pid)
    if first is None:
        return

    def gone() -> bool:
        now = process(pid)
        return now is None or now.start != first.start

    eventually(gone, timeout, lambda: f"the end of {process(pid)}")


def wait_ended(pid: int, timeout: float = 5) -> None:
    """Wait until the process has ended, reaped or not; `AssertionError` after ``timeout`` seconds."""
    eventually(lambda: not is_running(pid), timeout, lambda: f"the end of {process(pid)}")


def wait_state(pid: int, letters: str, timeout: float = 5) -> None:
    """Wait until the process is in one of these states, as ``"T"`` for stopped.

    ``letters`` are those of ps(1). Raises `AssertionError` after ``timeout`` seconds.
    """
    eventually(
        lambda: (now := process(pid)) is not None and now.state in letters,
        timeout,
        lambda: f"state {letters} of {process(pid)}",
    )
