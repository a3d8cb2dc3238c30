"""The servers that are compared, each with the command line that its documentation shows for two workers.

Only what they log is made less, and where they would take another event loop, they are told to take uvloop.
"""

from __future__ import annotations

from .base import APPLICATIONS, HOST, WORKERS, Server


class Aioipc(Server):
    """``aioipc run`` with one of the services that are to be copied."""

    service = "serve_uvicorn"

    def command(self) -> list[str]:
        target = f"benchmarks.prefork_peers.services:{self.service}"
        bind = ["--bind", f"http=tcp://{HOST}:{self.port}"]
        return ["aioipc", "run", target, "--workers", str(WORKERS), *bind, "--no-control", "--log-level", "warning"]


class AioipcHypercorn(Aioipc):
    service = "serve_hypercorn"


class Uvicorn(Server):
    """uvicorn's own master."""

    def command(self) -> list[str]:
        place = ["--host", HOST, "--port", str(self.port)]
        quiet = ["--log-level", "warning", "--no-access-log"]
        return ["uvicorn", f"{APPLICATIONS}:asgi", "--workers", str(WORKERS), *place, *quiet]


class Hypercorn(Server):
    """hypercorn's own master."""

    def command(self) -> list[str]:
        place = ["--bind", f"{HOST}:{self.port}"]
        return [
            "hypercorn",
            "-k",
            "uvloop",
            "-w",
            str(WORKERS),
            *place,
            "--log-level",
            "warning",
            f"{APPLICATIONS}:asgi",
        ]


class Granian(Server):
    """granian's own master."""

    def command(self) -> list[str]:
        place = ["--host", HOST, "--port", str(self.port)]
        options = ["--interface", "asgi", "--loop", "uvloop", "--log-level", "warning"]
        return ["granian", *options, "--workers", str(WORKERS), *place, f"{APPLICATIONS}:asgi"]


class Gunicorn(Server):
    """gunicorn with synchronous workers, which keep no connection."""

    application = "wsgi"
    worker: tuple[str, ...] = ("-k", "sync")

    def command(self) -> list[str]:
        place = ["--bind", f"{HOST}:{self.port}"]
        quiet = ["--log-level", "warning"]
        return ["gunicorn", *self.worker, "-w", str(WORKERS), *place, *quiet, f"{APPLICATIONS}:{self.application}"]


class GunicornThreads(Gunicorn):
    worker = ("-k", "gthread", "--threads", "8")


class GunicornAsgi(Gunicorn):
    """gunicorn's own worker for ASGI."""

    application = "asgi"
    worker = ("-k", "asgi", "--asgi-loop", "uvloop")


class GunicornUvicorn(Gunicorn):
    application = "asgi"
    worker = ("-k", "uvicorn_worker.UvicornWorker")
