"""`aioipc map` as a process of its own: on pipes, on files, on a pseudo-terminal; always with a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.processes import eventually
from tests.harness.scripts import ROOT

DEADLINE = 30
APP_DIR = Path(__file__).parent
COMMAND = [sys.executable, "-W", "error", "-m", "aioipc", "map", "--app-dir", str(APP_DIR)]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "WEB_CONCURRENCY")}
    return {**inherited, "PYTHONPATH": path, "TERM": "xterm", **changes}


def run(*arguments: str, tasks: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run to the end; ``tasks`` come through a pipe."""
    content = tasks.encode() if isinstance(tasks, str) else tasks
    done = subprocess.run(
        [*COMMAND, *arguments], input=content, capture_output=True, timeout=DEADLINE, env=environment(**env)
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script in which ``$MAP`` is the command."""
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(MAP=" ".join(COMMAND), **env),
    )


@contextlib.contextmanager
def running(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start it; pipes for what ``options`` do not say otherwise. Killed at the end where it still runs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*COMMAND, *arguments], **{"env": environment(), **pipes, **options})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for file in (process.stdin, process.stdout, process.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()


class Terminal:
    """The far end of a pseudo-terminal that a command runs on."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.raw = ""

    @property
    def text(self) -> str:
        """What it has shown so far, without colours and cursor movements."""
        return _ESCAPES.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        """The lines as they ended up: what a carriage return let be overwritten is gone."""
        return [line.rpartition("\r")[2] for line in self.text.split("\r\n")]

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until it has shown the text; AssertionError at the deadline, or where it ends without."""
        end = time.monotonic() + DEADLINE
        while text not in self.text:
            assert self._read(end - time.monotonic()), f"{text!r} was not shown, but: {self.text!r}"

    def wait(self) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + DEADLINE
        while self._read(max(0.0, end - time.monotonic())):
            pass
        return self.process.wait(DEADLINE)

    def _read(self, timeout: float) -> bool:
        if not select.select([self._descriptor], [], [], max(0.0, timeout))[0]:
            return False
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.raw += chunk.decode(errors="replace")
        return bool(chunk)


@contextlib.contextmanager
def on_terminal(*arguments: str, stdout: Any = None, **env: str) -> Iterator[Terminal]:
    """Start it with a pseudo-terminal as its controlling terminal, standard input and error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        env=environment(**env),
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def records(text: str) -> list[dict[str, Any]]:
    """The result lines."""
    return [json.loads(line) for line in text.splitlines()]


def results(text: str) -> dict[Any, Any]:
    """Task -> result, of tasks that are texts or numbers."""
    return {record["task"]: record["result"] for record in records(text)}


class Gate:
    """A FIFO that a task waits on, see ``wait_for_writer``."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)

    def wait_reader(self) -> int:
        """Wait until the task has opened it; the descriptor to write to."""

        def opened() -> int:
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # ENXIO: not yet
                return 0

        return eventually(opened, DEADLINE, f"a reader of {self.path}")

    def open(self, text: str = "opened") -> None:
        """Let the task go on."""
        descriptor = self.wait_reader()
        os.write(descriptor, text.encode())
        os.close(descriptor)
