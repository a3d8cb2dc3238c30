"""An ASGI application in two worker processes, under load, while all of them are replaced again and again.

python examples/asgi_prefork.py --server uvicorn --reloads 20
aioipc run asgi_prefork:serve_uvicorn --app-dir examples --workers 2 --bind http=tcp://127.0.0.1:8000

`serve_uvicorn` and `serve_hypercorn` are to be copied. In both the worker stops in three steps, so that nothing is lost
that was accepted, and hardly a keep-alive connection is closed under a request that is on its way:

1. It accepts no more. The master holds the socket, so who comes waits there for another worker.
2. Each answer says "Connection: close" and ends its connection (`Draining`). Connections whose request has not come
   yet, those that were just accepted and those that are kept, have LINGER seconds to send it.
3. The server closes what is idle, finishes what it is answering, and ends the lifespan of the application.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aioipc

LINGER = 1.0
"""Seconds that connections get to send one more request."""
LAST_STEP = 1.0
"""Seconds before the deadline at which requests are given up, so that the application can still end well."""


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    """Any ASGI application. This one answers with its pid and the length of what it was sent; /slow takes a while."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.1)
    body = b"%d %d" % (os.getpid(), length)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# -- to be copied ------------------------------------------------------------------------------------------


class Draining:
    """ASGI middleware: while the worker stops, each answer ends its connection. Counts requests, for ``max_tasks``."""

    def __init__(self, app: Callable[..., Awaitable[None]], worker: aioipc.WorkerContext) -> None:
        self._app, self._worker = app, worker

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Any) -> None:
            if message["type"] == "http.response.start" and self._worker.is_stopping and scope["http_version"] < "2":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_and_close)
        self._worker.count_work()


def seconds_left(worker: aioipc.WorkerContext) -> float | None:
    """How long requests may still take once the worker stops; None: without end."""
    left = worker.stop_deadline - asyncio.get_running_loop().time() - LAST_STEP
    return None if math.isinf(left) else max(left, 0.0)


def linger(worker: aioipc.WorkerContext) -> float:
    """How long to wait for one more request: LINGER, or half of what is left."""
    left = seconds_left(worker)
    return LINGER if left is None else min(LINGER, left / 2)


async def stop_accepting(servers: Iterable[Any]) -> None:
    """Close servers, and lose nobody: asyncio's own loop drops whoever was accepted right before ``Server.close``."""
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())  # on uvloop, which drops nobody, this does nothing
    for _ in range(10):  # turns of the loop, in which they become connections
        await asyncio.sleep(0)
    for server in servers:
        server.close()


async def serve_uvicorn(worker: aioipc.WorkerContext) -> None:
    """Serve the application by uvicorn (0.30 or later)."""
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return contextlib.nullcontext()  # SIGTERM is for aioipc, which makes it stopping()

        async def main_loop(self) -> None:
            """What is between its start, with the lifespan, and its shutdown."""
            await worker.ready()
            ticking = asyncio.create_task(super().main_loop())  # it keeps the Date header right
            await worker.stopping()
            await stop_accepting(self.servers)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger(worker)):
                    while self.server_state.connections:  # noqa: ASYNC110 - nothing tells of their end
                        await asyncio.sleep(0.02)
            self.config.timeout_graceful_shutdown = seconds_left(worker)
            self.should_exit = True
            await ticking

    config = uvicorn.Config(Draining(app, worker), log_config=None, access_log=False)  # logs go through the master
    await Server(config).serve(sockets=[worker.listeners["http"]])


async def serve_hypercorn(worker: aioipc.WorkerContext) -> None:
    """Serve the application by hypercorn (0.17 or later)."""
    import hypercorn.asyncio

    config = hypercorn.Config()
    config.bind = [f"fd://{worker.listeners['http'].dup().detach()}"]
    config.errorlog = logging.getLogger("hypercorn")  # it goes through the master
    config.backlog = 2048  # it listens once more, which sets that of the socket for all

    async def started_then_stopping() -> None:
        """What hypercorn waits for between its start, with the lifespan, and its shutdown."""
        await worker.ready()
        await worker.stopping()
        await stop_accepting(servers)
        await asyncio.sleep(linger(worker))  # it tells nobody how many connections there are
        config.graceful_timeout = seconds_left(worker)

    with servers_made() as servers:
        await hypercorn.asyncio.serve(Draining(app, worker), config, shutdown_trigger=started_then_stopping)


