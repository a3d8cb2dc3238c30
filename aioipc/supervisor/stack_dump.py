"""The worker's side of a stack dump: what its threads and async tasks were doing, for a master about to kill it.

Threads are dumped by faulthandler in signal context, in C: that works while a task holds the GIL. Tasks of the event
loop are dumped by the control thread, which works while the loop is blocked.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from collections.abc import Iterator
from types import AsyncGeneratorType, FrameType
from typing import Any, TextIO

SIGNAL = signal.SIGRTMAX - 1
"""Nobody else's, as far as one can know; faulthandler takes it over in workers."""
_MOST_TASKS = 100
_MOST_FRAMES = 100

_file: list[TextIO] = []


def enable(fd: int) -> None:
    """Take over the descriptor: from here on dumps go there, behind what is in the file already."""
    file = open(fd, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - for the life of the process
    _file.append(file)
    faulthandler.register(SIGNAL, file, all_threads=True)


def clear() -> None:
    """Throw away what is in the file."""
    fd = _file[0].fileno()
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)


def dump_tasks(loop: Any) -> None:
    """Write the stacks of all async tasks of a loop; called in another thread than the loop's, never raises."""
    print(task_stacks(loop), end="", file=_file[0], flush=True)


def task_stacks(loop: Any) -> str:
    """Return the stacks of all async tasks of a loop as a text; for any thread, never raises."""
    import asyncio
    import traceback

    parts: list[str] = []
    try:
        tasks = list(asyncio.all_tasks(loop))
        for task in tasks[:_MOST_TASKS]:
            if frames := [frame for frame in _frames(task.get_coro()) if not _is_ours(frame)]:
                summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
                parts.append(f"Async task {task.get_name()} (most recent call last):\n")
                parts.extend(summary.format())
        if len(tasks) > _MOST_TASKS:
            parts.append(f"... and {len(tasks) - _MOST_TASKS} more tasks\n")
    except Exception as error:  # the loop goes on changing them
        parts.append(f"the tasks cannot be listed: {error!r}\n")
    return "".join(parts)


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine that is suspended, and of what it awaits; the one that runs has but its first."""
    for _ in range(_MOST_FRAMES):
        for prefix, awaited in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if (frame := getattr(coroutine, f"{prefix}_frame", None)) is not None:
                yield frame
                coroutine = getattr(coroutine, awaited)
                break
        else:  # a step of an async generator does not tell which one it is of
            generators = [value for value in gc.get_referents(coroutine) if isinstance(value, AsyncGeneratorType)]
            if not generators:
                return
            coroutine = generators[0]


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(("aioipc.pool.worker", "aioipc.supervisor."))
