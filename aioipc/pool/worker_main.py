"""Entry point of a pool's worker process: puts its parts together and runs them."""

from __future__ import annotations

import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..supervisor import stack_dump
from ..supervisor.boot import Inheritance, release_stderr
from ..supervisor.control_thread import MasterGone
from ..supervisor.serialization import loads
from ..wire import pool_protocol as protocol
from ..wire.pool_protocol import TaskItem
from .current_worker import PoolWorker, become, current_worker
from .worker import Worker
from .worker_control import WorkerControl

if TYPE_CHECKING:
    from ..supervisor.worker_logging import LogSender


def main(inheritance: Inheritance, saved_stderr: int) -> int:
    """Be a worker; returns the exit status. Entry function of the zygote's children."""
    worker = Worker(inheritance, _enter_loop)
    sender: LogSender | None = None
    try:
        worker.boot()
        sender = _send_logs(inheritance.logs, worker.settings)
        become(PoolWorker(worker.settings["slot"], os.getpid()))
        _initialize(worker)
        worker.take_signals()
        worker.scoreboard.register()
        WorkerControl(worker).start()
        dumps = os.dup(inheritance.stderr)
        release_stderr(saved_stderr, inheritance.stderr)
        stack_dump.enable(dumps)
        stack_dump.clear()
        if isinstance(sys.stdout, io.TextIOWrapper):  # what a task prints is seen at once, and not lost with the worker
            sys.stdout.reconfigure(line_buffering=True)
        worker.send(protocol.encode_plain(protocol.READY, os.getpid()))
        worker.serve()
        status = _finalize(worker, logged=sender is not None)
        _close_loop()
    except MasterGone:
        return 1
    finally:
        if sender is not None:
            sender.say_lost()
    return status


def _initialize(worker: Worker) -> None:
    if (pickled := worker.settings["initializer"]) is not None:
        current_worker().state = _call(*loads(pickled))


def _finalize(worker: Worker, *, logged: bool) -> int:
    """Call the finalizer, if there is one; nobody is left to hear of its failure but the log of the pool."""
    if (pickled := worker.settings["finalizer"]) is not None:
        try:
            function, _ = loads(pickled)
            _call(function, (current_worker().state,))
        except Exception:
            if logged:
                import logging

                logging.getLogger("aioipc.pool").exception("the finalizer of %s raised", worker.settings["name"])
            else:
                traceback.print_exc()
            return 1
    return 0


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function; where it is async, wait for it in the loop of the tasks to come."""
    value = function(*arguments)
    if not inspect.iscoroutine(value):
        return value
    from .worker_async import run_in_loop

    return run_in_loop(value)


def _enter_loop(worker: Worker, task: TaskItem, begun: Any) -> None:
    """Go async; only a worker that comes here loads asyncio, which takes longer than all the rest of its start."""
    from .worker_async import run_async_phase

    run_async_phase(worker, task, begun)


def _send_logs(fd: int, settings: dict[str, Any]) -> LogSender | None:
    """Send log records to the master, where it wants them; else `logging` is not even imported."""
    if fd < 0:
        return None
    from ..supervisor.worker_logging import install

    return install(fd, settings["logs"])


def _close_loop() -> None:
    if (module := sys.modules.get("aioipc.pool.worker_async")) is not None:
        module.close_loop()
