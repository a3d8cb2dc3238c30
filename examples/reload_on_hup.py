"""A server that reloads its settings on SIGHUP, shows them on SIGUSR1, and finishes on SIGTERM.

To end by itself it plays its own administrator: it edits its settings and sends itself the signals. In a program of
yours that is `kill -HUP PID`.
"""

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path

import aioipc


class Server:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, str] = {}
        self.reloads = asyncio.Condition()
        self.shown = asyncio.Event()

    async def reload(self) -> None:
        settings = json.loads(self.path.read_text())  # raises for a broken file: logged, and the old settings stay
        async with self.reloads:
            self.settings = settings
            self.reloads.notify_all()

    def show(self) -> None:
        print("settings:", self.settings)
        self.shown.set()

    async def greeting_becomes(self, text: str) -> None:
        async with self.reloads:
            await self.reloads.wait_for(lambda: self.settings["greeting"] == text)


async def administrate(server: Server) -> None:
    for greeting in ("good morning", "good evening"):
        server.path.write_text(json.dumps({"greeting": greeting}))
        aioipc.send_signal(os.getpid(), signal.SIGHUP)
        await server.greeting_becomes(greeting)
        server.shown.clear()
        aioipc.send_signal(os.getpid(), signal.SIGUSR1)
        await server.shown.wait()
    aioipc.send_signal(os.getpid(), signal.SIGTERM)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "settings.json"
        path.write_text('{"greeting": "hello"}')
        server = Server(path)
        await server.reload()
        responses = {signal.SIGHUP: server.reload, signal.SIGUSR1: server.show}
        async with aioipc.graceful_shutdown() as shutdown, aioipc.SignalRunbook(responses):
            administrator = asyncio.create_task(administrate(server))
            signum = await shutdown.requested()
            await administrator
        print("finished on", signum.name if signum else None)


aioipc.run(main)
