"""``aioipc show NAME|ID|KEY``: everything about one object."""

from __future__ import annotations

import os
import stat

import click

from aioipc import KernelObject, ObjectKind, inventory, limits

from . import screen
from .failure import CommandError, NothingError, errors_told
from .humans import printable
from .json_text import to_json
from .limit_table import limit_lines
from .object_json import SCHEMA, limit_json, object_json
from .object_text import object_lines
from .selection import KINDS, find_kinds

LIMITS: dict[ObjectKind, tuple[str, ...]] = {
    "sysv-queue": ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"),
    "sysv-semaphores": ("kernel.sem.semmsl", "kernel.sem.semmns", "kernel.sem.semopm", "kernel.sem.semmni"),
    "sysv-memory": ("kernel.shmmax", "kernel.shmall", "kernel.shmmni"),
    "posix-queue": ("fs.mqueue.queues_max", "fs.mqueue.msg_max", "fs.mqueue.msgsize_max", "RLIMIT_MSGQUEUE"),
    "posix-semaphore": ("/dev/shm",),
    "posix-memory": ("/dev/shm",),
    "fifo": ("fs.pipe-max-size", "fs.pipe-user-pages-soft"),
    "unix-socket": ("net.core.somaxconn", "net.core.wmem_max", "net.unix.max_dgram_qlen"),
}
"""Which limits concern which kind."""


@click.command("show", short_help="Show everything about one object.")
@click.argument("name", metavar="NAME|ID|KEY")
@click.option("-k", "--kind", "kind", metavar="KIND", help="Only of this kind, or these: queue, sysv, fifo, …")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with typed values.")
@click.option("-b", "--bytes", "exact", is_flag=True, help="Sizes in bytes.")
def show_command(name: str, kind: str | None, as_json: bool, exact: bool) -> None:
    """Show all fields of an object, who has it open, its semaphores, and the limits that concern it.

    NAME is that of a POSIX object, the path of a FIFO or a UNIX socket, or a socket's abstract name with its @; ID and
    KEY are those of a System V object.

    Exit code: 0; 1 there is no such object; 2 wrong usage, or a name that several have.
    """
    kinds = KINDS if kind is None else find_kinds(kind)
    if not kinds:
        raise CommandError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    with errors_told():
        found = inventory(kinds, folders=[name] if _is_fifo_or_socket(name) else [])
    one = _only(name, found.find(name))
    known = limits()
    concerned = [known[each] for each in LIMITS[one.kind] if each in known]
    if as_json:
        limited = [limit_json(limit) for limit in concerned]
        document = {"schema": SCHEMA, "object": object_json(one, found.time), "limits": limited, "notes": found.notes}
        screen.show([to_json(document).decode()], utf8=True)
        return
    screen.show([*object_lines(one, found.time, exact=exact), "", *limit_lines(concerned, headings=True, exact=exact)])


def _is_fifo_or_socket(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _only(name: str, found: tuple[KernelObject, ...]) -> KernelObject:
    if not found:
        raise NothingError(f"there is no object {name!r}; aioipc ls lists what there is")
    if len(found) > 1:
        candidates = "".join(f"\n  --kind {each.kind}: {printable(each.label)}" for each in found)
        same = len({each.kind for each in found}) < len(found)
        hint = "; name one by its id" if same else ""
        raise CommandError(f"{len(found)} objects are called {name!r}{hint}:{candidates}")
    return found[0]
