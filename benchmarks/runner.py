"""Runs one measurement in a fresh process, ends it at its cap, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .procfs import children_of

ROOT = Path(__file__).resolve().parents[1]
_PR_SET_CHILD_SUBREAPER = 36
_SECONDS_TO_GO = 1.0
_CHILD = (sys.executable, "-W", "ignore", "-m", "benchmarks.child")


@dataclass(frozen=True)
class Outcome:
    """What came of one case. ``value`` is None where there is none; ``note`` says why, or what else there is to say."""

    value: float | None
    note: str = ""


class Outcomes(dict[str, Outcome]):
    """What came of one measurement, by case; where it failed, it did so for each."""

    def __init__(self, found: Mapping[str, Outcome], failure: str = "") -> None:
        super().__init__(found)
        self._failure = failure

    def __missing__(self, case: str) -> Outcome:
        return Outcome(None, self._failure or "none: it gives no such figure")


def adopt_orphans() -> None:
    """Become the parent of whatever a peer leaves behind, so that `measure` can end it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(suite: str, peer: str, case: str, size: float, cap: float) -> Outcomes:
    """Run the child; its standard output is ours no more, its standard error is read when it fails."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        answer, errors = Path(directory, "answer"), Path(directory, "errors")
        command = [*_CHILD, suite, peer, case, str(size), str(answer)]
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": search, "TMPDIR": directory},
                start_new_session=True,
            )
            try:
                late = _wait(child, cap)
            finally:  # also when the user interrupts us
                _kill_session(child)
                _end_children()  # before their directory goes
        return _outcomes(answer, errors, late, cap)


def _wait(child: subprocess.Popen[bytes], cap: float) -> bool:
    try:
        child.wait(cap)
    except subprocess.TimeoutExpired:
        return True
    return False


def _kill_session(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)  # it leads the session that we started for it
        child.wait()


def _outcomes(answer: Path, errors: Path, late: bool, cap: float) -> Outcomes:
    if not answer.exists():
        lines = errors.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return Outcomes({}, f"hangs: no end within {cap:g} s" if late else f"failed: {last}")
    found = json.loads(answer.read_text())
    if "values" not in found:
        return Outcomes({}, f"none: {found['unable']}" if "unable" in found else f"failed: {found['error']}")
    notes = found.get("notes", {})
    return Outcomes({case: _outcome(float(value), notes.get(case, "")) for case, value in found["values"].items()})


def _outcome(value: float, note: str) -> Outcome:
    return Outcome(value, "never" if math.isinf(value) else note)


def _end_children() -> None:
    """Ask the orphans that came to us to end, then make them."""
    own = os.getpid()
    for number, patience in ((signal.SIGTERM, _SECONDS_TO_GO), (signal.SIGKILL, 2 * _SECONDS_TO_GO)):
        end = time.monotonic() + patience
        while (left := _reap(own)) and time.monotonic() < end:
            for pid in left:
                os.kill(pid, number)  # not yet reaped: the number is still theirs
            time.sleep(0.01)


def _reap(own: int) -> list[int]:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    return children_of(own)
