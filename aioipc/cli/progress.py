"""How far ``aioipc map`` is, and how it went, in plain lines."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field

import click

LINE_PAUSE = 5.0


@dataclass(slots=True)
class Counters:
    """What has happened so far; written by the loop, read by the display."""

    total: int | None = None
    done: int = 0
    failed: int = 0
    dropped: int = 0
    running_out: str = ""
    """Why no more tasks are started, where that is so."""
    started: float = field(default_factory=time.monotonic)

    @property
    def settled(self) -> int:
        """Tasks with a result line."""
        return self.done + self.failed

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Tasks settled per second, from the start."""
        return self.settled / max(self.seconds, 1e-6)


class Lines:
    """One plain line every few seconds, for logs."""

    pause = LINE_PAUSE

    def show(self, counters: Counters) -> None:
        """Write a line."""
        total = f" of {counters.total:,}" if counters.total is not None else ""
        say(f"{counters.done:,}{total} done, {counters.failed:,} failed, {rate_text(counters)}{_left(counters)}")

    def close(self) -> None:
        """Nothing to tidy."""


def say(text: str, *, error: bool = False) -> None:
    """One line from the command itself, on standard error."""
    line = f"aioipc map: {text}"
    try:
        click.echo(click.style(line, fg="red") if error and not os.environ.get("NO_COLOR") else line, err=True)
    except OSError:
        pass


class SayWarnings(logging.Handler):
    """Shows the package's warnings, as that a worker died; what ends the run is told as an error anyway."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        if record.levelno == logging.WARNING:
            say(record.getMessage())


def summary(counters: Counters, retried: int) -> str:
    """What happened, in one line."""
    parts = [f"{counters.done:,} done", f"{counters.failed:,} failed", f"{retried:,} retried"]
    if counters.dropped:
        parts.append(f"{counters.dropped:,} not finished")
    return f"{', '.join(parts)} in {counters.seconds:.1f} s ({rate_text(counters)})"


def rate_text(counters: Counters) -> str:
    """Tasks per second, readable."""
    return f"{counters.rate:,.0f} tasks/s" if counters.rate >= 10 else f"{counters.rate:.1f} tasks/s"


def _left(counters: Counters) -> str:
    if counters.total is None or not counters.settled:
        return ""
    seconds = (counters.total - counters.settled) / counters.rate
    return f", about {seconds:,.0f} s left" if seconds < 120 else f", about {seconds / 60:,.0f} min left"
