"""What ``aioipc map`` runs in workers: call the user's function with one task, give its result back as JSON.

The result is turned into JSON here, not in the master: workers do it side by side, and a result
that cannot be pickled is no problem then. An exception travels as text for the same reason.
"""

from __future__ import annotations

import functools
import io
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from .json_text import to_json
from .target import load_target


class TaskFailed(Exception):
    """The user's function raised; the three arguments are all text."""

    def __init__(self, type_name: str, message: str, trace: str) -> None:
        super().__init__(type_name, message, trace)
        self.type_name = type_name
        self.message = message
        self.trace = trace


@functools.cache
def _function(target: str) -> Callable[[object], Any]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a task prints is seen now, and not lost with the worker
    return load_target(target)


def call(target: str, task: object) -> bytes | Coroutine[Any, Any, bytes]:
    """Call an ordinary function; where that gives a coroutine, so does this, and the worker awaits it."""
    try:
        result = _function(target)(task)
        return _finish(result) if isinstance(result, CoroutineType) else to_json(result)
    except Exception as error:
        raise _task_failed(error) from None


async def call_async(target: str, task: object) -> bytes:
    """Call a coroutine function."""
    try:
        return to_json(await _function(target)(task))
    except Exception as error:
        raise _task_failed(error) from None


async def _finish(coroutine: Coroutine[Any, Any, object]) -> bytes:
    try:
        return to_json(await coroutine)
    except Exception as error:
        raise _task_failed(error) from None


def _task_failed(error: Exception) -> TaskFailed:
    # Without the frame of this module: a user looks for the own function in the traceback.
    trace = error.__traceback__
    frames = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    text = "".join(traceback.format_exception(type(error), error, frames))
    return TaskFailed(type(error).__qualname__, str(error), text)
