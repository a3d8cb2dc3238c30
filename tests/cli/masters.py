"""`aioipc run` as a process of its own, and `aioipc ctl` beside it; always with a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aioipc import ControlClient

from ..harness.processes import eventually
from .command import environment

LONG = 40.0
SERVICE = """
import asyncio, logging, os, sys
ANSWER = "one"

async def serve(worker):
    logging.getLogger("shop").info("version %s", ANSWER, extra={"answer": ANSWER})
    print("printed", flush=True)
    await worker.ready()
    await worker.stopping()

async def stubborn(worker):
    await worker.ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def broken(worker):
    sys.exit("this is why")
"""


class Running:
    """A master that was started."""

    def __init__(self, popen: subprocess.Popen[bytes], directory: Path, log: str) -> None:
        self.popen = popen
        self.pid: int = popen.pid
        self.directory = directory
        self._log = directory / log

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def wait_log(self, text: str, times: int = 1) -> str:
        """Wait until it has logged that so often."""
        eventually(lambda: self.popen.poll() is not None or self.log.count(text) >= times, LONG, lambda: self.log)
        assert self.log.count(text) >= times, self.log
        return self.log

    def blocks(self, signum: int, pid: int | None = None) -> bool:
        """Whether it, or another process, keeps a signal for later."""
        status = Path(f"/proc/{pid or self.pid}/status").read_text()
        mask = int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
        return bool(mask & 1 << (signum - 1))

    def send(self, *signums: int) -> None:
        for signum in signums:
            self.popen.send_signal(signum)

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        try:
            return self.popen.wait(LONG)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.log) from None

    def status(self) -> dict[str, Any]:
        with ControlClient(self.directory / "state" / f"run-{self.pid}.sock") as client:
            found: dict[str, Any] = client.request("status", timeout=LONG)
        return found

    def processes(self) -> list[dict[str, Any]]:
        """Those that serve."""
        found = [each for child in self.status()["children"] for each in child["processes"]]
        return [each for each in found if each["role"] == "serving" and each["state"] == "RUNNING"]

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until that is so of the status, and return it."""
        found: list[dict[str, Any]] = []

        def is_so() -> bool:
            found[:] = [self.status()]
            return bool(condition(found[0]))

        eventually(is_so, LONG, lambda: self.log)
        return found[0]

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `aioipc ctl`, which is to find it by itself."""
        command = [sys.executable, "-W", "error", "-m", "aioipc", "ctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, env=_environment(self.directory))

    def records(self) -> list[dict[str, Any]]:
        """The log as JSON lines."""
        return [json.loads(line) for line in self.log.splitlines()]


@contextlib.contextmanager
def master(
    directory: Path,
    *arguments: str,
    env: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    log: str = "stderr",
    program: Sequence[str] = ("-m", "aioipc"),
    **options: Any,
) -> Iterator[Running]:
    """Start `aioipc run` in a directory; killed at the end where it still runs."""
    (directory / "state").mkdir(0o700, exist_ok=True)
    with open(directory / log, "wb") as err, open(directory / "stdout", "wb") as out:
        popen = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", *program, "run", *arguments],
            **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, "cwd": directory, **options},
            env={**_environment(directory), **(env or {})},
        )
    try:
        yield Running(popen, directory, log)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def _environment(directory: Path) -> dict[str, str]:
    return environment(AIOIPC_STATE_DIR=os.fspath(directory / "state"), COLUMNS="200")
