"""What each field of a `ChildSpec` may be (pure): its error names the child, the field, the value, what is allowed.

One function a field or kind of field; `check_child` calls them all and returns the fields whose default depends on the
kind of target, and those of mutable type as copies.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import resource
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, Literal

from .addresses import parse_address
from .checks import check_count, check_fraction, check_positive_seconds, check_replicas, check_seconds
from .heartbeat import LEAST_TIMEOUT
from .pool_target import PoolTarget
from .signal_numbers import signal_number

if TYPE_CHECKING:
    from .spec import ChildSpec

Kind = Literal["function", "command", "pool", "supervisor"]

SHUTDOWN = 25.0
"""Seconds; containers kill after 30."""
BOOT_TIMEOUT = 60.0
HEARTBEAT_TIMEOUT = 30.0
START_SECONDS = 1.0
"""After which a command counts as ready that does not tell."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LISTENER_NAME = re.compile(r"[!-9;-~]{1,255}")  # sd_listen_fds_with_names(3)
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_FUNCTION = re.compile(f"{_DOTTED}:{_DOTTED}")
_FOR_SUPERVISORS = {"name", "target", "restart", "shutdown", "gate", "boot_timeout"}
_FOR_POOLS = _FOR_SUPERVISORS | {"drain_delay", "surge"}
_OF_POOLS = {"replicas": "workers", "stdout": "capture", "stderr": "capture"}
"""What a pool has in place of an option."""
_INHERITED = {"env", "cwd", "umask", "nice", "affinity", "rlimits", "user", "group"}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "restart": ("permanent", "transient", "temporary"),
    "stdin": ("null", "inherit"),
    "stdout": ("inherit", "capture", "null"),
    "stderr": ("inherit", "capture", "null"),
}


def kind_of(target: object) -> Kind:
    """Return which kind of target it is, if it is no supervisor; raises TypeError or ValueError for none."""
    if isinstance(target, PoolTarget):
        return "pool"
    if isinstance(target, str):
        if not _FUNCTION.fullmatch(target):
            raise ValueError(f"target must be 'module:function' or a list of arguments, not {target!r}")
        return "function"
    if callable(target):
        function = target.func if isinstance(target, functools.partial) else target
        call = function if inspect.isroutine(function) else type(function).__call__
        if not inspect.iscoroutinefunction(call):
            raise TypeError(f"target must be an async function, not {target!r}")
        return "function"
    if not isinstance(target, Sequence) or isinstance(target, bytes | bytearray):
        text = "an async function, 'module:function', a list of arguments, a PoolSpec or a SupervisorSpec"
        raise TypeError(f"target must be {text}, not {target!r}")
    _check_command(target)
    return "command"


def check_child(spec: ChildSpec) -> dict[str, Any]:
    """Return the fields that are to be set anew."""
    _check_name(spec.name)
    try:
        kind = spec.kind
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(spec, name), choices)
        for name in ("gate", "reuse_port", "stop_group"):
            _check_flag(name, getattr(spec, name))
        if kind == "supervisor":
            return _check_supervisor(spec)
        return _check_process(spec, kind) if spec.pool is None else _check_pool(spec, spec.pool)
    except (TypeError, ValueError) as error:
        raise type(error)(f"child {spec.name!r}: {error}") from None


