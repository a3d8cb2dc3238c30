"""How the functions of tasks are named, told apart and sent.

A function that a worker can import is sent to each worker once and then named by a number. So is a function of
``__main__``, for which a pickle by value is made, as long as the globals it uses are the ones that were pickled.
Anything with state of its own (closures, bound methods, partial objects) goes with each task, as it is then.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import pickle
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

from ..exceptions import SerializationError
from ..supervisor.serialization import dump, dump_arguments, dump_by_value
from ..wire.pool_protocol import ASYNC, THREAD

_REMEMBER = 4096
_IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), ModuleType, BuiltinFunctionType, ContextVar)


class Function:
    """What the pool knows about a callable: how to send it, how long its tasks take."""

    __slots__ = ("flags", "id", "is_async", "is_generator", "name", "pickled", "seconds", "watched")

    def __init__(self, function_id: int, name: str, is_async: bool, pickled: bytes | None, flags: int = 0) -> None:
        self.id: int = function_id
        """The number workers know it by; 0 where it travels with each task."""
        self.name: str = name
        self.is_async: bool = is_async
        """Whether the worker's event loop runs it, be it in a thread."""
        self.flags: int = flags or (ASYNC if is_async else 0)
        """ASYNC and THREAD, as the worker is told."""
        self.is_generator: bool = False
        """Whether it is a generator function, async or not: something for `Pool.stream` alone."""
        self.pickled: bytes | None = pickled
        self.seconds: float | None = None
        """Moving average of how long a task runs; ``None`` until one has finished."""
        self.watched: list[tuple[Mapping[str, Any], str, object]] = []

    def observe(self, seconds: float) -> None:
        """Take another task's duration into the average; slow ones count at once, quick ones by and by."""
        known = self.seconds
        if known is None or seconds > known:
            self.seconds = seconds
        else:
            self.seconds = known + 0.25 * (seconds - known)

    def refuse_generator(self) -> None:
        """Raise TypeError where it is a generator function."""
        if self.is_generator:
            raise TypeError(f"{self.name} is a generator function: run it with pool.stream")

    def refuse_coroutine(self) -> None:
        """Raise TypeError where it is a coroutine function, which has nothing to stream."""
        if self.flags == ASYNC and not self.is_generator:
            raise TypeError(f"a stream needs a generator function, async or sync; {self.name} is a coroutine function")

    def is_current(self) -> bool:
        """Tell whether the globals that were pickled with it still are what they were."""
        return all(names.get(name, _MISSING) is value for names, name, value in self.watched)


_MISSING = object()


class FunctionTable:
    """The functions of one pool, by callable. ``threads``: sync ones are run in threads of the worker's loop."""

    def __init__(self, *, threads: bool = False) -> None:
        self._threads = threads
        self._known: dict[object, Function] = {}
        self._by_code: dict[object, Function] = {}
        self._ids = itertools.count(1)  # an executor prepares tasks in the threads that submit them
        self._last_id = 0

    def prepare(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[Function, bytes]:
        """Return the function's record and the payload of a task that calls it with the arguments.

        Raises TypeError where it is not callable, SerializationError where something cannot be sent.
        """
        record = self.lookup(function)
        try:
            if record.id:
                return record, dump_arguments(arguments)
            return record, dump((function, arguments))
        except Exception as error:
            raise _explain(function, record, arguments, error) from error

    def lookup(self, function: Callable[..., Any]) -> Function:
        """Return the record of a callable, made at its first use; raises TypeError where it is none."""
        if type(function) in (FunctionType, type) or _is_plain_builtin(function):
            record = self._known.get(function)
            if record is not None and (not record.watched or record.is_current()):
                return record
            return self._intern(function)
        if not callable(function):
            raise TypeError(f"a task needs a function to call, not {function!r}")
        return self._inline(function)

    def _intern(self, function: Any) -> Function:
        if self._last_id >= _REMEMBER or getattr(function, "__closure__", None):
            return self._inline(function)
        watched: list[tuple[Mapping[str, Any], str, object]] = []
        try:
            pickled = pickle.dumps(function, 5)
            by_value = b"__main__" in pickled
        except Exception:
            by_value = True
        if by_value:
            if not _watch(function, watched, set()):
                return self._inline(function)
            try:
                pickled = dump_by_value(function)
            except Exception as error:
                text = f"the function {_name_of(function)} cannot be sent to a worker: {error}"
                raise SerializationError(text) from error
        self._last_id = number = next(self._ids)
        record = self._record(number, function, function, pickled)
        record.watched = watched
        if (before := self._known.get(function)) is not None:
            record.seconds = before.seconds
        self._known[function] = record
        return record

    def _inline(self, function: Callable[..., Any]) -> Function:
        inner = _unwrap(function)
        key: object = getattr(inner, "__code__", None) or type(inner)
        if isinstance(inner, type) or hasattr(inner, "__wrapped__") or _is_plain_builtin(inner):
            key = inner
        elif type(inner) is BuiltinFunctionType:
            key = (type(inner.__self__), inner.__name__)
        record = self._by_code.get(key)
        if record is None:
            if len(self._by_code) >= _REMEMBER:
                self._by_code.clear()
            record = self._by_code[key] = self._record(0, inner, function, None)
        return record

    def _record(self, function_id: int, inner: Any, function: Any, pickled: bytes | None) -> Function:
        is_async = _is_async(function)
        in_thread = self._threads and not is_async
        flags = ASYNC | THREAD if in_thread else 0
        record = Function(function_id, _name_of(inner), is_async or in_thread, pickled, flags)
        kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        record.is_generator = any(kind(f) for f in _what_is_called(function) for kind in kinds)
        return record


def _is_plain_builtin(function: Any) -> bool:
    return type(function) is BuiltinFunctionType and isinstance(function.__self__, ModuleType | type | None)


def _unwrap(function: Callable[..., Any]) -> Any:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return getattr(inner, "__func__", inner)


def _is_async(function: Callable[..., Any]) -> bool:
    called = _what_is_called(function)
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in called)


