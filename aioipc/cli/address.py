"""Which object a command means: the options that several commands have, and what they say together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from aioipc import ftok

from .failure import CommandError, errors_told
from .parameters import ID, parse_key, parse_number, reading

F = TypeVar("F", bound=Callable[..., Any])


def key_options(command: F) -> F:
    """Add the options by which a System V key is given."""
    options = [
        click.option(
            "-k", "--key", callback=reading(parse_key), metavar="KEY", help="System V key: 4660, 0x1234 or 011064."
        ),
        click.option("--ftok", metavar="PATH", help="Make the key of this file, with --ftok-id, as ftok(3) does."),
        click.option("--ftok-id", callback=reading(parse_number), metavar="N", help="Only its low 8 bits count."),
        click.option("--allow-zero", is_flag=True, help="Accept an --ftok-id whose low 8 bits are 0, such as 1024."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def target_options(command: F) -> F:
    """Add the options, and the argument, by which a message's way is given."""
    command = key_options(command)
    options = [
        click.argument("path", required=False),
        click.option("-i", "--id", type=ID, metavar="ID", help="System V queue: what ipcs -q and mk print."),
        click.option("-n", "--name", metavar="NAME", help="POSIX queue, such as /jobs."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Address:
    """One way to an object; the others are None."""

    id: int | None = None
    key: int | None = None
    name: str | None = None
    path: str | None = None

    @property
    def is_sysv(self) -> bool:
        """Whether it is a System V queue."""
        return self.id is not None or self.key is not None


def resolve_key(key: int | None, ftok: str | None, ftok_id: int | None, allow_zero: bool) -> int | None:
    """The key that was asked for, if any."""
    if ftok is None:
        if ftok_id is not None:
            raise CommandError("--ftok-id goes with --ftok PATH")
        return key
    if key is not None:
        raise CommandError("--key and --ftok exclude each other")
    if ftok_id is None:
        raise CommandError("--ftok needs --ftok-id N")
    return _ftok(ftok, ftok_id, allow_zero)


def _ftok(path: str, number: int, allow_zero: bool) -> int:
    if not allow_zero and not number & 0xFF:
        raise CommandError(
            f"of --ftok-id only the low 8 bits count, and those of {number} are 0, so it tells nothing apart; "
            "--allow-zero meets C programs that do this"
        )
    with errors_told():
        return ftok(path, number, allow_zero=allow_zero)


def resolve_address(
    path: str | None,
    id: int | None,
    name: str | None,
    key: int | None,
    ftok: str | None,
    ftok_id: int | None,
    allow_zero: bool,
) -> Address:
    """The one object that was named; `CommandError` for none or several."""
    found = Address(id, resolve_key(key, ftok, ftok_id, allow_zero), name, path)
    if sum(part is not None for part in (found.id, found.key, found.name, found.path)) != 1:
        raise CommandError(
            "name one object: -i ID or -k KEY of a System V queue, -n NAME of a POSIX queue, "
            "or the PATH of a FIFO or a UNIX socket"
        )
    return found
