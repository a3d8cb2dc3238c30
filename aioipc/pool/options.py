"""The options of a pool and of a task, checked before anything is started."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Concatenate, Literal, ParamSpec

from ..supervisor.checks import check_count as check_count
from ..supervisor.checks import check_fraction as check_fraction
from ..supervisor.checks import check_positive_seconds as check_positive_seconds
from ..supervisor.checks import check_seconds as check_seconds
from ..supervisor.heartbeat import LEAST_TIMEOUT
from ..supervisor.output_lines import OutputLine
from ..supervisor.relays import RelayOptions, relay_options
from ..supervisor.serialization import dump
from ..supervisor.spec_checks import show_given
from .sizing import default_workers

P = ParamSpec("P")


@dataclass(frozen=True, repr=False)
class PoolOptions:
    """What a `Pool` is asked for; `Pool` says what each means. Raises TypeError and ValueError for what cannot be."""

    workers: int | None = None
    _: KW_ONLY
    min_workers: int | None = None
    idle_timeout: float = 30.0
    concurrency: int = 16
    threads: bool = False
    heartbeat_timeout: float = 30.0
    boot_timeout: float = 30.0
    grace: float = 3.0
    shutdown: float = 25.0
    preload: Sequence[str] = ()
    start_method: Literal["zygote", "spawn"] = "zygote"
    spin: float = 0.0
    initializer: Callable[..., Any] | None = None
    initargs: tuple[Any, ...] = ()
    finalizer: Callable[[Any], Any] | None = None
    contextvars: Sequence[contextvars.ContextVar[Any]] = ()
    max_tasks: int | None = None
    max_memory: int | None = None
    max_age: float | None = None
    jitter: float = 0.1
    max_pending: int | None = None
    max_pending_bytes: int | None = None
    logs: bool = True
    capture: bool | Callable[[OutputLine], object] = False

    def __post_init__(self) -> None:
        check_count("concurrency", self.concurrency)
        for name in ("workers", "min_workers", "max_tasks", "max_memory", "max_pending", "max_pending_bytes"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_seconds("heartbeat_timeout", self.heartbeat_timeout, LEAST_TIMEOUT)
        for name in ("idle_timeout", "grace", "shutdown", "spin"):
            check_seconds(name, getattr(self, name))
        check_positive_seconds("boot_timeout", self.boot_timeout)
        if self.max_age is not None:
            check_positive_seconds("max_age", self.max_age)
        check_fraction("jitter", self.jitter)
        if self.start_method not in ("zygote", "spawn"):
            raise ValueError(f"start_method must be 'zygote' or 'spawn', not {self.start_method!r}")
        names: Any = self.preload
        if isinstance(names, str) or not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
            raise TypeError(f"preload must be a sequence of module names, not {self.preload!r}")
        object.__setattr__(self, "preload", tuple(names))
        relay_options(self.logs, self.capture)
        self._check_functions()
        if self.workers is not None and self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than the {self.workers} workers")

    def _check_functions(self) -> None:
        for name in ("initializer", "finalizer"):
            if (function := getattr(self, name)) is not None and not callable(function):
                raise TypeError(f"{name} must be a function, not {function!r}")
        if not isinstance(self.initargs, tuple):
            raise TypeError(f"initargs must be a tuple, not {self.initargs!r}")
        if self.initargs and self.initializer is None:
            raise ValueError("initargs without an initializer to give them to")
        variables: Any = self.contextvars
        if not isinstance(variables, Iterable):
            raise TypeError(f"contextvars must be a sequence of ContextVar objects, not {variables!r}")
        object.__setattr__(self, "contextvars", tuple(variables))
        for variable in self.contextvars:
            if not isinstance(variable, contextvars.ContextVar):
                raise TypeError(f"contextvars must be ContextVar objects, not {variable!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({show_given(self)})"

    @property
    def relay(self) -> RelayOptions:
        """What of all that workers say besides results is wanted."""
        return relay_options(self.logs, self.capture)

    def size(self) -> tuple[int, str]:
        """Return the number of workers, and which rule gave it."""
        return default_workers() if self.workers is None else (self.workers, "the argument")

    def worker_settings(self) -> dict[str, Any]:
        """Return what each worker must know; raises SerializationError where a function cannot be sent."""
        return {
            "heartbeat_timeout": self.heartbeat_timeout,
            "concurrency": self.concurrency,
            "spin": self.spin,
            "initializer": _sendable("initializer", self.initializer, self.initargs),
            "finalizer": _sendable("finalizer", self.finalizer),
            "contextvars": dump(self.contextvars) if self.contextvars else None,
        }


def taking_options(
    kind: Callable[P, PoolOptions],
) -> Callable[[Callable[[Any, PoolOptions], None]], Callable[Concatenate[Any, P], None]]:
    """Have an ``__init__`` that wants options as one value take what that value is made of: they are listed once."""

    def decorate(initialize: Callable[[Any, PoolOptions], None]) -> Callable[Concatenate[Any, P], None]:
        def take(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
            initialize(self, kind(*args, **kwargs))

        functools.update_wrapper(take, initialize)
        own = next(iter(inspect.signature(initialize).parameters.values()))
        shown = inspect.signature(kind)  # what help() shows, too
        take.__signature__ = shown.replace(parameters=[own, *shown.parameters.values()])  # type: ignore[attr-defined]
        return take

    return decorate


def _sendable(name: str, function: Callable[..., Any] | None, arguments: tuple[Any, ...] = ()) -> bytes | None:
    from ..exceptions import SerializationError

    if function is None:
        return None
    try:
        return dump((function, arguments))
    except Exception as error:
        raise SerializationError(f"the {name} {function!r} cannot be sent to workers: {error}") from error


def check_task_options(timeout: object, retries: object, retry_on: object, priority: object) -> Any:
    """Return ``retry_on`` as a tuple; raises TypeError or ValueError for options of a task that cannot be."""
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"priority must be a whole number, not {priority!r}")
    if timeout is not None:
        check_positive_seconds("timeout", timeout)
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries must not be negative: {retries}")
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on must be an exception class or a tuple of them, not {retry_on!r}")
    if kinds and not retries:
        raise ValueError("retry_on without retries never tries again: say how often")
    return kinds
