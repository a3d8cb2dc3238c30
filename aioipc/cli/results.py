"""The result lines of ``aioipc map``: one JSON object a line, for every task exactly one."""

from __future__ import annotations

import re
import signal
from typing import Any

from aioipc import RemoteError, RemoteTraceback, WorkerCrashed

from .calling import TaskFailed, call, call_async
from .json_text import to_json
from .tasks_input import Task

_OUR_CALL = re.compile(rf"{re.escape(call.__module__)}\.(?:{call.__name__}|{call_async.__name__}), task \d+")
"""How the pool names the task: by our own function, which is none of the user's business."""


def result_line(index: int, task: Task, result: bytes) -> bytes:
    """``{"index":0,"task":"a.py","result":…}``; ``result`` is JSON already."""
    return b'{"index":%d,"task":%b,"result":%b}\n' % (index, task.shown, result)


def error_line(index: int, task: Task, error: dict[str, Any]) -> bytes:
    """``{"index":0,"task":"a.py","error":{"type":…,"message":…,"traceback":…}}``."""
    return b'{"index":%d,"task":%b,"error":%b}\n' % (index, task.shown, to_json(error))


def describe(error: BaseException, target: str) -> dict[str, Any]:
    """The ``error`` object: always ``type``, ``message`` and ``traceback`` (``null`` where there is none).

    A worker's death also has ``exitcode`` (``null`` for a death by signal), ``signal`` and ``oom``.
    ``target`` is the function as the user knows it.
    """
    if isinstance(error, TaskFailed):
        return {"type": error.type_name, "message": error.message, "traceback": error.trace}
    remote = error.__cause__
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": _OUR_CALL.sub(target, str(error)),
        "traceback": remote.text if isinstance(remote, RemoteTraceback) else None,
    }
    if isinstance(error, RemoteError) and error.type_name:
        described["type"] = error.type_name
    if isinstance(error, WorkerCrashed):
        died_by_signal = error.signal is not None
        described["exitcode"] = None if died_by_signal else error.exitcode
        described["signal"] = _signal_name(error.signal) if died_by_signal else None
        described["oom"] = error.oom
    return described


def problem(text: str, kind: str) -> dict[str, Any]:
    """An ``error`` object for what never became a task, or never ended."""
    return {"type": kind, "message": text, "traceback": None}


def _signal_name(signum: signal.Signals | int | None) -> str:
    return signum.name if isinstance(signum, signal.Signals) else str(signum)
