"""Run a Python script as a program of its own: own session, own output files, a deadline.

Output goes to files, not pipes, so that a script's left-over children cannot hold the reader up, and a test
can look at what was written so far at any time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from .processes import descendants, eventually, process

ROOT = Path(__file__).resolve().parents[2]
WARNINGS = ("-W", "error")


@dataclass(frozen=True)
class Finished:
    """How a script ended. ``returncode`` is minus the signal number where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str

    def check(self) -> Finished:
        """Fail the test, showing the output, unless the script ended with 0."""
        assert self.returncode == 0, str(self)
        return self

    def __str__(self) -> str:
        return f"exit status {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Script:
    """A script that runs; `running_script` makes it and ends it."""

    def __init__(self, popen: subprocess.Popen[bytes], directory: Path) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._directory = directory

    @property
    def stdout(self) -> str:
        """What it wrote so far."""
        return (self._directory / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """What it wrote so far."""
        return (self._directory / "stderr").read_text(errors="replace")

    def send_signal(self, number: int) -> None:
        """Signal the script's process alone."""
        self.popen.send_signal(number)

    def wait_output(self, text: str, timeout: float = 10) -> str:
        """Wait until its standard output holds the text; return the output."""

        def written() -> bool:
            return text in self.stdout or self.popen.poll() is not None

        eventually(written, timeout, lambda: f"{text!r} on stdout of the script\n{self._so_far()}")
        assert text in self.stdout, f"the script ended before it wrote {text!r}\n{self._so_far()}"
        return self.stdout

    def wait(self, timeout: float = 20) -> Finished:
        """Wait for the end of the script's own process; AssertionError when the time is over."""
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the script still runs after {timeout:g} s\n{self._so_far()}") from None
        return self._so_far()

    def _so_far(self) -> Finished:
        code = self.popen.returncode
        return Finished(0 if code is None else code, self.stdout, self.stderr)


class Options(TypedDict, total=False):
    """How to run a script."""

    env: Mapping[str, str | None]
    """Changes of the environment; None removes."""
    cwd: str | Path
    stdin: bytes
    python: Sequence[str]
    """Options of the interpreter; by default warnings are errors."""
    launcher: Sequence[str]
    """A command to put before the interpreter."""


@contextmanager
def running_script(source: str | Path, *arguments: str, **options: Unpack[Options]) -> Iterator[Script]:
    """Start a script (source text, or a path); on leaving, kill what is left of it and its descendants.

    It leads its own session and finds the package under test on PYTHONPATH.
    """
    with tempfile.TemporaryDirectory(prefix="script-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        command = [
            *options.get("launcher", ()),
            sys.executable,
            *options.get("python", WARNINGS),
            str(_as_file(source, directory)),
            *arguments,
        ]
        (directory / "stdin").write_bytes(options.get("stdin", b""))
        with (
            (directory / "stdin").open("rb") as read,
            (directory / "stdout").open("wb") as out,
            (directory / "stderr").open("wb") as err,
        ):
            popen = subprocess.Popen(
                command,
                stdin=read,
                stdout=out,
                stderr=err,
                env=_environment(options.get("env", {})),
                cwd=options.get("cwd"),
                start_new_session=True,
            )
        try:
            yield Script(popen, directory)
        finally:
            _end(popen)


def run_script(source: str | Path, *arguments: str, timeout: float = 20, **options: Unpack[Options]) -> Finished:
    """Run a script to its end; the options are those of `running_script`."""
    with running_script(source, *arguments, **options) as script:
        return script.wait(timeout)


def _as_file(source: str | Path, directory: Path) -> Path:
    if isinstance(source, Path):
        return source
    path = directory / "script.py"
    path.write_text(textwrap.dedent(source))
    return path


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    search = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    merged = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search)), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _end(popen: subprocess.Popen[bytes]) -> None:
    """Kill the script if it still runs, then those that were its descendants at that moment."""
    if popen.poll() is not None:
        return  # what it left behind is for the test, or the leak check, to find
    family = descendants(popen.pid)
    popen.kill()
    for each in family:
        now = process(each.pid)
        if now is not None and now.start == each.start:
            os.kill(each.pid, signal.SIGKILL)
    popen.wait()
