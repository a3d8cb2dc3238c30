"""``aioipc ctl``: ask a master what it is doing, and tell it what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

import aioipc

from .failure import CommandError, NothingError, errors_told
from .json_text import to_json
from .master_text import log_line, status_lines
from .screen import show, width

F = TypeVar("F", bound=Callable[..., Any])
_QUICK = 10.0
"""Seconds in which a master answers that has nothing to wait for."""

_json = click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output.")


@click.group("ctl", short_help="Talk to a running master.")
@click.option("--control", type=click.Path(), metavar="PATH", help="The control socket of the master.")
@click.option("--pid", type=click.IntRange(min=1), metavar="N", help="The master with that pid.")
@click.pass_context
def ctl_command(context: click.Context, control: str | None, pid: int | None) -> None:
    """Ask a master that `aioipc run` has started, or tell it what to do.

    Without --control and --pid it is the only one of yours that runs. Exit code: 0 done, 1 the master refuses
    or fails, 2 wrong usage, or no master.
    """
    if control is not None and pid is not None:
        raise click.UsageError("--control and --pid exclude each other")
    context.obj = (control, pid)


@ctl_command.command("status")
@_json
@click.pass_obj
def _status(obj: Any, as_json: bool) -> None:
    """Show what the master and all its processes are doing."""
    found = _ask(obj, "status", timeout=_QUICK)
    _show_json(found) if as_json else show(status_lines(found, width()))


@ctl_command.command("reload")
@_json
@click.pass_obj
def _reload(obj: Any, as_json: bool) -> None:
    """Do what SIGHUP does, and wait for it."""
    found = _ask(obj, "reload")
    _show_json(found) if as_json else show([found])


@ctl_command.command("scale")
@click.argument("name")
@click.argument("replicas", type=click.IntRange(min=1))
@_json
@click.pass_obj
def _scale(obj: Any, name: str, replicas: int, as_json: bool) -> None:
    """Have so many replicas of a service, and wait until they are ready."""
    _tell(obj, as_json, "scale", name=name, replicas=replicas)


def _of_one(command: str, help: str) -> None:
    """Add a command that needs a name and nothing else."""

    @ctl_command.command(command, help=help)
    @click.argument("name")
    @_json
    @click.pass_obj
    def of_one(obj: Any, name: str, as_json: bool) -> None:
        _tell(obj, as_json, command, name=name)


_of_one("start", "Start a service that was stopped or has failed, and wait until it is ready.")
_of_one("stop", "Stop a service, and wait until it is down. It stays so until it is started.")
_of_one("restart", "Replace the processes of a service, and wait for it.")
_of_one("remove", "Stop a service and forget it.")


@ctl_command.command("drain")
@_json
@click.pass_obj
def _drain(obj: Any, as_json: bool) -> None:
    """Stop all services in reverse order. The master stays, and so does its control socket."""
    _tell(obj, as_json, "drain")


@ctl_command.command("signal")
@click.argument("name", metavar="NAME[.REPLICA]")
@click.argument("signum", metavar="SIGNAL")
@_json
@click.pass_obj
def _signal(obj: Any, name: str, signum: str, as_json: bool) -> None:
    """Send a signal to the processes of a service, or to one of them: HUP, SIGHUP or 1."""
    _send(obj, name, signum, as_json)


@ctl_command.command("kill")
@click.argument("name", metavar="NAME[.REPLICA]")
@_json
@click.pass_obj
def _kill(obj: Any, name: str, as_json: bool) -> None:
    """Kill the processes of a service, or one of them, with all that they have started."""
    _send(obj, name, "KILL", as_json)


@ctl_command.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=100, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def _logs(obj: Any, follow: bool, lines: int, as_json: bool) -> None:
    """Show the last lines of the log, of the master and of all services."""
    write = _show_json if as_json else lambda record: show([log_line(record)])
    with _client(obj) as client, _refusals():
        if not follow:
            for record in client.request("logs", timeout=_QUICK, lines=lines):
                write(record)
            return
        for record in client.follow(lines):
            write(record)


@ctl_command.command("shutdown")
@click.option("--quick", is_flag=True, help="Kill everything at once.")
@_json
@click.pass_obj
def _shutdown(obj: Any, quick: bool, as_json: bool) -> None:
    """Stop everything, and the master. It does not wait for that."""
    _tell(obj, as_json, "shutdown", timeout=_QUICK, quick=quick)


# -- the master --------------------------------------------------------------------------------------------


def _ask(obj: Any, command: str, *, timeout: float | None = None, **arguments: Any) -> Any:
    with _client(obj) as client, _refusals():
        return client.request(command, timeout=timeout, **arguments)


def _tell(obj: Any, as_json: bool, command: str, **arguments: Any) -> None:
    result = _ask(obj, command, **arguments)
    if as_json:
        _show_json(result)


def _send(obj: Any, name: str, signum: str, as_json: bool) -> None:
    child, dot, number = name.rpartition(".")
    if not dot:
        child, replica = name, None
    elif number.isdecimal():
        replica = int(number)
    else:
        raise CommandError(f"{name!r}: the replica must be a number, as in web.0")
    reached = _ask(obj, "signal", timeout=_QUICK, name=child, signal=signum, replica=replica)
    if as_json:
        _show_json(reached)
    elif not reached:
        raise NothingError(f"{name} has no process now")


def _client(obj: Any) -> aioipc.ControlClient:
    control, pid = obj
    with errors_told():
        return aioipc.ControlClient(control or _path_of(pid))


def _path_of(pid: int | None) -> str:
    found = aioipc.find_masters()
    if pid is not None:
        if pid not in found:
            raise CommandError(f"no master of yours has pid {pid}; one with a --control of its own is found by that")
        return found[pid]
    if not found:
        raise CommandError("no master of yours runs; one with a --control of its own is found by that")
    if len(found) > 1:
        raise CommandError(f"several masters run, choose one by --pid: {', '.join(map(str, found))}")
    return next(iter(found.values()))


class _refusals:
    """Turn what the master says into the exit code: 1 where it refuses or fails, 2 where the question was wrong."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aioipc.ControlError):
            wrong = error.kind in ("usage", "protocol", "unreachable")
            raise (CommandError if wrong else NothingError)(str(error)) from None


def _show_json(value: Any) -> None:
    show([to_json(value).decode()], utf8=True)
