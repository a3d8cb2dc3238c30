"""The first steps of a worker process, from fork(2) to its entry function.

Nothing here imports asyncio: a worker that never needs a loop must not pay for one.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from .._sys import failpoints, libc

_LISTENER = "listener:"


class Inheritance(NamedTuple):
    """The descriptors a worker is given, and nothing else of its master's."""

    data: int
    control: int
    scoreboard: int
    stderr: int
    """Takes the place of standard error until the worker is ready, so that a failed boot can be explained."""
    logs: int = -1
    """Pipe for log records; -1 for none."""
    output_pipe: int = -1
    """Pipe that is to be standard output; -1 to leave it as it is."""
    error_pipe: int = -1
    """Pipe that is to be standard error once the worker is ready; -1 to leave it as it is."""
    stdin: int = -1
    """What is to be standard input; -1 to leave it as it is."""
    notify: int = -1
    """Pipe by which a program says that it is ready; -1 for none."""
    listeners: Mapping[str, int] = MappingProxyType({})
    """Listening sockets, by name."""

    def _named(self) -> dict[str, int]:
        """Return all that there are, by names that no two of them share, in order."""
        fixed = {name: fd for name, fd in zip(self._fields, self, strict=True) if isinstance(fd, int) and fd >= 0}
        return fixed | {_LISTENER + name: fd for name, fd in self.listeners.items()}

    def layout(self) -> list[str]:
        """Tell which of them there are, in order: the others cannot be sent."""
        return list(self._named())

    def present(self) -> list[int]:
        """Return those that there are, in order."""
        return list(self._named().values())

    @classmethod
    def received(cls, layout: list[str], fds: list[int]) -> Inheritance:
        """Put together what was sent as a layout and its descriptors."""
        fixed: dict[str, int] = {}
        listeners: dict[str, int] = {}
        for name, fd in zip(layout, fds, strict=True):
            if name.startswith(_LISTENER):
                listeners[name.removeprefix(_LISTENER)] = fd
            else:
                fixed[name] = fd
        return cls(**fixed, listeners=listeners)


def become_worker(parent: int, entry: str, inheritance: Inheritance, command: list[str] | None) -> NoReturn:
    """Turn this freshly forked child into a worker that runs ``entry`` ("module:function"); never returns.

    ``parent`` is the zygote's pid. ``command`` is the interpreter's command line for a fresh interpreter,
    or ``None`` to go on in this one.
    """
    status = 1
    try:
        _own_session_and_signals()
        libc.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told to care
            os._exit(1)
        if command is not None:
            _exec(entry, inheritance, command)
        status = _run(entry, inheritance)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def main_after_exec() -> NoReturn:
    """Go on in the fresh interpreter that `become_worker` has started; the arguments say with what."""
    entry, (numbers, *names) = sys.argv[1], sys.argv[2:]
    status = 1
    try:
        status = _run(entry, Inheritance.received(names, [int(number) for number in numbers.split(",")]))
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def apply_settings(settings: dict[str, Any]) -> None:
    """Take on the master's environment, working directory, umask, ``sys.path`` and ``sys.argv`` as they were
    when it asked for this worker; raises OSError where the directory is gone.
    """
    os.environ.clear()
    os.environ.update(settings["environ"])
    os.umask(settings["umask"])
    if settings["cwd"] is not None:
        os.chdir(settings["cwd"])
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
    failpoints.load(os.environ)


def current_settings() -> dict[str, Any]:
    """Return what `apply_settings` takes on, as it is in this process now."""
    umask = os.umask(0o077)
    os.umask(umask)
    try:
        cwd: str | None = os.getcwd()
    except FileNotFoundError:  # removed under our feet: the worker stays where its zygote is
        cwd = None
    return {
        "environ": dict(os.environ),
        "umask": umask,
        "cwd": cwd,
        "path": list(sys.path),
        "argv": list(sys.argv),
    }


def release_stderr(saved: int, captured: int) -> None:
    """End the capture of standard error: give the real one back and repeat what was written meanwhile."""
    sys.stderr.flush()
    os.dup2(saved, 2)
    os.close(saved)
    text = os.pread(captured, 1 << 20, 0)
    os.close(captured)
    if text:
        with contextlib.suppress(OSError):
            os.write(2, text)


def _own_session_and_signals() -> None:
    """Leave what fork copied: the zygote's session, wake-up descriptor, handlers and mask.

    SIGTERM stays blocked until the entry function has its own handler, so that none is lost or kills too early.
    """
    signal.set_wakeup_fd(-1)
    os.setsid()
    for signum in signal.valid_signals():
        if signum in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT):
            continue  # two are ignored in every Python process; the last two in the zygote too, so without a gap here
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})


def _exec(entry: str, inheritance: Inheritance, command: list[str]) -> NoReturn:
    failpoints.hit("before-exec")
    for fd in inheritance.present():
        os.set_inheritable(fd, True)
    numbers = ",".join(map(str, inheritance.present()))
    os.execv(command[0], [*command, entry, numbers, *inheritance.layout()])


def _run(entry: str, inheritance: Inheritance) -> int:
    for fd in inheritance.present():
        os.set_inheritable(fd, False)
    for fd, standard in ((inheritance.stdin, 0), (inheritance.output_pipe, 1)):
        if fd >= 0:
            os.dup2(fd, standard)
            os.close(fd)
    saved = inheritance.error_pipe if inheritance.error_pipe >= 0 else os.dup(2)
    os.dup2(inheritance.stderr, 2)
    module, _, name = entry.partition(":")
    function: Callable[[Inheritance, int], int] = getattr(importlib.import_module(module), name)
    status = function(inheritance, saved)
    atexit._run_exitfuncs()
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def dump(value: object) -> bytes:
    """Encode a packet between master and zygote."""
    return pickle.dumps(value, 5)
