"""Log records on their way from a worker to its master.

Each record that a logger lets through is written, without ever waiting, to a pipe of this worker. It is in the
kernel then, so that even a worker that is killed in the next moment has said it.

This hooks into `logging.Logger.callHandlers` and is no handler of the root logger: to `logging.basicConfig` in a
task there is none yet, and `logging.config.dictConfig` throws none away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from itertools import count
from typing import Any

from ..wire.log_protocol import SHORT, Record, encode_record
from .log_levels import apply_levels

_PLAIN = (str, int, float, bool, type(None))
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NO_RECORD = Record(0, "", 0, "", "", "", 0, None, 0.0, None, None, None, None, None, None, None, {})


def install(fd: int, settings: dict[str, Any]) -> LogSender:
    """Have this process's log records sent to the non-blocking pipe ``fd``, filtered as the master filters."""
    sender = LogSender(fd)
    as_before = logging.Logger.callHandlers
    last_resort = logging.lastResort
    basic_config_as_before = logging.basicConfig

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        sender.handle(record)
        as_before(self, record)

    def basic_config(**options: Any) -> None:
        if options:  # else it is `logging.info` and the like, which see to it that somebody shows the record
            basic_config_as_before(**options)

    def leave_to_child() -> None:
        """A process that a task forks has logging as Python has it: the pipe is the worker's."""
        logging.Logger.callHandlers = as_before  # type: ignore[method-assign]
        logging.lastResort = last_resort
        logging.basicConfig = basic_config_as_before
        sender.leave()

    apply_levels(settings)
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
    logging.lastResort = logging.NullHandler()  # the master has one
    logging.basicConfig = basic_config
    os.register_at_fork(after_in_child=leave_to_child)
    return sender


class LogSender(logging.Handler):
    """Writes records to a pipe; what finds no room there is dropped and counted."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lost = 0
        self._serials = count()
        self._writing = threading.RLock()  # held for a few writes that never wait; a signal handler may log as well

    def handle(self, record: logging.LogRecord) -> bool:
        """Send a record; an error in it (arguments that do not fit) is reported as handlers do."""
        try:
            parts = _parts(record)
        except Exception:
            self.handleError(record)
        else:
            with self._writing:
                self._send(parts)
        return True

    def say_lost(self) -> None:
        """Tell how many records were lost, where no later one could."""
        with self._writing:
            if self._lost:
                self._send(_NO_RECORD)

    def leave(self) -> None:
        """Close the pipe, in a process that only has a copy of it; a task may have closed it before."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)

    def _send(self, record: Record) -> None:
        lost = self._lost + bool(record.name)  # it counts as lost until it is written
        try:
            for piece in encode_record(record._replace(lost=self._lost), next(self._serials)):
                os.write(self._fd, piece)
            lost = 0
        except OSError:  # full; or closed, by a task or by a master that is gone
            pass
        finally:
            self._lost = lost


def _parts(record: logging.LogRecord) -> Record:
    exc_text = record.exc_text
    if not exc_text and record.exc_info:
        exc_text = logging.Formatter().formatException(record.exc_info)
    return Record(
        0,
        _text(record.name),
        int(record.levelno),
        _text(record.levelname),
        _text(record.getMessage()),
        _text(record.pathname),
        int(record.lineno),
        _text_or_none(record.funcName),
        float(record.created),
        record.thread,
        _text_or_none(record.threadName),
        record.process,
        _text_or_none(record.processName),
        _text_or_none(getattr(record, "taskName", None)),
        _text_or_none(exc_text),
        _text_or_none(record.stack_info),
        {_text(key): _plain(value) for key, value in vars(record).items() if key not in _OWN},
    )


def _text(value: object) -> str:
    """Return exactly a str: what is derived from it would need its class at the other end."""
    return value if type(value) is str else "".join([str(value)])


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _plain(value: object) -> Any:
    """Return a value that needs no class at the other end: itself, or how it prints."""
    if type(value) is str:
        return value[:SHORT]
    if type(value) in _PLAIN:
        return value
    with contextlib.suppress(Exception):
        return repr(value)[:SHORT]
    return f"<{type(value).__qualname__} that cannot be printed>"
