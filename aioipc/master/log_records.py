"""Log records as text and as JSON, with who they are from (pure)."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SOURCE = frozenset({"service", "worker"})
_CAPTURED = frozenset({"stream", "line"})
_OUTPUT = "aioipc.output"
_PLAIN = (str, int, float, bool, type(None))
_FORMATTER = logging.Formatter()


def describe(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record as plain values; see docs/reference/cli-run.md for the fields.

    ``pid`` is the process that has logged or printed it, ``service`` and ``replica`` whom it is from, or about.
    """
    found: dict[str, Any] = {
        "time": _time(record.created),
        "level": record.levelname,
        "logger": record.name,
        "message": _message(record),
        "pid": record.process,
    }
    if service := getattr(record, "service", ""):
        found["service"], found["replica"] = str(service), _plain(getattr(record, "worker", None))
    said = _OWN | _SOURCE
    if _is_output(record):
        found["stream"] = str(vars(record)["stream"])
        said |= _CAPTURED
    if trace := _trace(record):
        found["exception"] = trace
    extra = {key: _plain(value) for key, value in vars(record).items() if key not in said}
    if extra:
        found["extra"] = extra
    return found


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(describe(record), ensure_ascii=False).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """One line a record, for people: when, how bad, who, what; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        service = getattr(record, "service", "")
        who = f"{service}.{record.worker} (pid {record.process}) " if service and record.process != self._pid else ""  # type: ignore[attr-defined]
        where = "" if record.name.startswith("aioipc.") else f"{record.name}: "
        text = f"{when} {record.levelname:7} {who}{where}{_message(record)}"
        return f"{text}\n{trace}" if (trace := _trace(record)) else text


def _message(record: logging.LogRecord) -> str:
    """Return what was said; of captured output the line alone, since who has printed it is said beside it."""
    if _is_output(record):
        return str(vars(record)["line"])
    try:
        return record.getMessage()
    except Exception as error:  # arguments that do not fit
        return f"{record.msg!s} (its arguments do not fit: {error})"


def _is_output(record: logging.LogRecord) -> bool:
    """Whether it is a line that was captured, and no record that happens to have such attributes."""
    return record.name == _OUTPUT and vars(record).keys() >= _CAPTURED


def _trace(record: logging.LogRecord) -> str:
    if record.exc_text:
        return record.exc_text
    return _FORMATTER.formatException(record.exc_info) if record.exc_info else ""


def _time(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> Any:
    if isinstance(value, float) and value - value != 0.0:  # JSON has no infinity, and no NaN
        return repr(value)
    return value if isinstance(value, _PLAIN) else repr(value)