def check_intensity(value: object) -> None:
    """Raise TypeError or ValueError where that is no number of restarts."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"intensity must be a whole number, or None for any number, not {value!r}")
    if value is not None and value < 0:
        raise ValueError(f"intensity must be at least 0, not {value}")


def default_of(each: Field[Any]) -> object:
    """Return what a field is where nobody says otherwise."""
    return each.default_factory() if each.default_factory is not MISSING else each.default


def show_given(spec: Any, skip: int = 0) -> str:
    """Return the fields of a dataclass that are not as always, without the first ``skip``, as a call has them."""
    given = (each.name for each in fields(spec)[skip:] if getattr(spec, each.name) != default_of(each))
    return ", ".join(f"{name}={getattr(spec, name)!r}" for name in given)


def _check_supervisor(spec: ChildSpec) -> dict[str, Any]:
    for each in fields(spec):
        if each.name not in _FOR_SUPERVISORS and (value := getattr(spec, each.name)) != default_of(each):
            raise ValueError(f"{each.name} must be left out for a supervisor, not {value!r}")
    if spec.shutdown is not None:
        _check_shutdown(spec.shutdown)
    if spec.boot_timeout is not None:
        check_positive_seconds("boot_timeout", spec.boot_timeout)
    return {}


def _check_pool(spec: ChildSpec, pool: PoolTarget) -> dict[str, Any]:
    for each in fields(spec):
        if each.name not in _FOR_POOLS and (value := getattr(spec, each.name)) != default_of(each):
            own = _OF_POOLS.get(each.name, each.name)
            hint = f"; PoolSpec has {own}" if hasattr(pool, own) else ""
            if each.name in _INHERITED:
                hint = "; its workers have the master's"
            raise ValueError(f"{each.name} must be left out for a pool, not {value!r}{hint}")
    shutdown = pool.shutdown if spec.shutdown is None else _check_shutdown(spec.shutdown)
    _check_drain_delay(spec.drain_delay, shutdown)
    if spec.boot_timeout is not None:
        check_positive_seconds("boot_timeout", spec.boot_timeout)
    return {"shutdown": shutdown, "surge": spec.surge is None or _check_flag("surge", spec.surge)}


def _check_process(spec: ChildSpec, kind: Kind) -> dict[str, Any]:
    check_replicas(spec.replicas)
    for name in ("max_unavailable", "concurrency"):
        check_count(name, getattr(spec, name))
    for name in ("max_memory", "max_tasks"):
        if getattr(spec, name) is not None:
            check_count(name, getattr(spec, name))
    if kind == "function" and not spec.stop_group:
        raise ValueError("stop_group must be left out for a function, which no signal stops, not False")
    if kind == "command" and spec.max_tasks is not None:
        raise ValueError(f"max_tasks must be left out for a command, which does not count, not {spec.max_tasks}")
    if spec.max_age is not None:
        check_positive_seconds("max_age", spec.max_age)
    check_fraction("jitter", spec.jitter)
    _check_process_attributes(spec)
    shutdown = SHUTDOWN if spec.shutdown is None else _check_shutdown(spec.shutdown)
    _check_drain_delay(spec.drain_delay, shutdown)
    ready = _check_ready(spec.ready, kind)
    return {
        "target": _as_list(spec.target) if kind == "command" else spec.target,
        "shutdown": shutdown,
        "stop_signal": _check_stop_signal(spec.stop_signal, kind),
        "ready": ready,
        "boot_timeout": _check_boot_timeout(spec.boot_timeout, ready),
        "heartbeat_timeout": _check_heartbeat(spec.heartbeat_timeout, kind, ready),
        "listeners": _check_listeners(spec.listeners),
        "surge": _check_surge(spec.surge, kind, spec.listeners),
        "exit_codes": _check_numbers("exit_codes", spec.exit_codes, -64, 255),
        "affinity": None if spec.affinity is None else _check_numbers("affinity", spec.affinity, 0, 1 << 16),
        "env": _check_env(spec.env),
        "rlimits": _check_rlimits(spec.rlimits),
    }


def _check_process_attributes(spec: ChildSpec) -> None:
    if spec.cwd is not None:
        _check_text("cwd", os.fspath(spec.cwd) if isinstance(spec.cwd, os.PathLike) else spec.cwd, "a path")
    if spec.app_dir is not None:
        _check_text(
            "app_dir", os.fspath(spec.app_dir) if isinstance(spec.app_dir, os.PathLike) else spec.app_dir, "a path"
        )
        if not isinstance(spec.target, str):
            raise ValueError(f"app_dir must be left out where the target is no 'module:function', not {spec.app_dir!r}")
    if spec.title is not None:
        _check_text("title", spec.title, "a str")
    if spec.umask is not None:
        _check_number("umask", spec.umask, 0, 0o777)
    _check_number("nice", spec.nice, -20, 19)
    for name in ("user", "group"):
        value = getattr(spec, name)
        if isinstance(value, str):
            _check_text(name, value, "a name or a number")
        elif value is not None:
            _check_number(name, value, 0, (1 << 32) - 2)  # the last number means "do not change"


# -- one field each --------------------------------------------------------------------------------------


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be 1 to 64 letters, digits, '_' or '-', not {name!r}")


def _check_command(command: Sequence[Any]) -> None:
    if not command:
        raise ValueError(f"target must name a program, not {command!r}")
    for argument in command:
        if not isinstance(argument, str | os.PathLike):
            raise TypeError(f"target must be a list of str or paths; {argument!r} is none")
        if "\0" in os.fsdecode(argument):
            raise ValueError(f"target must be without null characters, not {argument!r}")
    if not os.fsdecode(command[0]):
        raise ValueError(f"target must name a program, not {list(command)!r}")


def _as_list(command: Any) -> tuple[str, ...]:
    return tuple(os.fsdecode(argument) for argument in command)


def _check_shutdown(value: object) -> float | str:
    if isinstance(value, str):
        _check_choice("shutdown", value, ("brutal_kill",), "a number of seconds or ")
        return value
    return check_seconds("shutdown", value)


def _check_stop_signal(value: object, kind: Kind) -> str | None:
    """Return the name of the signal, for a command."""
    if kind == "function":
        if value is not None:
            raise ValueError(f"stop_signal must be left out for a function, which no signal stops, not {value!r}")
        return None
    if value is None:
        return signal.SIGTERM.name
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"stop_signal must be the name of a signal, or a number, not {value!r}")
    number = signal_number(value)
    if number not in signal.valid_signals() or number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
        raise ValueError(f"stop_signal must be a signal that a program can take as a request to stop, not {value!r}")
    try:
        return signal.Signals(number).name
    except ValueError:  # a realtime signal has a number alone
        return str(number)


def _check_drain_delay(value: object, shutdown: float | str) -> None:
    delay = check_seconds("drain_delay", value)
    if delay and (isinstance(shutdown, str) or delay >= shutdown):
        limit = repr(shutdown) if isinstance(shutdown, str) else f"{shutdown:g} s"
        raise ValueError(f"drain_delay must be less than shutdown ({limit}), not {delay:g}")


def _check_ready(value: object, kind: Kind) -> float | str:
    if value is None:
        return "call" if kind == "function" else START_SECONDS
    choices = ("call",) if kind == "function" else ("notify", "newline")
    if isinstance(value, str):
        _check_choice("ready", value, choices, f"of a {kind}: a number of seconds or ")
        return value
    return check_seconds("ready", value)


def _check_boot_timeout(value: object, ready: float | str) -> float:
    limit = BOOT_TIMEOUT if value is None else check_positive_seconds("boot_timeout", value)
    if not isinstance(ready, str) and ready >= limit:
        raise ValueError(f"ready must be less than boot_timeout ({limit:g} s), not {ready:g}")
    return limit


def _check_heartbeat(value: object, kind: Kind, ready: float | str) -> float | None:
    if value is None:
        return HEARTBEAT_TIMEOUT if kind == "function" else None
    if kind == "command" and ready != "notify":
        raise ValueError(f"heartbeat_timeout must be left out for a command without ready='notify', not {value!r}")
    return check_seconds("heartbeat_timeout", value, LEAST_TIMEOUT)


def _check_listeners(value: object) -> dict[str, str]:
    found = _check_mapping("listeners", value)
    for name, address in found.items():
        if not _LISTENER_NAME.fullmatch(name):
            raise ValueError(f"listeners must have names of 1 to 255 printable characters without ':', not {name!r}")
        try:
            parse_address(address)
        except (TypeError, ValueError) as error:
            raise type(error)(f"listeners[{name!r}]: {error}") from None
    return found


def _check_surge(value: object, kind: Kind, listeners: Mapping[str, str]) -> bool:
    if value is None:
        return kind == "function" or bool(listeners)
    return _check_flag("surge", value)


def _check_env(value: object) -> dict[str, str | None]:
    found = _check_mapping("env", value)
    for name, text in found.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"env must have names without '=' and null characters, not {name!r}")
        if text is not None and not isinstance(text, str):
            raise TypeError(f"env[{name!r}] must be a str, or None to take it away, not {text!r}")
        if text is not None and "\0" in text:
            raise ValueError(f"env[{name!r}] must be without null characters, not {text!r}")
    return found


def _check_rlimits(value: object) -> dict[str, tuple[int, int]]:
    found = _check_mapping("rlimits", value)
    return {name: _check_rlimit(name, limit) for name, limit in found.items()}


def _check_rlimit(name: str, value: object) -> tuple[int, int]:
    """Return soft and hard limit, -1 for none, as ``setrlimit(2)`` of Python takes them."""
    known = sorted(each[7:].lower() for each in dir(resource) if each.startswith("RLIMIT_"))
    if name not in known:
        raise ValueError(f"rlimits must be named {', '.join(known)}, not {name!r}")
    if value is None:
        return (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"rlimits[{name!r}] must be a limit or (soft, hard), not {value!r}")
    for limit in pair:
        if limit != resource.RLIM_INFINITY:
            _check_number(f"rlimits[{name!r}]", limit, 0, (1 << 63) - 1)
    soft, hard = pair
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        raise ValueError(f"rlimits[{name!r}] must have a soft limit that is not above the hard one, not {value!r}")
    return soft, hard


# -- kinds of values ---------------------------------------------------------------------------------------


def _check_choice(name: str, value: object, choices: Iterable[str], more: str = "") -> None:
    if not isinstance(value, str) or value not in choices:
        wrong = ValueError if isinstance(value, str) else TypeError
        raise wrong(f"{name} must be {more}{' or '.join(map(repr, choices))}, not {value!r}")


def _check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _check_number(name: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")
    return value


def _check_numbers(name: str, value: object, low: int, high: int) -> frozenset[int]:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        raise TypeError(f"{name} must be a collection of whole numbers, not {value!r}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return frozenset(_check_number(f"each of {name}", each, low, high) for each in value)


def _check_text(name: str, value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    if not value or "\0" in value:
        raise ValueError(f"{name} must be {what}, not empty and without null characters, not {value!r}")
    return value


def _check_mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have names that are str, not {key!r}")
    return dict(value)
