"""Which way the progress of ``aioipc map`` is shown, and the thread that shows it.

A daemon thread draws, from plain counters that the loop adds to: a terminal that is stopped with Ctrl-S,
or a log that is slow, holds up this thread and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Protocol

from .progress import Counters, Lines

PATIENCE = 2.0
"""Seconds that a display gets to end."""


class Display(Protocol):
    """A way to show `Counters`."""

    pause: float

    def show(self, counters: Counters) -> None:
        """Show how far it is now."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class DisplayThread:
    """Shows ``counters`` on ``display`` again and again until it is closed."""

    def __init__(self, counters: Counters, display: Display) -> None:
        self._counters = counters
        self._display = display
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aioipc-map-display", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop showing; a display stuck in a stopped terminal is left behind."""
        self._stop.set()
        self._thread.join(timeout=PATIENCE)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # standard error is gone or full: there is nobody to tell
            while not self._stop.wait(self._display.pause):
                self._display.show(self._counters)
        with contextlib.suppress(OSError):
            self._display.close()


def count_in_background(counters: Counters, count: Callable[[], int | None]) -> None:
    """Set ``counters.total`` once ``count()`` knows it; a large file is not waited for."""

    def run() -> None:
        counters.total = count()

    threading.Thread(target=run, name="aioipc-map-count", daemon=True).start()


def choose_display(*, quiet: bool, results_on_terminal: bool) -> Display | None:
    """The display that fits where standard error leads.

    None where the results themselves scroll by on the terminal: a bar would get between them.
    """
    if quiet:
        return None
    if not os.isatty(2) or os.environ.get("TERM") == "dumb":
        return Lines()
    if results_on_terminal:
        return None
    from .bar import Bar  # rich is worth its time only where a bar is drawn

    return Bar()
