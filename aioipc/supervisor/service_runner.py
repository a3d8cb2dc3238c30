"""Runs the function of a service on a loop, as ``asyncio.run`` would, and says how the process is to exit."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .._loop.factory import loop_factory
from .._sys import failpoints
from .serialization import loads
from .service_context import WorkerContext
from .service_control import EXIT_DEADLINE
from .service_process import ServiceProcess

EXIT_INTERRUPTED = 130
"""Exit code after KeyboardInterrupt, as of a program that Ctrl-C has ended."""


def run_service(process: ServiceProcess, context: WorkerContext, settings: dict[str, Any]) -> int:
    """Load and run the function, and return the exit code; a traceback goes to standard error."""
    status = _exit_code(process, lambda: _run(process, context, _load_target(settings)))
    process.expect_exit()
    failpoints.hit("before-exit")
    if process.expired:
        print(f"aioipc: {context.name}.{context.replica} did not stop by its deadline", file=sys.stderr)
        status = EXIT_DEADLINE
    # What the interpreter does at exit: join threads.
    threading._shutdown()  # type: ignore[attr-defined]
    return status


def _run(process: ServiceProcess, context: WorkerContext, target: Callable[[WorkerContext], Any]) -> None:
    if process.is_stopping:
        return
    if signal.getsignal(signal.SIGTERM) != process.on_terminate:  # the module has taken it when it was imported
        signal.signal(signal.SIGTERM, process.on_terminate)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(_serve(process, context, target))
        finally:  # closing the loop may take for ever; the control thread sees to it that it does not
            process.expect_exit()


async def _serve(process: ServiceProcess, context: WorkerContext, target: Callable[[WorkerContext], Any]) -> None:
    process.attach()
    try:
        if process.is_stopping:  # asked for while the loop was made
            return
        awaitable = target(context)
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"a service needs an async function; {target!r} returned {awaitable!r}")
        await awaitable
    finally:
        process.detach()


def _exit_code(process: ServiceProcess, run: Callable[[], None]) -> int:
    try:
        run()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        _print(error)
        return EXIT_INTERRUPTED
    except BaseException as error:
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if is_cancelled and process.withdrawn:
            return 0
        if not (is_cancelled and (process.expired or process.orphaned)):
            _print(error)
        return 1
    return 0


def _print(error: BaseException) -> None:
    """Print a traceback without the frames that lead to the service's own code."""
    shown = trace = error.__traceback__
    while trace is not None:
        if _is_ours(trace):
            shown = trace.tb_next
        trace = trace.tb_next
    traceback.print_exception(type(error), error, shown)


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__") in (__name__, "aioipc.supervisor.serialization")


def _load_target(settings: dict[str, Any]) -> Callable[[WorkerContext], Any]:
    """Return the function: unpickled, or imported as "module:function" with the program's directory on the path."""
    if settings["function"] is not None:
        function: Callable[[WorkerContext], Any] = loads(settings["function"])
        return function
    module, _, name = settings["target"].partition(":")
    directory = os.path.abspath(settings["app_dir"] or os.curdir)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the zygote may have looked before the module was written
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"a service needs an async function; {settings['target']!r} is {found!r}")
    return found  # type: ignore[no-any-return]
