"""Worker-side failures as exceptions that can be raised in the master."""

from __future__ import annotations

import pickle

from ..exceptions import RemoteError, RemoteTraceback
from ..wire.framing import Buffer
from .job import Task
from .sent_failures import Failure, load_failure


def to_exception(payload: Buffer, task: Task, where: str) -> BaseException:
    """Return the exception a task raised, its remote traceback as cause, with a note that says where it was.

    It is a RemoteError where the original cannot be raised here: it does not unpickle, it is no Exception (a
    ``SystemExit`` would end the master), or a future refuses it (``StopIteration``, ``StopAsyncIteration``).
    """
    failure = load_failure(payload)
    error = _original(failure)
    if error is None:
        error = RemoteError(f"{failure.type_name}: {failure.message}", type_name=failure.type_name)
    error.__cause__ = RemoteTraceback(failure.traceback)
    for note in failure.notes:
        error.add_note(note)
    error.add_note(f"raised in {where}, in {task!r}")
    return error


def _original(failure: Failure) -> Exception | None:
    if failure.pickled is None:
        return None
    try:
        error = pickle.loads(failure.pickled)
    except Exception:  # its class exists in the worker only, or its reduce is broken here
        return None
    if not isinstance(error, Exception) or isinstance(error, StopIteration | StopAsyncIteration):
        return None
    return error