@contextlib.contextmanager
def servers_made() -> Iterator[list[asyncio.Server]]:
    """Collect the servers that the loop makes: hypercorn keeps its own to itself, and closes them too late."""
    loop: Any = asyncio.get_running_loop()
    make, made = loop.create_server, []

    async def make_and_keep(*args: Any, **options: Any) -> asyncio.Server:
        made.append(await make(*args, **options))
        return made[-1]

    loop.create_server = make_and_keep
    try:
        yield made
    finally:
        del loop.create_server


# -- the demonstration -------------------------------------------------------------------------------------


async def demonstrate(server: str, reloads: int, with_wrk: bool) -> dict[str, Any]:
    """Run two workers, have clients ask while they are replaced, and return what has come of it."""
    from http_load import Tally, load

    print(f"{server}: two workers, {reloads} reloads", file=sys.stderr)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as directory, running(server, Path(directory)) as (master, host, port):

        async def reload_again_and_again(_: Tally) -> None:
            for number in range(1, reloads + 1):
                started = time.monotonic()
                await asyncio.to_thread(master.request, "reload", timeout=60)
                seconds.append(time.monotonic() - started)
                if number % 5 == 0:
                    print(f"  {number} of {reloads} reloads", file=sys.stderr)
            await asyncio.sleep(LINGER + 0.5)  # the last of the old workers goes

        with wrk(f"http://{host}:{port}/") if with_wrk else contextlib.nullcontext([]) as found:
            tally, took = await load(host, port, reload_again_and_again)
    return {
        "server": server,
        "requests/s": round(tally.answered / took),
        "answered": tally.answered,
        "failed": tally.failed,
        "failures": dict(tally.failures),
        "closed idle": tally.closed_idle,
        "sent again": tally.sent_again,
        "slowest answer": round(tally.slowest, 2),
        "processes": len(tally.processes),
        "reload": round(sum(seconds) / len(seconds), 2),
        "slowest reload": round(max(seconds), 2),
        "wrk": " ".join(found),
    }


@contextlib.contextmanager
def running(server: str, directory: Path) -> Iterator[tuple[aioipc.ControlClient, str, int]]:
    """Have ``aioipc run`` serve; yields a connection to the master, and where the workers listen."""
    control, log = directory / "run.sock", directory / "log"
    command = [sys.executable, "-m", "aioipc", "run", f"asgi_prefork:serve_{server}", "--workers", "2"]
    command += ["--app-dir", str(Path(__file__).parent), "--bind", "http=tcp://127.0.0.1:0", "--control", str(control)]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            with started(process, control) as master:
                address = master.request("status")["children"][0]["listeners"]["http"]
                host, _, port = address.removeprefix("tcp://").rpartition(":")
                yield master, host, int(port)
        except BaseException:
            print(log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()


def started(process: subprocess.Popen[bytes], control: Path) -> aioipc.ControlClient:
    """Wait until all workers are ready, and connect to the master."""
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        if control.exists():
            with contextlib.suppress(aioipc.ControlError):
                master = aioipc.ControlClient(control)
                if master.request("status")["state"] == "running":
                    return master
                master.close()
        time.sleep(0.05)
    raise SystemExit("the workers do not start")


@contextlib.contextmanager
def wrk(url: str) -> Iterator[list[str]]:
    """Have wrk ask beside our own clients, and give its last lines at the end.

    Its "read" errors are connections that ended while it waited for an answer, whatever the reason.
    """
    found: list[str] = []
    with subprocess.Popen(["wrk", "-t1", "-c8", "-d3600s", url], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield found
        finally:
            process.send_signal(2)
            assert process.stdout is not None
            lines = [line.strip() for line in process.stdout]
            found += [line for line in lines if "requests in" in line or "errors" in line or "Non-2xx" in line]


async def main(servers: list[str], reloads: int, with_wrk: bool, as_json: bool) -> bool:
    results = [await demonstrate(server, reloads, with_wrk) for server in servers]
    if as_json:
        print(json.dumps(results, indent=1))
    else:
        for name in results[0]:
            print(f"{name:>15}", *(f"{_shown(result[name]):>20}" for result in results), sep="  ")
    return not any(result["failed"] for result in results)


def _shown(figure: object) -> str:
    return "-" if figure in ({}, "") else str(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", choices=("uvicorn", "hypercorn"), help="both, where none is named")
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--no-wrk", action="store_true", help="leave out wrk, which asks too where it is installed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = options.server or ["uvicorn", "hypercorn"]
    if missing := [name for name in chosen if importlib.util.find_spec(name) is None]:
        sys.exit(f"this example needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    has_wrk = not options.no_wrk and shutil.which("wrk") is not None
    sys.exit(0 if aioipc.run(main(chosen, options.reloads, has_wrk, options.json)) else 1)
