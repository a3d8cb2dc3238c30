"""What is known of an object, by column: the value as it is, which filters and JSON use, and as it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aioipc import KernelObject

from .humans import format_age, format_key, format_size, format_time, printable

ValueType = Literal["text", "number", "bytes", "time", "duration", "flag"]
Value: TypeAlias = "str | int | float | bool | None"

OPENERS_SHOWN = 2
VALUES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``show`` replaces the text that its type would give."""

    name: str
    type: ValueType
    meaning: str
    value: Callable[[KernelObject, float], Value]
    """Of an object, at a time."""
    show: Callable[[KernelObject], str] | None = None
    flexible: bool = False
    """It may be cut where the terminal is narrow."""

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.name.upper().replace("_", "-")

    @property
    def right(self) -> bool:
        """Whether it is set flush right, as numbers are."""
        return self.type in ("number", "bytes", "duration") and self.show is None

    def text(self, found: KernelObject, now: float, *, exact: bool = False) -> str:
        """The cell; ``exact`` sizes are whole numbers of bytes."""
        if self.show is not None:
            return printable(self.show(found))
        value = self.value(found, now)
        if value is None:
            return "-"
        if self.type == "bytes":
            return str(value) if exact else format_size(float(value))
        if self.type == "duration":
            return f"{float(value):.0f}" if exact else format_age(float(value))
        if self.type == "time":
            return format_time(float(value))
        if self.type == "flag":
            return "yes" if value else "-"
        return printable(str(value))


def age(found: KernelObject, now: float) -> float | None:
    """Seconds since it was made, as far as that is known, else since its owner or permissions were changed."""
    since = found.created if found.created is not None else found.changed
    return None if since is None else max(0.0, now - since)


def _idle(found: KernelObject, now: float) -> float | None:
    since = found.last_used if found.last_used is not None else found.changed
    return None if since is None else max(0.0, now - since)


def _name(found: KernelObject) -> str:
    if found.name is not None:
        return found.name
    return format_key(found.key) if found.key else "(private)"


def _mode(found: KernelObject) -> str:
    return "-" if found.mode is None else f"{found.mode:04o}"


def _openers(found: KernelObject) -> str:
    """Those that there is room for, and how many more."""
    shown = [f"{each.command}:{each.pid}" for each in found.openers[:OPENERS_SHOWN]]
    more = len(found.openers) - len(shown)
    return " ".join([*shown, f"+{more}"] if more else shown) or "-"


def _owner(found: KernelObject) -> str:
    if found.owner is None:
        return "-"
    return str(found.owner.pid) if found.owner_alive else f"{found.owner.pid} (dead)"


def _content(found: KernelObject) -> str:
    """What is in it, in the words of its kind."""
    if found.messages is not None:
        return _counted(found.messages, "message")
    if found.kind in ("sysv-semaphores", "posix-semaphore"):
        if found.semaphores is None:
            return _counted(found.count or 0, "semaphore")
        values = ",".join(str(each.value) for each in found.semaphores[:8]) + (
            ",…" if len(found.semaphores) > 8 else ""
        )
        return f"={values}" + (f" {found.waiting} waiting" if found.waiting else "")
    if found.attached is not None:
        return f"{found.attached} attached"
    if found.socket_type is not None:
        return (
            f"{found.socket_type} {_counted(found.connections or 0, 'connection')}"
            if found.listening
            else found.socket_type
        )
    return "-"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def status(found: KernelObject) -> str:
    """``in use``, ``orphan``, ``removed``, or nothing of note."""
    if found.removed:
        return "removed"
    return "orphan" if found.orphan else "in use" if found.in_use else "-"


_COLUMNS = (
    Column("kind", "text", "its kind", lambda found, _: found.kind),
    Column("name", "text", "its name; of System V the key", lambda found, _: found.name, _name, True),
    Column("id", "number", "System V: the id", lambda found, _: found.id),
    Column(
        "key",
        "number",
        "System V: the key, as a number without sign",
        lambda found, _: None if found.key is None else found.key & 0xFFFFFFFF,
        lambda found: "-" if found.key is None else format_key(found.key),
    ),
    Column("user", "text", "the owner", lambda found, _: found.user),
    Column("uid", "number", "the owner's number", lambda found, _: found.uid),
    Column("gid", "number", "the number of its group", lambda found, _: found.gid),
    Column("mode", "text", "the permissions, in octal", lambda found, _: _mode(found), _mode),
    Column("size", "bytes", "how much fits in", lambda found, _: found.size),
    Column("used", "bytes", "how much is in it", lambda found, _: found.used),
    Column("content", "text", "what is in it, in words", lambda found, _: _content(found), _content),
    Column("messages", "number", "messages in a queue", lambda found, _: found.messages),
    Column("max_messages", "number", "how many messages a POSIX queue holds", lambda found, _: found.max_messages),
    Column("max_message_size", "bytes", "its longest message", lambda found, _: found.max_message_size),
    Column("count", "number", "semaphores in a set", lambda found, _: found.count),
    Column("waiting", "number", "who waits for its semaphores", lambda found, _: found.waiting),
    Column("attached", "number", "how often System V memory is attached", lambda found, _: found.attached),
    Column("type", "text", "of a socket: stream, seqpacket, dgram", lambda found, _: found.socket_type),
    Column("listening", "flag", "of a socket", lambda found, _: found.listening),
    Column("connections", "number", "accepted ones of a socket", lambda found, _: found.connections),
    Column(
        "openers",
        "number",
        "how many processes have it open",
        lambda found, _: len(found.openers),
        _openers,
        flexible=True,
    ),
    Column("creator", "number", "the process that made it", lambda found, _: found.creator),
    Column("owner", "text", "the process of aioipc that has made it", lambda found, _: _owner(found), _owner),
    Column("age", "duration", "since it was made or changed owner", age),
    Column("idle", "duration", "since it was used", _idle),
    Column("created", "time", "when it was made", lambda found, _: found.created),
    Column("changed", "time", "ctime", lambda found, _: found.changed),
    Column("last_used", "time", "the last operation", lambda found, _: found.last_used),
    Column("inode", "number", "of a file or socket", lambda found, _: found.inode),
    Column("in_use", "flag", "somebody alive uses it", lambda found, _: found.in_use),
    Column("orphan", "flag", "nobody alive is known who made or uses it", lambda found, _: found.orphan),
    Column("removed", "flag", "it has lost its name", lambda found, _: found.removed),
    Column("status", "text", "in use, orphan or removed", lambda found, _: status(found), status),
)

COLUMNS: dict[str, Column] = {column.name: column for column in _COLUMNS}
DEFAULT = ("kind", "name", "id", "size", "content", "status", "age", "user", "mode", "openers")
"""What is not as needed comes last: a narrow terminal leaves it out."""


def find_column(word: str) -> Column | None:
    """The column of that name, in any case, with ``-`` or ``_``."""
    return COLUMNS.get(word.strip().lower().replace("-", "_"))
