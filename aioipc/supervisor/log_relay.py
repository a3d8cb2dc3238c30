"""Log records of a worker, handed to the loggers of the master as if they had been logged here."""

from __future__ import annotations

import asyncio
import logging
import os

from ..wire.log_protocol import Record, RecordDecoder
from .pipe_reader import PipeReader
from .source import Source

PORTIONS_AHEAD = 4
"""Portions read before results are: records come before the result of their task, unless it has flooded us."""


class LogRelay(PipeReader):
    """Reads the log pipe ``fd`` of a worker on the loop; the descriptor stays its owner's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, source: Source) -> None:
        super().__init__(loop, fd)
        self._source = source
        self._log = logging.getLogger(source.logger)
        self._decoder = RecordDecoder(self._garbage)
        self._warned = False
        self.listen()

    def read_ahead(self) -> None:
        """Read what is there, but not for long."""
        self._read_portions(PORTIONS_AHEAD)

    def _take(self, data: bytes) -> None:
        for record in self._decoder.feed(data):
            if record.lost:
                self._log.warning("%d log records of %s were lost", record.lost, self._source.label)
            if record.name:
                self._replay(record)

    def _replay(self, record: Record) -> None:
        try:
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(to_log_record(record, self._source))
        except Exception as error:  # a handler's or filter's own; it must not cost the records that follow
            self._loop.call_exception_handler(
                {"message": f"a log record of {self._source.label} could not be handled", "exception": error}
            )

    def _garbage(self) -> None:
        if not self._warned:
            self._warned = True
            self._log.warning(
                "%s has written to the descriptor of its log records; that is ignored", self._source.label
            )


def to_log_record(record: Record, source: Source) -> logging.LogRecord:
    """Return the record as `logging` has it, with ``worker`` as an attribute, and ``service`` where it is one."""
    name = record.process_name
    log_record = logging.makeLogRecord(
        {
            **record.extra,
            **({"service": source.service} if source.service else {}),
            "name": record.name,
            "msg": record.message,
            "args": None,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "pathname": record.pathname,
            "filename": os.path.basename(record.pathname),
            "module": os.path.splitext(os.path.basename(record.pathname))[0],
            "lineno": record.lineno,
            "funcName": record.function,
            "thread": record.thread,
            "threadName": record.thread_name,
            "process": record.process,
            "processName": source.process_name if name in (None, "MainProcess") else name,
            "taskName": record.task_name,
            "exc_info": None,
            "exc_text": record.exc_text,
            "stack_info": record.stack_info,
            "worker": source.slot,
        }
    )
    ago = record.created - log_record.created
    log_record.relativeCreated += ago * 1000
    log_record.created = record.created
    log_record.msecs = float(int(record.created % 1 * 1000))
    return log_record
