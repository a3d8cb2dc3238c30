"""``aioipc rm``: remove kernel objects, and none that somebody uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

import click

import aioipc
from aioipc import KernelObject, ObjectKind

from . import screen
from .exit_codes import EXIT_NOTHING
from .failure import CommandError, errors_told
from .finding import look
from .humans import printable
from .json_text import to_json
from .object_kinds import parse_kind
from .parameters import ID, parse_duration, parse_key, reading, reading_each
from .removal import Outcome, Status, label_of, orphan_outcome, remove

SCHEMA = 1
_MOST_SHOWN = 10


@click.command("rm", short_help="Remove objects that nobody uses; also those that dead processes left.")
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@click.option("-i", "--id", "ids", type=ID, multiple=True, metavar="ID", help="Id of a System V object.")
@click.option("-k", "--key", "keys", multiple=True, callback=reading_each(parse_key), metavar="KEY", help="Key of one.")
@click.option(
    "-K",
    "--kind",
    "kinds",
    multiple=True,
    callback=reading_each(parse_kind),
    metavar="KIND",
    help="Only objects of this kind, as mk names them, or unix-socket; may be given again.",
)
@click.option("--orphans", is_flag=True, help="What killed processes left behind, as far as aioipc made it for you.")
@click.option("--older-than", callback=reading(parse_duration), metavar="TIME", help="Orphans of this age: 90s, 1h.")
@click.option(
    "--all",
    "all_kinds",
    multiple=True,
    callback=reading_each(parse_kind),
    metavar="KIND",
    help="Everything of this kind that nobody uses; asks before.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-f", "--force", is_flag=True, help="Also what somebody uses.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-v", "--verbose", is_flag=True, help="With --orphans: say of each object why it was kept.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with what came of each.")
def rm_command(
    names: tuple[str, ...],
    ids: list[int],
    keys: list[int],
    kinds: list[ObjectKind],
    all_kinds: list[ObjectKind],
    orphans: bool,
    older_than: float | None,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Remove objects: POSIX ones by NAME, FIFOs and UNIX sockets by PATH, System V ones by -i ID or -k KEY.

    What is in use is kept: memory that is attached, what a process has open, semaphores that somebody waits for;
    --force removes it all the same. Each object gives a line, what was kept or failed on standard error.

    Exit code: 0 all are gone, 1 something was kept or is not there, 2 wrong usage or another error.

    \b
      aioipc rm /jobs hello.fifo
      aioipc rm -i 5 --kind msg
      aioipc rm --orphans --older-than 1h --dry-run
      aioipc rm --all sem
    """
    named = bool(names or ids or keys)
    if older_than is not None and not orphans:
        raise CommandError("--older-than goes with --orphans")
    if "" in names:
        raise CommandError("an empty name is nobody's")
    if (ways := named + orphans + bool(all_kinds)) != 1:
        text = "say what to remove" if not ways else "only one of these at a time"
        raise CommandError(f"{text}: names, -i and -k; or --orphans; or --all KIND")
    if orphans and options["force"]:
        raise CommandError("--orphans never removes what is in use, so --force does not go with it")
    with errors_told():
        if orphans:
            outcomes = remove_left_over(kinds, older_than or 0.0, options["dry_run"])
        elif all_kinds:
            outcomes = remove_all(all_kinds, **options)
        else:
            outcomes = remove_named(kinds, ids, keys, names, options["force"], options["dry_run"])
    show(outcomes, as_json, () if verbose or not orphans else ("kept", "gone"))
    if not all(each.is_well or (orphans and each.status == "kept") for each in outcomes):
        sys.exit(EXIT_NOTHING)


def remove_left_over(kinds: Sequence[ObjectKind], older_than: float, dry_run: bool) -> list[Outcome]:
    """Remove what has a dead owner."""
    found = aioipc.remove_orphans(kinds=kinds or None, older_than=older_than, dry_run=dry_run)
    return [orphan_outcome(each) for each in found]


def remove_named(
    kinds: Sequence[ObjectKind],
    ids: Sequence[int],
    keys: Sequence[int],
    names: Sequence[str],
    force: bool,
    dry_run: bool,
) -> list[Outcome]:
    """Remove what was named, once."""
    outcomes: list[Outcome] = []
    for search in look(kinds, ids, keys, names):
        if search.found is None:
            outcomes.append(Outcome(search.word, "failed", search.reason))
        elif label_of(search.found) not in [each.label for each in outcomes]:
            outcomes.append(remove(search.found, force=force, dry_run=dry_run))
    return outcomes


def remove_all(kinds: Sequence[ObjectKind], force: bool, dry_run: bool, yes: bool) -> list[Outcome]:
    """Remove everything of some kinds, once somebody has agreed."""
    if wrong := {"fifo", "unix-socket"} & set(kinds):
        raise CommandError(f"--all is not for {min(wrong)}: these are files, all over the machine; name their paths")
    found = list(aioipc.inventory(kinds))
    if found and not (yes or dry_run):
        confirm(found, force)
        agreed = {label_of(each) for each in found}  # much may have happened while somebody thought about it
        found = [each for each in aioipc.inventory(kinds) if label_of(each) in agreed]
    return [remove(each, force=force, dry_run=dry_run) for each in found]


def confirm(found: Sequence[KernelObject], force: bool) -> None:
    """Ask; `click.Abort` for a no, `CommandError` where there is nobody to ask."""
    concerned = [each for each in found if force or not each.in_use]
    if not concerned:
        return
    if not os.isatty(0):
        raise CommandError(f"--all would remove {len(concerned)} objects: agree with --yes; nothing was removed")
    for each in concerned[:_MOST_SHOWN]:
        click.echo(f"  {printable(label_of(each))} of {each.user}", err=True)
    if (more := len(concerned) - _MOST_SHOWN) > 0:
        click.echo(f"  and {more} more", err=True)
    if not click.confirm(f"Remove {len(concerned)} object{'s' if len(concerned) > 1 else ''}?", err=True):
        raise CommandError("nothing was removed")


def show(outcomes: Sequence[Outcome], as_json: bool, silent: Collection[Status]) -> None:
    """Print what came of them; in words not what is of a silent status."""
    if as_json:
        record = {"schema": SCHEMA, "objects": [each.record for each in outcomes]}
        screen.show([to_json(record).decode()], utf8=True)
        return
    for each in outcomes:
        if each.status in silent:
            continue
        if each.is_well:
            screen.show([each.line])
        else:
            click.echo(each.line, err=True)
