"""``aioipc ls [KIND]... [PATTERN]...``: the objects of the kernel in one table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from aioipc import Inventory, KernelObject, ObjectKind, inventory, limits

from . import screen
from .columns import COLUMNS, DEFAULT, Column, find_column, status
from .failure import CommandError, errors_told
from .humans import format_time
from .json_text import to_json
from .limit_table import USAGE, limit_lines
from .object_json import SCHEMA, inventory_json, limit_json, object_json
from .parameters import Seconds
from .selection import Selection, find_user, sort_words
from .table import Shape, lay_out
from .where import WhereError, parse_where

_COLOURS = {"orphan": "red", "removed": "yellow", "in use": "green"}


@dataclass(frozen=True, slots=True)
class View:
    """How the chosen objects are shown."""

    columns: Sequence[Column]
    droppable: bool
    sort: Sequence[tuple[Column, bool]]
    headings: bool
    exact: bool
    json: str

    def lines(self, found: Inventory, chosen: list[KernelObject]) -> list[str]:
        """The lines to show."""
        chosen = self._sorted(chosen, found.time)
        if self.json == "json":
            return [to_json(inventory_json(found, chosen)).decode()]
        if self.json == "jsonl":
            return [to_json({"schema": SCHEMA, **object_json(each, found.time)}).decode() for each in chosen]
        rows = [[column.text(each, found.time, exact=self.exact) for column in self.columns] for each in chosen]
        shapes = [Shape(column.heading, column.right, column.flexible) for column in self.columns]
        width = screen.width()
        lines = lay_out(shapes, rows, width=width, headings=self.headings, droppable=self.droppable)
        return _coloured(lines, chosen, self.headings)

    def _sorted(self, chosen: list[KernelObject], now: float) -> list[KernelObject]:
        for column, descending in reversed(self.sort):
            missing = [each for each in chosen if column.value(each, now) is None]
            there = [each for each in chosen if column.value(each, now) is not None]
            there.sort(key=lambda each: column.value(each, now), reverse=descending)  # type: ignore[arg-type,return-value]
            chosen = [*there, *missing]
        return chosen


def _coloured(lines: list[str], chosen: list[KernelObject], headings: bool) -> list[str]:
    if not screen.colours():
        return lines
    head = [screen.style(line, bold=True) for line in lines[:headings]]
    body = [_coloured_line(line, each) for line, each in zip(lines[headings:], chosen, strict=True)]
    return head + body


def _coloured_line(line: str, found: KernelObject) -> str:
    colour = _COLOURS.get(word := status(found))
    return line if colour is None else line.replace(f" {word}", f" {screen.style(word, fg=colour)}", 1)


@click.command("ls", short_help="List queues, semaphores, shared memory, FIFOs and UNIX sockets.")
@click.argument("words", nargs=-1, metavar="[KIND]... [PATTERN]...")
@click.option("-o", "--output", "columns", metavar="COLS", help="Columns, by commas; +COLS adds to the usual ones.")
@click.option("--sort", metavar="COLS", help="Sort by these columns; -COL from the largest down.")
@click.option("--where", metavar="EXPR", help="Only where it holds: 'age>1h and openers==0'.")
@click.option("--orphans", is_flag=True, help="Only what was left behind.")
@click.option("--mine", is_flag=True, help="Only what is yours.")
@click.option("--user", metavar="USER", help="Only what is this user's, by name or number.")
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="Only what this process uses or made.")
@click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Look there for FIFOs and socket files, too. Several times for several.",
)
@click.option(
    "-w",
    "--watch",
    type=Seconds(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Show it again and again, every 2 seconds or as told: --watch=5.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with typed values.")
@click.option("--jsonl", is_flag=True, help="One line of JSON for each object.")
@click.option("--noheadings", is_flag=True, help="No headings.")
@click.option("-b", "--bytes", "exact", is_flag=True, help="Sizes in bytes, ages in seconds.")
@click.option("-g", "--global", "as_usage", is_flag=True, help="Not the objects, but how much of the limits they use.")
@click.option("-q", "--quiet", is_flag=True, help="No notes on what could not be seen.")
def ls_command(words: tuple[str, ...], as_usage: bool, watch: float | None, quiet: bool, **options: Any) -> None:
    """List kernel objects, all kinds in one table, with who uses them and what was left behind.

    KIND is sysv-queue, sysv-semaphores, sysv-memory, posix-queue, posix-semaphore, posix-memory, fifo or unix-socket,
    or a word for several: sysv, posix, queues (msg), semaphores (sem), memory (shm), sockets. Anything else is a
    PATTERN: a part of a name, or one with * and ?; or the id or key of a System V object.

    Exit code: 0, also where there is nothing to list; 2 wrong usage; 130 after Ctrl-C; 141 where the reader has left.

    \b
      aioipc ls queues --orphans
      aioipc ls posix 'my-app-*' --where 'age>1h and openers==0' --json
    """
    if options["as_json"] and options["jsonl"]:
        raise CommandError("--json and --jsonl exclude each other")
    if as_usage:
        make = _usage(words, options)
    else:
        kinds, patterns = sort_words(words)
        selection, view = _selection(patterns, options), _view(options)
        noted = set[str]() if not quiet and not options["as_json"] else None
        make = _listing(kinds, options["folders"], selection, view, noted)
    json = options["as_json"] or options["jsonl"]
    if watch is None:
        screen.show(make(), utf8=json)
    else:
        screen.again_and_again(watch, make if json else lambda: [format_time(time.time()), *make()], json=json)


def _listing(
    kinds: set[ObjectKind], folders: Sequence[str], selection: Selection, view: View, noted: set[str] | None
) -> Callable[[], list[str]]:
    def make() -> list[str]:
        with errors_told():
            found = inventory(kinds, folders=folders)
        if noted is not None:
            for note in found.notes:
                if note not in noted:
                    noted.add(note)
                    click.echo(f"aioipc ls: {note}", err=True)
        return view.lines(found, selection.choose(found))

    return make


def _usage(words: Sequence[str], options: dict[str, Any]) -> Callable[[], list[str]]:
    if words:
        raise CommandError("--global shows the limits of all kinds: it takes no KIND and no PATTERN")

    def make() -> list[str]:
        chosen = [limit for name, limit in limits().items() if name.startswith(USAGE)]
        if options["as_json"]:
            return [to_json({"schema": SCHEMA, "limits": [limit_json(limit) for limit in chosen]}).decode()]
        if options["jsonl"]:
            return [to_json({"schema": SCHEMA, **limit_json(limit)}).decode() for limit in chosen]
        return limit_lines(chosen, headings=not options["noheadings"], exact=options["exact"])

    return make


def _selection(patterns: list[str], options: dict[str, Any]) -> Selection:
    uid = os.geteuid() if options["mine"] else None
    if options["user"] is not None:
        if options["mine"]:
            raise CommandError("--mine and --user exclude each other")
        with errors_told():
            uid = find_user(options["user"])
    try:
        where = None if options["where"] is None else parse_where(options["where"])
    except WhereError as error:
        raise CommandError(f"--where: {error}") from error
    return Selection(patterns, uid, options["pid"], options["orphans"], where)


def _view(options: dict[str, Any]) -> View:
    words = options["columns"] or ""
    added = words.startswith("+")
    names = [word for word in words.removeprefix("+").split(",") if word]
    columns = [_column("--output", word) for word in names]
    if added or not columns:
        columns = [COLUMNS[name] for name in DEFAULT] + columns
    sort = [(_column("--sort", word.removeprefix("-")), word.startswith("-")) for word in _words(options["sort"])]
    return View(
        columns=columns,
        droppable=not names,
        sort=sort,
        headings=not options["noheadings"],
        exact=options["exact"],
        json="json" if options["as_json"] else "jsonl" if options["jsonl"] else "",
    )


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


def _column(option: str, word: str) -> Column:
    if (column := find_column(word)) is None:
        raise CommandError(f"{option}: there is no column {word!r}; there are {', '.join(COLUMNS)}")
    return column
