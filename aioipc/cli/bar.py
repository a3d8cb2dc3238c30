"""The progress bar of ``aioipc map``, at the bottom of the terminal, with what processes print scrolling above it.

While the bar is there, descriptors 1 and 2 lead into a pipe. So whatever the workers, their children, or we
ourselves print is read by a thread, which hands it to rich in whole lines; nothing tears the bar apart.
"""

from __future__ import annotations

import os
import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from .progress import Counters, rate_text

CHUNK = 64 * 1024
PAUSE = 0.2
LAST_WORDS = 1.0
"""Seconds to wait, at the end, for the output of a process that outlives the workers."""


class Bar:
    """A `Display` for terminals; owns descriptors 1 and 2 until it is closed."""

    pause = PAUSE

    def __init__(self) -> None:
        self._terminal = os.dup(2)
        self._console = Console(file=os.fdopen(self._terminal, "w"), highlight=False)
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("[red]{task.fields[failed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("[yellow]{task.fields[note]}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._id = self._progress.add_task("", total=None, rate="", failed="", note="")
        self._take_descriptors()
        self._progress.start()

    def show(self, counters: Counters) -> None:
        """Draw the bar anew."""
        self._fit()
        self._progress.update(
            self._id,
            total=counters.total,
            completed=counters.settled,
            rate=rate_text(counters),
            failed=f"{counters.failed:,} failed" if counters.failed else "",
            note=counters.running_out,
            refresh=True,
        )

    def close(self) -> None:
        """Take the bar away, and give the descriptors back."""
        os.dup2(self._terminal, 1)
        os.dup2(self._terminal, 2)
        self._relay.join(timeout=LAST_WORDS)
        self._progress.stop()

    def _take_descriptors(self) -> None:
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._relay = threading.Thread(target=self._print_all, args=(read,), name="aioipc-map-relay", daemon=True)
        self._relay.start()

    def _print_all(self, source: int) -> None:
        rest = b""
        try:
            while chunk := os.read(source, CHUNK):
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                if newline:
                    self._print(lines)
            if rest:
                self._print(rest)
        finally:
            os.close(source)

    def _print(self, lines: bytes) -> None:
        text = Text.from_ansi(lines.decode("utf-8", "replace"))
        try:
            self._console.print(text, soft_wrap=True)
        except OSError:  # the terminal is gone; who prints must not be held up, nor fail, for that
            pass

    def _fit(self) -> None:
        """Follow the terminal's width: rich would ask descriptors that are no terminal now."""
        self._console.width = os.get_terminal_size(self._terminal).columns or 80
