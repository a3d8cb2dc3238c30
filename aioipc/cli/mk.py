"""``aioipc mk KIND [NAME]``: make a kernel object that stays."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

import aioipc
from aioipc import ObjectKind

from . import screen
from .address import key_options, resolve_key
from .failure import CommandError, errors_told
from .json_text import to_json
from .object_kinds import SYSV, parse_kind_to_make
from .parameters import parse_counts, parse_mode, parse_size, reading

_EXTRA = {  # which options a kind understands, apart from those that all do
    "sysv-queue": {"max_bytes"},
    "sysv-semaphores": {"nsems", "init"},
    "sysv-memory": {"size"},
    "posix-queue": {"max_messages", "max_message_size"},
    "posix-semaphore": {"init"},
    "posix-memory": {"size"},
    "fifo": set[str](),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What to make, checked."""

    kind: ObjectKind
    name: str
    key: int | None
    mode: int
    size: int
    values: list[int]
    max_bytes: int | None
    max_messages: int | None
    max_message_size: int | None


@dataclass(frozen=True, slots=True)
class Made:
    """How others find the object."""

    id: int | None = None
    name: str | None = None


@click.command("mk", short_help="Make a queue, semaphores, shared memory or a FIFO.")
@click.argument("kind", callback=reading(parse_kind_to_make))
@click.argument("name", required=False)
@key_options
@click.option(
    "-p",
    "--mode",
    callback=reading(parse_mode),
    default="0600",
    show_default=True,
    metavar="OCTAL",
    help="Permissions.",
)
@click.option("--size", callback=reading(parse_size), metavar="SIZE", help="Bytes of shared memory: 4096, 64K, 10M.")
@click.option("--nsems", type=click.IntRange(min=1), metavar="N", help="Semaphores in the set.")
@click.option(
    "--init",
    callback=reading(parse_counts),
    metavar="N[,N…]",
    help="First values of the semaphores; a single one is that of all.  [default: 0 in a set, 1 for POSIX]",
)
@click.option("--max-messages", type=click.IntRange(min=1), metavar="N", help="Messages that a POSIX queue holds.")
@click.option(
    "--max-message-size", callback=reading(parse_size), metavar="SIZE", help="Bytes of a message in a POSIX queue."
)
@click.option("--max-bytes", callback=reading(parse_size), metavar="SIZE", help="Bytes that a System V queue holds.")
@click.option("--exist-ok", is_flag=True, help="Take one that is there already, as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: kind, id or name, key, created.")
def mk_command(kind: ObjectKind, name: str | None, exist_ok: bool, as_json: bool, **options: Any) -> None:
    """Make an object of KIND, which stays until somebody removes it, and print its id or its name.

    \b
    KIND                     NAME                    options
      sysv-queue (msg)       none: a key or private  --max-bytes
      sysv-semaphores (sem)  none: a key or private  --nsems, --init
      sysv-memory (shm)      none: a key or private  --size
      posix-queue (pmsg)     /name                   --max-messages, --max-message-size
      posix-semaphore (psem) /name                   --init
      posix-memory (pshm)    /name                   --size
      fifo                   a path

    \b
      aioipc mk msg --ftok queuekey --ftok-id 1 --exist-ok
      aioipc mk sem --init 100,1
      aioipc mk pshm /samples --size 10M
    """
    key = resolve_key(**{option: options.pop(option) for option in ("key", "ftok", "ftok_id", "allow_zero")})
    with errors_told():
        order = check_order(kind, name, key, options)
        made, created = make(order, exist_ok)
    if as_json:
        shown_key = key or 0 if kind in SYSV else None  # as ls shows it: 0 is private
        record = {"kind": kind, "id": made.id, "name": made.name, "key": shown_key, "created": created}
        screen.show([to_json(record).decode()], utf8=True)
    else:
        screen.show([str(made.id) if made.name is None else made.name])


