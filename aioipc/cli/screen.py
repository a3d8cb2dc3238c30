"""Where lines go: a terminal with its width and colours, or a file or pipe without; and how often."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Sequence

import click

from .failure import CommandError, errors_told
from .output import write_all

_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def descriptor() -> int:
    """The descriptor of standard output; `CommandError` where it is closed."""
    if sys.stdout is None:
        raise CommandError("standard output is closed")
    return sys.stdout.fileno()


def on_terminal() -> bool:
    """Whether standard output is one."""
    return os.isatty(descriptor())


def width() -> int | None:
    """How wide the terminal is; None where standard output is none."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def colours() -> bool:
    """Whether to use them: on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show(lines: Sequence[str], *, utf8: bool = False) -> None:
    """Write the lines in the encoding of the terminal, escaping what it does not have; JSON is always UTF-8.

    `CommandError` where they cannot be written, `BrokenPipeError` where the reader has left.
    """
    encoding = "utf-8" if utf8 else sys.stdout.encoding or "utf-8"
    data = "".join(f"{line}\n" for line in lines).encode(encoding, "backslashreplace")
    with errors_told():
        write_all(descriptor(), data)


def style(text: str, **how: bool | str) -> str:
    """The text with a colour, where there are colours."""
    return click.style(text, **how) if colours() else text  # type: ignore[arg-type]


def again_and_again(seconds: float, make: Callable[[], Sequence[str]], *, json: bool) -> None:
    """Show what ``make`` returns, every so many seconds, until Ctrl-C.

    On a terminal each replaces the one before, but for JSON. Raises `BrokenPipeError` as soon as the reader of a pipe
    has left, also between two.
    """
    while True:
        started = time.monotonic()
        lines = list(make())
        if on_terminal() and not json:
            lines = lines[: max(1, shutil.get_terminal_size().lines - 1)]
            lines[0] = _HOME_AND_CLEAR + lines[0]
        show(lines, utf8=json)
        _wait(max(0.0, started + seconds - time.monotonic()))


def _wait(seconds: float) -> None:
    poller = select.poll()
    poller.register(descriptor(), 0)  # what is reported unasked: the reader is gone
    if poller.poll(seconds * 1000):
        raise BrokenPipeError
