"""What ``aioipc ctl add`` is told, as tables of the configuration file: the master has the one parser of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import click

import aioipc

from .failure import CommandError, errors_told
from .services import read_bindings

Table = dict[str, Any]
_FUNCTION_MARK = ":"


def tables_of_file(path: str, names: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
    """Go through the tables of the children of a file, or of those with these names, in its order."""
    with errors_told():
        spec = aioipc.read_config(path)  # so that what is wrong is said before anything is added
        with open(path, "rb") as file:
            found = tomllib.load(file)["child"]
    known = [child.name for child in spec.children]
    for name in names:
        if name not in known:
            raise CommandError(f"{path}: there is no child {name!r}; there are {', '.join(known)}")
    tables = found.items() if isinstance(found, Mapping) else ((each["name"], each) for each in found)
    return ((name, dict(table)) for name, table in tables if not names or name in names)


def table_of_options(
    words: tuple[str, ...], workers: int | None, binds: tuple[str, ...], env: tuple[str, ...], fields: tuple[str, ...]
) -> Table:
    """Return the table that the options say. One word with a colon is a function; anything else is a command line.

    What it prints comes through the log, unless a field says otherwise.
    """
    is_function = len(words) == 1 and _FUNCTION_MARK in words[0] and "/" not in words[0]
    table: Table = {"target": words[0] if is_function else list(words), "stdout": "capture", "stderr": "capture"}
    if workers is not None:
        table["replicas"] = workers
    if binds:
        table["listeners"] = read_bindings(binds)
    if env:
        table["env"] = dict(_pair(each, "--env") for each in env)
    for each in fields:
        name, value = _pair(each, "--set")
        _put(table, name, _value(value))
    return table


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(f"{option} {text!r}: it must be NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    """Return a value of TOML; a text where that is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(table: Table, name: str, value: Any) -> None:
    """Set a field; ``rlimits.nofile`` is in the table ``rlimits``."""
    *path, last = name.split(".")
    for each in path:
        table = table.setdefault(each, {})
        if not isinstance(table, dict):
            raise CommandError(f"--set {name}: {each} is no table")
    table[last] = value


def added_line(child: Mapping[str, Any] | None, name: str) -> str:
    """What has become of a child that was added, for people."""
    if child is None:
        return f"{name}: it has ended"
    where = "".join(f"; {each} at {address}" for each, address in child["listeners"].items())
    return f"{name}: {child['state']}, {child['ready']} of {child['replicas']} ready{where}"


def check_words(file: str | None, words: tuple[str, ...], others: bool) -> None:
    """See that a file and a target are not both given, or neither."""
    if file is not None:
        if others:
            raise click.UsageError("with --file, the file says everything; names of its children may follow")
    elif len(words) < 2:
        raise click.UsageError("it needs NAME and TARGET: MODULE:FUNCTION, or -- COMMAND ...; or --file FILE")