def check_order(kind: ObjectKind, name: str | None, key: int | None, options: dict[str, Any]) -> Order:
    """What to make; `CommandError` where the options do not go with the kind."""
    given = {option for option, value in options.items() if value is not None} - {"mode"}
    if wrong := sorted(given - _EXTRA[kind]):
        raise CommandError(f"--{wrong[0].replace('_', '-')} is not for {kind}")
    if kind in SYSV and name is not None:
        raise CommandError(f"a {kind} has no name, but a --key, or none and is private to those who know its id")
    if kind not in SYSV and not name:
        raise CommandError(f"a {kind} needs {'a path' if kind == 'fifo' else 'a name such as /jobs'}")
    if kind not in SYSV and key is not None:
        raise CommandError(f"a {kind} has a name and no key")
    if "size" in _EXTRA[kind] and options["size"] is None:
        raise CommandError(f"a {kind} needs a size: --size 64K")
    return Order(
        kind,
        name or "",
        key,
        options["mode"],
        options["size"] or 0,
        first_values(kind, options["nsems"], options["init"]),
        options["max_bytes"],
        options["max_messages"],
        options["max_message_size"],
    )


def first_values(kind: str, count: int | None, init: list[int] | None) -> list[int]:
    """The first value of each semaphore."""
    if kind == "posix-semaphore":
        if init is not None and len(init) != 1:
            raise CommandError("a posix-semaphore is one, with one value")
        return init or [1]
    if kind == "sysv-semaphores" and count is None and init is None:
        raise CommandError("say how many semaphores, or their first values: --nsems 3, --init 1,2,3")
    if count is None:
        return init or []
    values = init or [0]
    if len(values) not in (1, count):
        raise CommandError(f"--init has {len(values)} values for {count} semaphores")
    return values * count if len(values) == 1 else values


def make(order: Order, exist_ok: bool) -> tuple[Made, bool]:
    """Make it, or with ``exist_ok`` find it; whether it was made."""
    maker = _MAKERS[order.kind]
    try:
        return maker(order, False), True
    except FileExistsError:
        if not exist_ok:
            raise
    return maker(order, True), False


def _sysv_queue(order: Order, exist_ok: bool) -> Made:
    queue = aioipc.SysVMessageQueue.create(
        order.key, exist_ok=exist_ok, remove=False, mode=order.mode, max_bytes=order.max_bytes
    )
    with closing(queue):
        return Made(id=queue.id)


def _sysv_semaphores(order: Order, exist_ok: bool) -> Made:
    semaphores = aioipc.SysVSemaphoreSet.create(
        order.key, order.values, exist_ok=exist_ok, remove=False, mode=order.mode
    )
    with closing(semaphores):
        return Made(id=semaphores.id)


def _sysv_memory(order: Order, exist_ok: bool) -> Made:
    segment = aioipc.SysVSharedMemory.create(order.key, order.size, exist_ok=exist_ok, remove=False, mode=order.mode)
    with segment:
        return Made(id=segment.id)


def _posix_queue(order: Order, exist_ok: bool) -> Made:
    aioipc.PosixMessageQueue.create(
        order.name,
        max_messages=order.max_messages,
        max_message_size=order.max_message_size,
        exist_ok=exist_ok,
        remove=False,
        mode=order.mode,
    ).close()
    return Made(name=order.name)


def _posix_semaphore(order: Order, exist_ok: bool) -> Made:
    aioipc.PosixSemaphore.create(order.name, order.values[0], exist_ok=exist_ok, remove=False, mode=order.mode).close()
    return Made(name=order.name)


def _posix_memory(order: Order, exist_ok: bool) -> Made:
    aioipc.SharedMemory.create(order.size, name=order.name, exist_ok=exist_ok, remove=False, mode=order.mode).close()
    return Made(name=order.name)


def _fifo(order: Order, exist_ok: bool) -> Made:
    """Make it by hand: opening it, as the library does, could meet somebody who waits for a reader."""
    try:
        os.mkfifo(order.name, order.mode)
    except FileExistsError as error:
        found = os.stat(order.name)
        if not stat.S_ISFIFO(found.st_mode):
            raise CommandError(f"{order.name}: is there already, and no FIFO") from error
        if not exist_ok:
            raise FileExistsError(error.errno, "exists already; --exist-ok takes it as it is", order.name) from None
    except OSError as error:  # which does not say where
        raise OSError(error.errno, error.strerror, order.name) from None
    else:
        os.chmod(order.name, order.mode)  # the umask may have taken some away
    return Made(name=order.name)


_MAKERS: dict[str, Callable[[Order, bool], Made]] = {
    "sysv-queue": _sysv_queue,
    "sysv-semaphores": _sysv_semaphores,
    "sysv-memory": _sysv_memory,
    "posix-queue": _posix_queue,
    "posix-semaphore": _posix_semaphore,
    "posix-memory": _posix_memory,
    "fifo": _fifo,
}
