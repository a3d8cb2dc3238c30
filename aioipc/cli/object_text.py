"""One object as text: a line for each field that it has, then its semaphores, then who has it open."""

from __future__ import annotations

from collections.abc import Iterator

from aioipc import KernelObject

from . import screen
from .columns import COLUMNS, status
from .humans import format_age, format_key, format_time, printable
from .table import Shape, lay_out

_WAYS = {"r": "reads", "w": "writes", "m": "mapped"}


def object_lines(found: KernelObject, now: float, *, exact: bool) -> list[str]:
    """The lines."""
    rows = [(heading, text) for heading, text in _fields(found, now, exact) if text != "-"]
    wide = max(len(heading) for heading, _ in rows)
    lines = [f"{screen.style(f'{heading:{wide}}', bold=True)}  {text}" for heading, text in rows]
    for table in (_semaphores(found), _openers(found)):
        if table:
            lines += ["", *table]
    return lines


def _fields(found: KernelObject, now: float, exact: bool) -> Iterator[tuple[str, str]]:
    def column(name: str) -> str:
        return COLUMNS[name].text(found, now, exact=exact)

    yield "kind", found.kind
    yield "name", printable(found.name or "-")
    yield "id", column("id")
    yield "key", "-" if found.key is None else f"{format_key(found.key)} ({found.key})" if found.key else "private"
    yield "status", status(found)
    yield "made by", _maker(found)
    yield "user", "-" if found.uid is None else f"{found.user} (uid {found.uid}, gid {found.gid})"
    yield "permissions", column("mode")
    if found.kind == "posix-semaphore" and found.values:
        yield "value", str(found.values[0])
    for name in ("size", "used", "messages", "max_messages", "max_message_size", "count", "waiting", "attached"):
        yield name.replace("_", " "), column(name)
    for name in ("type", "listening", "connections"):
        yield name, column(name)
    yield "creator", column("creator")
    yield "last used by", ", ".join(map(str, found.last_pids)) or "-"
    for name in ("created", "changed", "last_used"):
        yield name.replace("_", " "), _moment(getattr(found, name), now)
    yield "inode", column("inode")


def _maker(found: KernelObject) -> str:
    """What the record of its owner says."""
    if found.owner is None:
        return "-"
    life = "alive" if found.owner_alive else "dead"
    return f"process {found.owner.pid}, {life}; to {'be removed with it' if found.owner.remove else 'stay'}"


def _moment(moment: float | None, now: float) -> str:
    return "-" if moment is None else f"{format_time(moment)} ({format_age(now - moment)} ago)"


def _semaphores(found: KernelObject) -> list[str]:
    """Each with who waits for it, as ``ipcs -s -i ID``."""
    if not found.semaphores or found.kind != "sysv-semaphores":
        return []
    shapes = [Shape(each, right=True) for each in ("SEMAPHORE", "VALUE", "WAITING", "FOR-ZERO", "LAST-PID")]
    rows = [
        [str(number), str(each.value), str(each.waiting), str(each.waiting_for_zero), str(each.last_pid or "-")]
        for number, each in enumerate(found.semaphores)
    ]
    return lay_out(shapes, rows, width=screen.width())


def _openers(found: KernelObject) -> list[str]:
    if not found.openers:
        return []
    rows = [[str(each.pid), printable(each.command), _ways(each.access)] for each in found.openers]
    shapes = [Shape("PID", right=True), Shape("COMMAND", flexible=True), Shape("ACCESS")]
    return lay_out(shapes, rows, width=screen.width())


def _ways(access: str) -> str:
    return ", ".join(word for letter, word in _WAYS.items() if letter in access)
