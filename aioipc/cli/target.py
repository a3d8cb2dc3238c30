"""``package.module:function``: from a name on the command line to a callable."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any


class TargetError(Exception):
    """The name leads to no callable; the text is one line that says why."""


def split_target(target: str) -> tuple[str, str]:
    """The module and the attribute path of ``package.module:function``."""
    module, colon, attribute = target.partition(":")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
        raise TargetError(f"{target!r} names a file; name the module instead: {dotted}:{attribute or 'FUNCTION'}")
    if not (module and colon and attribute):
        raise TargetError(f"{target!r} is not of the form package.module:function")
    return module, attribute


def check_target(target: str, directory: str) -> Callable[..., Any]:
    """The callable that ``target`` names, or a `TargetError` that a user can act on.

    ``directory`` is where modules are looked up first; only hints need it.
    """
    module_name, path = split_target(target)
    found: Any = _import(module_name, directory)
    where, joint = module_name, ":"
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = close_to(name, _callables(found))
            raise TargetError(f"{where!r} has no function {name!r}{hint}") from None
        where, joint = f"{where}{joint}{name}", "."
    if not callable(found):
        raise TargetError(f"{target!r} is no function but of type {type(found).__name__}: {_short(found)}")
    return found  # type: ignore[no-any-return]


def load_target(target: str) -> Callable[..., Any]:
    """The callable that ``target`` names; for workers, after `check_target`."""
    module_name, path = split_target(target)
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


def is_async(function: Callable[..., Any]) -> bool:
    """True where a call gives a coroutine: ``async def``, a partial of one, an async ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _import(name: str, directory: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise TargetError(_import_failed(name, error)) from error
        names = [module.name for module in pkgutil.iter_modules([directory])] if "." not in name else []
        hint = close_to(name, names)
        raise TargetError(f"no module named {error.name!r} (looked in {directory} first){hint}") from None
    except Exception as error:
        raise TargetError(_import_failed(name, error)) from error
    except SystemExit as error:
        raise TargetError(f"importing {name!r} ended the program (exit code {error.code})") from error


def _import_failed(name: str, error: Exception) -> str:
    last_line = traceback.format_exception_only(error)[-1].strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_import_system(frame)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename}, line {error.lineno})"
    return f"cannot import {name!r}: {last_line}{where}"


def _is_import_system(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith("<frozen importlib") or frame.filename in (importlib.__file__, __file__)


def _callables(owner: object) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_") and callable(getattr(owner, name, None))]


def close_to(name: str, names: list[str]) -> str:
    """Return a hint at the name that is most like it, or nothing."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _short(value: object) -> str:
    text = repr(value).splitlines()[0]
    return text if len(text) <= 60 else f"{text[:57]}..."
