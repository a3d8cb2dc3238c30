"""Run all tests as two processes at once: most tests wait, and machines have a second core.

Each process has namespaces, a temporary directory and a reaper of its own (`aioipc.testing.plugin`), so neither sees
the other. pytest-xdist would do it with threads and pipes in the very processes whose threads and pipes the tests
count.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock, Thread
from typing import TextIO

TESTS = Path(__file__).parent
FIRST = {"cli", "pool"}  # about half of the time

_printing = Lock()


def main() -> int:
    """Return the first exit code that is not 0."""
    os.chdir(TESTS.parent)
    names = sorted({path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")})
    halves = [[f"tests/{name}" for name in names if (name in FIRST) is first] for first in (True, False)]
    runs = [_start(half) for half in halves]
    signal.signal(signal.SIGTERM, lambda *_: [run.terminate() for run in runs])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to them, too
    readers = [Thread(target=_copy, args=[run.stdout]) for run in runs]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return max(abs(run.wait()) for run in runs)


def _start(paths: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


def _copy(lines: TextIO | None) -> None:
    """Print whole lines as they come; what follows the tests themselves all at once, since it belongs together."""
    assert lines is not None
    report: list[str] = []
    for number, line in enumerate(lines):
        if report or (number and line.startswith("====")):
            report.append(line)
        else:
            _print(line)
    _print("".join(report))


def _print(text: str) -> None:
    with _printing:
        sys.stdout.write(text)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
