"""Entry point of a supervisor's child processes: takes its launch from the master, then is a service or a command.

Nothing here needs asyncio: a command must not pay for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from .._sys import failpoints
from .._sys.process_title import set_process_title
from ..wire import service_protocol as protocol
from ..wire.framing import CONTROL_SCRATCH, FrameDecoder
from .boot import Inheritance, apply_settings
from .command_exec import FIRST, exec_command
from .control_thread import MasterGone
from .launch import LaunchError
from .worker_signals import take_signals

if TYPE_CHECKING:
    from .worker_logging import LogSender

WARM_UP = ("aioipc.supervisor.service_runner", "aioipc.supervisor.spec")
"""What the zygote is to import, so that its children need not: what runs a service, and what specs are made of, which
the module of a service may import as well.
"""
WARM_UP_BEFORE = 2
"""Before which child: the first one imports it beside the zygote. A reload of many would give it no idle moment."""
EXIT_REFUSED = 127
"""Exit code of a process that could not be set up, as of a shell that finds no program."""


def main(inheritance: Inheritance, saved_stderr: int) -> int:
    """Be a child of a supervisor; returns the exit status. Entry function of the zygote's children."""
    # Out of the way of the numbers that a command's descriptors have to have.
    fd = fcntl.fcntl(inheritance.data, fcntl.F_DUPFD_CLOEXEC, FIRST + len(inheritance.listeners) + 1)
    os.close(inheritance.data)
    with socket.socket(fileno=fd) as data:
        try:
            settings = _receive_boot(data)
            if settings["command"] is None:
                _import_service()
            failpoints.hit("before-launch")
            _set_up(settings, saved_stderr)
            if settings["command"] is not None:
                exec_command(settings["command"], inheritance, saved_stderr)
        except MasterGone:
            return 1
        except LaunchError as error:
            with contextlib.suppress(OSError):
                data.sendall(b"".join(protocol.encode_refusal(error.refusal)))
            return EXIT_REFUSED
        return _serve(inheritance, saved_stderr, settings, data)


def _import_service() -> None:
    """Import what a service needs, before it may have given up the right to read it."""
    from .._loop.factory import loop_factory
    from . import service_runner  # noqa: F401

    loop_factory()


def _receive_boot(data: socket.socket) -> dict[str, Any]:
    """Wait for BOOT; raises MasterGone."""
    decoder = FrameDecoder(CONTROL_SCRATCH)
    while True:
        try:
            count = data.recv_into(decoder.buffer())
        except ConnectionError:
            count = 0
        if not count:
            raise MasterGone
        for frame in decoder.received(count):
            return protocol.decode_boot(frame)


def _set_up(settings: dict[str, Any], saved_stderr: int) -> None:
    """Become like the master, and then what the launch says; raises LaunchError."""
    try:
        apply_settings(settings)
    except OSError as error:  # the master's working directory is gone
        raise LaunchError("cwd", error.errno, f"{settings['cwd']!r}: {os.strerror(error.errno or 0)}") from error
    settings["launch"].apply(saved_stderr)


def _serve(inheritance: Inheritance, saved_stderr: int, settings: dict[str, Any], data: socket.socket) -> int:
    from .service_context import WorkerContext
    from .service_process import ServiceProcess
    from .service_runner import run_service

    set_process_title(settings["title"])
    process = ServiceProcess(inheritance, saved_stderr, settings, data)
    process.signals.listen()
    take_signals({signal.SIGTERM: process.on_terminate}, process.leave_to_child)
    sender: LogSender | None = None
    if inheritance.logs >= 0:
        from .worker_logging import install

        sender = install(inheritance.logs, settings["logs"])
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a service prints is seen at once, and not lost with it
        sys.stdout.reconfigure(line_buffering=True)
    listeners = _listeners(inheritance)
    try:
        process.scoreboard.register()
        process.launched()
        process.control.start()
        return run_service(process, WorkerContext(process, settings, listeners), settings)
    except ConnectionError:  # the master is gone
        return 1
    finally:
        for listener in listeners.values():
            listener.close()
        if sender is not None:
            sender.say_lost()


def _listeners(inheritance: Inheritance) -> dict[str, socket.socket]:
    listeners = {name: socket.socket(fileno=fd) for name, fd in inheritance.listeners.items()}
    for listener in listeners.values():
        listener.setblocking(False)
    return listeners
