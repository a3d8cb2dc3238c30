"""A script in the foreground of a pseudo-terminal, where keys make signals."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import eventually
from .scripts import ROOT

CTRL_C = b"\x03"


class Terminal:
    """A script in the foreground of a pseudo-terminal."""

    def __init__(self, master: int, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self._master = master
        self._shown = b""

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def shown(self) -> str:
        try:
            while chunk := os.read(self._master, 65536):
                self._shown += chunk
        except OSError:  # EAGAIN: nothing more now; EIO: all have closed it
            pass
        return self._shown.decode().replace("\r\n", "\n")

    def wait_shown(self, text: str) -> None:
        eventually(lambda: text in self.shown(), 10, lambda: f"{text!r} in {self.shown()!r}")


@contextmanager
def terminal(source: str, directory: Path) -> Iterator[Terminal]:
    path = directory / "script.py"
    path.write_text(textwrap.dedent(source))
    master, slave = os.openpty()
    os.set_blocking(master, False)
    popen = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, str(path)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_COLORS": "0"},  # no colours in tracebacks (3.13)
    )
    os.close(slave)
    try:
        yield Terminal(master, popen)
    finally:
        popen.kill()
        popen.wait()
        os.close(master)
