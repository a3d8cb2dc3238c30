"""`supervise`: run services as a program of its own, from the first signal to the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio import _get_running_loop  # public by asyncio's __all__
from collections.abc import Callable, Iterator
from typing import Literal

from .._loop.factory import loop_factory
from .._loop.signal_routing import need_main_thread
from ..kernel.socket_base import check_path
from ..supervisor.checks import check_seconds
from ..supervisor.pid_file import PidFile
from ..supervisor.shutdown import DEFAULT_TIMEOUT
from ..supervisor.spec import ChildSpec, SupervisorSpec
from .captured_output import captured, with_captured_output
from .log_output import LogOutput
from .log_records import JsonFormatter, TextFormatter
from .log_tail import LogTail
from .master import EXIT_BOOT, SIGNALS, Master, plain_text

LogFormat = Literal["text", "json"]
_FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}
_log = logging.getLogger("aioipc.master")


def supervise(
    services: SupervisorSpec | Callable[[], SupervisorSpec],
    *,
    title: str = "services",
    about: str = "",
    shutdown: float = DEFAULT_TIMEOUT,
    pid_file: str | os.PathLike[str] | None = None,
    control: str | os.PathLike[str] | bool = True,
    log_format: LogFormat | None = "text",
    log_level: int | str = "INFO",
) -> int:
    """Run services until the end, as ``aioipc run`` does, and return the exit code for the program.

    It takes the signals of a master, listens at a control socket, tells the service manager (``sd_notify(3)``) and
    takes the sockets that it has passed. The signals, the exit codes and the control socket are in the reference of
    ``aioipc run``.

    Parameters
    ----------
    services
        What to run; or a function that returns it, which is called again for each reload.
    title
        What it is called in the log and by ``aioipc ctl``.
    about
        What the log says at the start behind the title.
    shutdown
        Seconds that everything together may take to stop.
    pid_file
        A file that says which process this is, and by a lock that it lives.
    control
        The path of the control socket; True for the usual place, False for none.
    log_format
        "text" or "json": log to standard error, by a thread, so that a slow reader holds up nobody. With "json" what
        the services print is in the log, too. ``None`` leaves `logging` alone.
    log_level
        What is logged at least, as `logging` has it.

    Raises what the function raises the first time, TypeError and ValueError for wrong arguments, RuntimeError outside
    of the main thread or where a loop runs in it. What cannot be started is logged, and an exit code.
    """
    need_main_thread("aioipc.supervise")
    if _get_running_loop() is not None:
        raise RuntimeError(
            "aioipc.supervise needs to start the loop, and one runs in this thread: use a Supervisor there"
        )
    load = _loader(services, captures=log_format == "json")
    check_seconds("shutdown", shutdown)
    if log_format is not None and log_format not in _FORMATTERS:
        raise ValueError(f"log_format must be 'text', 'json' or None, not {log_format!r}")
    where = control if isinstance(control, bool) else check_path(control)
    spec = load()
    tail = LogTail()
    with _signals_held(), _logging(log_format, log_level, tail), contextlib.ExitStack() as stack:
        _log.info("starting %s (pid %d)%s", title, os.getpid(), f": {about}" if about else "")
        try:
            if pid_file is not None:
                stack.enter_context(PidFile(pid_file))
        except OSError as error:
            _log.error("nothing was started: %s", plain_text(error))
            return EXIT_BOOT
        adapt = captured if log_format == "json" else _as_it_is
        master = Master(load, spec, shutdown=shutdown, control=where, title=title, tail=tail, adapt=adapt)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(master.main())


def _as_it_is(child: ChildSpec) -> ChildSpec:
    return child


def _loader(services: object, *, captures: bool) -> Callable[[], SupervisorSpec]:
    """Return what loads the specification; ``captures``: all output that would go to that of the master."""
    adapt = with_captured_output if captures else lambda spec: spec
    if isinstance(services, SupervisorSpec):
        spec = adapt(services)
        return lambda: spec
    if not callable(services):
        raise TypeError(f"services must be a SupervisorSpec or a function that returns one, not {services!r}")
    function = services

    def load() -> SupervisorSpec:
        found = function()
        if not isinstance(found, SupervisorSpec):
            raise TypeError(f"{function!r} must return a SupervisorSpec, not {found!r}")
        return adapt(found)

    return load


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keep the signals of a master until it can hear them, and those that come when it hears no more."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _logging(log_format: LogFormat | None, level: int | str, tail: LogTail) -> Iterator[None]:
    """Have everything that is logged kept for `LogTail`, and written to standard error."""
    root = logging.getLogger()
    before = root.level
    output = None if log_format is None else LogOutput(2, _FORMATTERS[log_format]())
    try:
        root.addHandler(tail)
        if output is not None:
            root.setLevel(level)
            root.addHandler(output)
        yield
    finally:
        root.removeHandler(tail)
        if output is not None:
            root.removeHandler(output)
            root.setLevel(before)
            output.stop()
