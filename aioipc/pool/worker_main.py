"""Entry point of a pool's worker process: puts its parts together and runs them."""

from __future__ import annotations

import io
import os
import sys
from types import CoroutineType
from typing import Any

from ..supervisor.boot import Inheritance, release_stderr
from ..wire import pool_protocol as protocol
from ..wire.pool_protocol import TaskItem
from .worker import MasterGone, Worker
from .worker_control import ControlThread


def main(inheritance: Inheritance, saved_stderr: int) -> int:
    """Be a worker; returns the exit status. Entry function of the zygote's children."""
    worker = Worker(inheritance, _enter_loop)
    try:
        worker.boot()
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
    return 0


def _enter_loop(worker: Worker, task: TaskItem, coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Go async; only a worker that comes here loads asyncio, which takes longer than all the rest of its start."""
    from .worker_async import run_async_phase

    run_async_phase(worker, task, coroutine)


def _close_loop() -> None:
    if (module := sys.modules.get("aioipc.pool.worker_async")) is not None:
        module.close_loop()
