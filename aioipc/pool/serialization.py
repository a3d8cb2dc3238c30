"""Objects as bytes between a master and its own workers: plain pickle first, cloudpickle where that is not enough.

Workers never import the program's ``__main__``, so whatever is defined there travels by value (cloudpickle).
This file is loaded by workers too and imports nothing heavy at the top.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

Buffer = bytes | bytearray | memoryview

PLAIN = frozenset({bytes, str, int, float, bool, type(None), bytearray})
"""Types whose pickles name no class, so that there is nothing to look for in them."""

loads: Callable[[Buffer], Any] = pickle.loads


def dump(value: object) -> bytes:
    """Return the value's pickle; raises whatever cloudpickle raises where the value cannot be sent."""
    if type(value) in PLAIN:
        return pickle.dumps(value, 5)
    try:
        data = pickle.dumps(value, 5)
    except Exception:
        return dump_by_value(value)
    return dump_by_value(value) if b"__main__" in data else data


def dump_arguments(arguments: tuple[object, ...]) -> bytes:
    """Return the pickle of a tuple of arguments, as `dump` does but quicker where all are of plain types."""
    for argument in arguments:
        if type(argument) not in PLAIN:
            return dump(arguments)
    return pickle.dumps(arguments, 5)


def dump_by_value(value: object) -> bytes:
    """Return a pickle that carries functions and classes of ``__main__``, lambdas and closures inside."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(value, 5)
    return data


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


def _format(error: BaseException) -> str:
    import traceback

    try:
        own = error.__traceback__
        shown = own.tb_next if own is not None and own.tb_next is not None else own  # our own frame is no news
        return "".join(traceback.format_exception(type(error), error, shown))
    except BaseException as why:
        return f"<traceback not available: {_text_of(why)}>"
