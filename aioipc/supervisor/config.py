"""The configuration file of a supervisor: TOML to `SupervisorSpec`.

    [supervisor]                            # may be left out
    strategy = "one_for_one"
    intensity = 5                           # or "unlimited"
    period = 10

    [child.web]                             # or [[child]] with name = "web"; the order of the file is the start order
    target = "package.module:serve"         # or a program: ["redis-server", "--port", "0"]
    replicas = 4
    listeners = { http = "tcp://127.0.0.1:8000" }
    rlimits = { nofile = [1024, 4096], core = "unlimited" }
    env = { LEVEL = "info", DEBUG = false }    # false takes a variable away

    [child.backend.supervisor]              # a supervisor below this one
    strategy = "rest_for_one"
    [child.backend.child.db]
    target = ["db-server"]

A key is a field of `ChildSpec` or `SupervisorSpec`. Paths are relative to the directory of the file: ``cwd``,
``app_dir``, those of ``unix://``, and a program with a slash in its name. Nothing is interpolated: every child has the
master's environment anyway, and a value with "$" in it is that value.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..exceptions import ConfigError
from .addresses import UnixAddress, parse_address
from .spec import ChildSpec, SupervisorSpec

T = TypeVar("T")

_OF_SUPERVISORS = tuple(each.name for each in fields(SupervisorSpec) if each.name != "children")
_OF_CHILDREN = tuple(each.name for each in fields(ChildSpec))
_UNLIMITED = "unlimited"
_LARGEST = 1 << 20  # bytes


def read_config(path: str | os.PathLike[str]) -> SupervisorSpec:
    """Return what a file says is to be run. It is read whole and checked; nothing is imported or started.

    Raises `ConfigError` that names the file, the table, the field, its value and what is allowed, or the line where it
    is no TOML; the `OSError` where it cannot be read.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        data = file.read(_LARGEST + 1)
    try:
        if len(data) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes, which is no configuration")
        return parse_config(data.decode(), directory=os.path.dirname(os.path.abspath(name)))
    except ValueError as error:  # of ours, or UnicodeDecodeError
        raise ConfigError(f"{name}: {error}") from None


def parse_config(text: str, *, directory: str) -> SupervisorSpec:
    """Return what a configuration says (pure); relative paths are relative to ``directory``.

    Raises `ConfigError` as `read_config` does, without the name of the file.
    """
    return _supervisor(_document(text), _Place((), directory), ("supervisor", "child"))


def parse_child(name: str, table: Mapping[str, Any], *, directory: str) -> ChildSpec:
    """Return the child that a table such as [child.NAME] says (pure), from wherever the table comes; see
    `parse_config`.
    """
    place = _Place(("child", name), directory)
    if _table(table, place).get("name", name) != name:
        raise place.error(f"name must be {name!r}, or left out, not {table['name']!r}")
    return _child(table, name, place)


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"it is no TOML: {error}") from None


class _Place:
    """Where in the file something stands."""

    def __init__(self, path: tuple[str, ...], directory: str) -> None:
        self.path = path
        self.directory = directory

    def below(self, *names: str) -> _Place:
        return _Place((*self.path, *names), self.directory)

    def error(self, text: object) -> ConfigError:
        return ConfigError(f"[{'.'.join(self.path)}] {text}" if self.path else str(text))

    def absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.directory, path))


def _supervisor(table: Mapping[str, Any], place: _Place, allowed: Collection[str]) -> SupervisorSpec:
    """Make a supervisor of the tables ``supervisor`` and ``child`` of a table."""
    _check_keys(table, allowed, place)
    own = place.below("supervisor")
    options = dict(_table(table.get("supervisor", {}), own))
    _check_keys(options, _OF_SUPERVISORS, own)
    if isinstance(intensity := options.get("intensity"), str):
        if intensity != _UNLIMITED:
            raise own.error(f"intensity must be a whole number, or {_UNLIMITED!r}, not {intensity!r}")
        options["intensity"] = None
    children = [_child(each, name, where) for name, each, where in _children(table, place)]
    return _made(own, SupervisorSpec, children, **options)