def _what_is_called(function: Callable[..., Any]) -> tuple[Any, Any]:
    inner = _unwrap(function)
    return inner, getattr(type(inner), "__call__", None)  # noqa: B004 - the class's method is wanted, not callability


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module and module not in ("builtins", "__main__") else str(name)


def _watch(function: Any, watched: list[tuple[Mapping[str, Any], str, object]], seen: set[int]) -> bool:
    """List the globals a function of ``__main__`` uses, deeply; False where one can change without being rebound."""
    if id(function) in seen:
        return True
    if isinstance(function, type):
        return _watch_class(function, watched, seen)
    if isinstance(function, functools._lru_cache_wrapper):
        seen.add(id(function))
        return _watch(function.__wrapped__, watched, seen)
    if not isinstance(function, FunctionType) or _state_of(function) or function.__dict__:
        return False
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not all(isinstance(value, _IMMUTABLE) for value in defaults):
        return False
    seen.add(id(function))
    names = function.__globals__
    for name in _names_in(function.__code__):
        value = names.get(name, _MISSING)
        watched.append((names, name, value))
        if value is _MISSING or isinstance(value, _IMMUTABLE):
            continue
        if isinstance(value, type | FunctionType | functools._lru_cache_wrapper) and _importable(value):
            continue
        if not _watch(value, watched, seen):
            return False
    return True


def _watch_class(cls: type, watched: list[tuple[Mapping[str, Any], str, object]], seen: set[int]) -> bool:
    """The same for a class of ``__main__``: its plain attributes, its methods, its bases."""
    seen.add(id(cls))
    for name, value in vars(cls).items():
        inner = getattr(value, "__func__", value)
        written = isinstance(inner, FunctionType) and not _state_of(inner)
        if name.startswith("__") and name.endswith("__") and not written:
            continue  # what makes it a class, or what a decorator has added
        watched.append((vars(cls), name, value))
        if not isinstance(inner, (*_IMMUTABLE, MemberDescriptorType)) and not _watch(inner, watched, seen):
            return False
    return all(_importable(base) or _watch_class(base, watched, seen) for base in cls.__bases__)


def _state_of(function: FunctionType) -> bool:
    """Tell whether it holds more in its closure than the class that ``super()`` asks for."""
    return function.__code__.co_freevars not in ((), ("__class__",))


def _importable(value: Any) -> bool:
    try:
        return b"__main__" not in pickle.dumps(value, 5)
    except Exception:
        return False


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _explain(function: Any, record: Function, arguments: tuple[object, ...], error: Exception) -> SerializationError:
    """Say which of the things to be sent is the one that cannot be."""
    things: list[tuple[str, object]] = [(f"argument {i}", value) for i, value in enumerate(arguments)]
    if not record.id:
        things.insert(0, ("the function itself", function))
    for what, value in things:
        try:
            dump_by_value(value)
        except Exception as why:
            kind = type(value).__qualname__
            return SerializationError(f"{record.name}: {what}, of type {kind}, cannot be sent: {why}")
    return SerializationError(f"{record.name}: the task cannot be sent: {error}")
