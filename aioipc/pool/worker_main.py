"""Entry point of a pool's worker process: puts its parts together and runs them."""

from __future__ import annotations

import io
import os
import sys
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..supervisor.boot import Inheritance, release_stderr
from ..wire import pool_protocol as protocol
from ..wire.pool_protocol import TaskItem
from .worker import MasterGone, Worker
from .worker_control import ControlThread

if TYPE_CHECKING:
    from .worker_logging import LogSender


def main(inheritance: Inheritance, saved_stderr: int) -> int:
    """Be a worker; returns the exit status. Entry function of the zygote's children."""
    worker = Worker(inheritance, _enter_loop)
    sender: LogSender | None = None
    try:
        worker.boot()
        sender = _send_logs(inheritance.logs, worker.settings)
        worker.take_signals()
        worker.scoreboard.register()
        ControlThread(worker).start()
        worker.send(protocol.encode_plain(protocol.READY, os.getpid()))
        release_stderr(saved_stderr, inheritance.stderr)
        if isinstance(sys.stdout, io.TextIOWrapper):  # what a task prints is seen at once, and not lost with the worker
            sys.stdout.reconfigure(line_buffering=True)
        worker.serve()
        _close_loop()
    except MasterGone:
        return 1
    finally:
        if sender is not None:
            sender.say_lost()
    return 0


def _enter_loop(worker: Worker, task: TaskItem, coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Go async; only a worker that comes here loads asyncio, which takes longer than all the rest of its start."""
    from .worker_async import run_async_phase

    run_async_phase(worker, task, coroutine)


def _send_logs(fd: int, settings: dict[str, Any]) -> LogSender | None:
    """Send log records to the master, where it wants them; else `logging` is not even imported."""
    if fd < 0:
        return None
    from .worker_logging import install

    return install(fd, settings["logs"])


def _close_loop() -> None:
    if (module := sys.modules.get("aioipc.pool.worker_async")) is not None:
        module.close_loop()
