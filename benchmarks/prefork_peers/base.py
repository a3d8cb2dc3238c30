"""A server with two worker processes: how it is started, reloaded and ended."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

WORKERS = 2
HOST = "127.0.0.1"
SECONDS_TO_START, SECONDS_TO_STOP = 30, 15
APPLICATIONS = "benchmarks.prefork_peers.applications"


class Server(ABC):
    """The master of a server, and what it logs."""

    name = ""

    def __init__(self) -> None:
        self.port = _free_port()
        self._log = Path(tempfile.gettempdir(), "log")

    @abstractmethod
    def command(self) -> list[str]:
        """The module to run, and its arguments."""

    async def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._process = self._run()
        async with asyncio.timeout(SECONDS_TO_START):
            while not await self._accepts():  # noqa: ASYNC110 - another process, which does not tell
                await asyncio.sleep(0.05)

    def reload(self) -> None:
        """Have all workers replaced: what SIGHUP means to every one of them."""
        self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it."""
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, SECONDS_TO_STOP)

    def _run(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *self.command()]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def _accepts(self) -> bool:
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"it has ended with {code}: {self._log.read_text()[-500:]}")
        try:
            _, writer = await asyncio.open_connection(HOST, self.port)
        except ConnectionRefusedError:
            return False
        writer.close()
        return True


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
