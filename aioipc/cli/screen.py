"""Where lines go: a terminal with its width and colours, or a file or pipe without; and how often."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Sequence

import click

_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def width() -> int | None:
    """How wide the terminal is; None where standard output is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colours() -> bool:
    """Whether to use them: on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(lines: Sequence[str]) -> None:
    """Write the lines, what is not UTF-8 in a name escaped."""
    text = "".join(f"{line}\n" for line in lines)
    click.echo(text.encode("utf-8", "backslashreplace").decode(), nl=False, color=colours())
    sys.stdout.flush()


def style(text: str, **how: bool | str) -> str:
    """The text with a colour, where there are colours."""
    return click.style(text, **how) if colours() else text  # type: ignore[arg-type]


def again_and_again(seconds: float, make: Callable[[], Sequence[str]], *, clear: bool) -> None:
    """Show what ``make`` returns, every so many seconds, until Ctrl-C.

    ``clear``: on a terminal, each replaces the one before. Raises `BrokenPipeError` as soon as the reader of a pipe has
    left, also between two.
    """
    while True:
        started = time.monotonic()
        lines = list(make())
        if clear and sys.stdout.isatty():
            height = shutil.get_terminal_size().lines
            sys.stdout.write(_HOME_AND_CLEAR)
            lines = lines[: max(1, height - 1)]
        show(lines)
        _wait(max(0.0, started + seconds - time.monotonic()))


def _wait(seconds: float) -> None:
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # what is reported unasked: the reader is gone
    if poller.poll(seconds * 1000) and not sys.stdout.isatty():
        raise BrokenPipeError
