"""Exceptions of tasks as bytes, on their way from a worker to its master.

This file is loaded by workers and imports nothing heavy at the top.
"""

from __future__ import annotations

import pickle
from types import FrameType
from typing import Any, NamedTuple

from ..supervisor.serialization import dump


class Failure(NamedTuple):
    """An exception of a task, on its way to the master."""

    pickled: bytes | None
    """The exception itself, where it survives being pickled; tried out in the worker."""
    type_name: str
    message: str
    traceback: str
    notes: tuple[str, ...] = ()


def dump_failure(error: BaseException, notes: tuple[str, ...] = ()) -> bytes:
    """Encode an exception with its traceback; never fails, whatever the exception does when it is pickled."""
    try:
        pickled: bytes | None = _try_out(error)
    except BaseException as why:
        pickled = None
        notes = (*notes, f"the exception itself could not be sent: {_text_of(why)}")
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    failure = Failure(pickled, name, _text_of(error), _format(error), notes)
    return pickle.dumps(tuple(failure), 5)


def load_failure(data: Any) -> Failure:
    """Decode what `dump_failure` made."""
    return Failure(*pickle.loads(data))


def _try_out(error: BaseException) -> bytes:
    data = dump(error)
    if type(pickle.loads(data)) is not type(error):
        raise TypeError(f"{type(error).__qualname__} is something else after pickling")
    return data


def _text_of(error: BaseException) -> str:
    try:
        return "".join((str(error),))
    except BaseException:
        return f"<{type(error).__qualname__} whose str() fails>"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("aioipc.pool.worker")


def _format(error: BaseException) -> str:
    import traceback

    try:
        shown = error.__traceback__
        first = True
        while shown is not None and shown.tb_next is not None and (first or _is_ours(shown.tb_frame)):
            shown, first = shown.tb_next, False  # the frames that lead to the function are no news
        return "".join(traceback.format_exception(type(error), error, shown))
    except BaseException as why:
        return f"<traceback not available: {_text_of(why)}>"
