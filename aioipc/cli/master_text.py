"""What a master says about itself, as text for people (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .humans import format_age, format_size, printable
from .table import Shape, lay_out

_SHAPES = (
    Shape("NAME"),
    Shape("STATE"),
    Shape("PID", right=True),
    Shape("UPTIME", right=True),
    Shape("MEMORY", right=True),
    Shape("GEN", right=True),
    Shape("RESTARTS", right=True),
    Shape("SAYS", flexible=True),
    Shape("LAST EXIT", flexible=True),
)


def status_lines(status: dict[str, Any], width: int | None) -> list[str]:
    """The answer to ``status``: a line about the master, and a table of all processes, workers below their pool."""
    head = (
        f"{printable(status['title'])} (pid {status['pid']}): {status['state']}, up {format_age(status['uptime'])}, "
        f"generation {status['generation']}, restarts {status['restarts']}"
    )
    lines = [head, *(f"  {line}" for line in _listeners(status))]
    children = (child for child in status["children"] if child["kind"] != "supervisor")
    rows = [row for child in children for each in child["processes"] for row in _rows(child["kind"], each)]
    return [*lines, *lay_out(_SHAPES, rows, width=width, droppable=True)] if rows else lines


def log_line(record: dict[str, Any]) -> str:
    """A log record, as the text log of the master has it."""
    if "lost" in record:
        return f"… {record['lost']} records are missing here: they came too quickly"
    is_from_it = "service" in record and not record["logger"].startswith("aioipc.supervisor")
    who = f"{record['service']}.{record['replica']} " if is_from_it else ""
    text = f"{record['time']} {record['level']:7} {who}(pid {record['pid']}) {record['message']}"
    lines = [*text.split("\n"), *record.get("exception", "").splitlines()]
    return "\n".join(map(printable, lines))


def _listeners(status: dict[str, Any]) -> list[str]:
    places = ((child["name"], name, at) for child in status["children"] for name, at in child["listeners"].items())
    return [f"{child}: {name} at {address}" for child, name, address in places]


def _rows(kind: str, process: dict[str, Any]) -> Iterator[list[str]]:
    yield _row(process, process["name"] if kind == "pool" else f"{process['name']}.{process['replica']}")
    pool = process.get("pool") or {"workers": ()}
    for worker in pool["workers"]:
        yield [
            f"{process['name']}.{worker['slot']}",
            worker["state"],
            "-" if worker["pid"] is None else str(worker["pid"]),
            format_age(worker["age"]),
            *("-", "-", "-"),
            f"tasks: {worker['in_flight']} in flight, {worker['finished']} finished",
            "",
        ]


def _row(process: dict[str, Any], name: str) -> list[str]:
    running = process["pid"] is not None
    state = process["state"] if process["role"] == "serving" else f"{process['state']} ({process['role']})"
    return [
        name,
        state,
        str(process["pid"]) if running else "-",
        format_age(process["uptime"]) if running else "-",
        format_size(process["memory"]) if running else "-",
        str(process["generation"]),
        str(process["restarts"]),
        printable(process["status"]),
        printable(process["last_exit"]),
    ]