def _children(table: Mapping[str, Any], place: _Place) -> Iterator[tuple[str, Mapping[str, Any], _Place]]:
    """Yield the name, the table and the place of each child, in their order."""
    found = table.get("child")
    if found in (None, [], {}):
        raise place.error("there must be a child: a table such as [child.web]")
    if isinstance(found, Mapping):
        for name, each in found.items():
            where = place.below("child", name)
            if _table(each, where).get("name", name) != name:
                raise where.error(
                    f"name must be {name!r}, as in the title of the table, or left out, not {each['name']!r}"
                )
            yield name, each, where
    elif isinstance(found, list):
        for number, each in enumerate(found, 1):
            where = place.below(f"child#{number}")
            if "name" not in _table(each, where):
                raise where.error("name must be there")
            where = place.below("child", str(each["name"]))
            yield each["name"], each, where
    else:
        raise place.error(f"child must be tables, [child.NAME] or [[child]], not {found!r}")


def _child(table: Mapping[str, Any], name: str, place: _Place) -> ChildSpec:
    options = {key: value for key, value in table.items() if key not in ("supervisor", "child", "name")}
    if "supervisor" in table or "child" in table:
        if "target" in table:
            raise place.error("target must be left out where there are children below it")
        _check_keys(options, _OF_CHILDREN, place)
        inner = {key: value for key, value in table.items() if key in ("supervisor", "child")}
        return _made(place, ChildSpec, name, _supervisor(inner, place, inner), **options)
    _check_keys(options, (*_OF_CHILDREN, "supervisor", "child"), place)
    if "target" not in options:
        raise place.error("target must be there: 'module:function', or a list of a program and its arguments")
    for key, convert in _CONVERSIONS.items():
        if key in options:
            options[key] = convert(options[key], place)
    return _made(place, ChildSpec, name, **options)


def _made(place: _Place, kind: Callable[..., T], *arguments: object, **options: object) -> T:
    """Make a spec, whose own words about what is wrong get the place in front."""
    try:
        return kind(*arguments, **options)
    except (TypeError, ValueError) as error:
        text = str(error)
        if place.path[-2:-1] == ("child",):
            text = text.removeprefix(f"child {place.path[-1]!r}: ")
        raise place.error(text) from None


# -- what TOML says otherwise ------------------------------------------------------------------------------


def _target(value: object, place: _Place) -> object:
    if isinstance(value, Mapping):
        text = "a pool runs functions for the program that it is part of, so there is none in a file"
        raise place.error(f"target must be 'module:function', or a list of a program and its arguments; {text}")
    if isinstance(value, list) and value and isinstance(value[0], str):
        program = value[0]
        return [place.absolute(program) if "/" in program else program, *value[1:]]
    return value


def _path(value: object, place: _Place) -> object:
    return place.absolute(value) if isinstance(value, str) and value else value


def _listeners(value: object, place: _Place) -> object:
    found = _table(value, place.below("listeners"))
    return {name: _address(address, place) for name, address in found.items()}


def _address(value: object, place: _Place) -> object:
    try:
        address = parse_address(value)
    except (TypeError, ValueError):
        return value  # the spec says what is wrong with it
    if not isinstance(address, UnixAddress):
        return value
    return str(replace(address, path=place.absolute(address.path)))


def _env(value: object, place: _Place) -> object:
    found = _table(value, place.below("env"))
    for name, each in found.items():
        if not isinstance(each, str) and each is not False:
            raise place.error(f"env.{name} must be a text, or false to take the variable away, not {_shown(each)}")
    return {name: None if each is False else each for name, each in found.items()}


def _rlimits(value: object, place: _Place) -> object:
    found = _table(value, place.below("rlimits"))
    return {name: _rlimit(name, each, place) for name, each in found.items()}


def _rlimit(name: str, value: object, place: _Place) -> object:
    pair = value if isinstance(value, list) else [value]
    for each in pair:
        if each != _UNLIMITED and (not isinstance(each, int) or isinstance(each, bool)):
            text = f"a whole number, {_UNLIMITED!r}, or a list of two, soft and hard, not {_shown(value)}"
            raise place.error(f"rlimits.{name} must be {text}")
    limits = tuple(-1 if each == _UNLIMITED else each for each in pair)
    return limits if isinstance(value, list) else limits[0]


_CONVERSIONS: Mapping[str, Callable[[object, _Place], object]] = {
    "target": _target,
    "cwd": _path,
    "app_dir": _path,
    "listeners": _listeners,
    "env": _env,
    "rlimits": _rlimits,
}


# -- what may stand where ----------------------------------------------------------------------------------


def _table(value: object, place: _Place) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise place.error(f"must be a table, not {_shown(value)}")
    return value


def _check_keys(table: Mapping[str, object], allowed: Collection[str], place: _Place) -> None:
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(allowed)}"
            raise place.error(f"there is no field {key!r}; {hint}")


def _shown(value: object) -> str:
    """Write a value as TOML would."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
