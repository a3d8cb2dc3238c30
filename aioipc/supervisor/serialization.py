"""Objects as bytes between a master and its own workers: plain pickle first, cloudpickle where that is not enough.

Workers never import the program's ``__main__``, so whatever is defined there travels by value (cloudpickle).
This file is loaded by workers too and imports nothing heavy at the top.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, NewType

Buffer = bytes | bytearray | memoryview

PLAIN = frozenset({bytes, str, int, float, bool, type(None), bytearray})
"""Types whose pickles name no class, so that there is nothing to look for in them."""

loads: Callable[[Buffer], Any] = pickle.loads
_Cached = functools._lru_cache_wrapper


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
    file = io.BytesIO()
    _pickler_by_value()(file, 5).dump(value)
    return file.getvalue()


@functools.cache
def _pickler_by_value() -> Any:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Sends by value, too, what cloudpickle would only name: cached functions and new types of ``__main__``."""

        def reducer_override(self, value: Any) -> Any:
            if type(value) is _Cached and not _is_importable(value):
                parameters = value.cache_parameters()
                return _cached, (value.__wrapped__, parameters["maxsize"], parameters["typed"])
            if type(value) is ContextVar:
                return _find_variable, (*_name_variable(value), *_default_of(value))
            if type(value) is NewType and not _is_importable(value):
                return NewType, (value.__name__, value.__supertype__)
            return super().reducer_override(value)

    return Pickler


def _cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


_named: dict[ContextVar[Any], tuple[str, str, str]] = {}
_variables: dict[tuple[str, str], ContextVar[Any]] = {}


def _name_variable(variable: ContextVar[Any]) -> tuple[str, str, str]:
    """Return the module and the name under which a context variable is found, and its own name.

    One that no module has (or ``__main__``, which workers do not import) gets a made-up module.
    """
    if variable not in _named:
        for module, content in list(sys.modules.items()):
            for name, value in list(getattr(content, "__dict__", {}).items()):
                if value is variable and module != "__main__":
                    _named[variable] = (module, name, variable.name)
                    return _named[variable]
        _named[variable] = ("", f"{os.getpid()}-{id(variable)}", variable.name)
    return _named[variable]


def _default_of(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Return its default as a tuple of one; of none where it has none, or one that cannot be sent."""
    try:
        default = Context().run(variable.get)
        dump_by_value(default)
    except Exception:
        return ()
    return (default,)


def _find_variable(module: str, name: str, own_name: str, *default: Any) -> ContextVar[Any]:
    """Return the context variable of that name, the same one each time."""
    if module:
        found: ContextVar[Any] = getattr(importlib.import_module(module), name)
        return found
    variable = _variables.get((name, own_name))
    if variable is None:
        variable = ContextVar(own_name, default=default[0]) if default else ContextVar(own_name)
        _variables[name, own_name] = variable
        _named[variable] = (module, name, own_name)
    return variable


def _is_importable(value: Any) -> bool:
    """Tell whether a worker finds this very object under its name."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value and value.__module__ != "__main__"
