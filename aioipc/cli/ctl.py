"""``aioipc ctl``: ask a master what it is doing, and tell it what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from .ctl_add import added_line, check_words, table_of_options, tables_of_file
from .ctl_master import QUICK, ask, client_of, refusals, show_json, tell
from .failure import CommandError, NothingError
from .master_text import log_line, status_lines
from .screen import show, width

F = TypeVar("F", bound=Callable[..., Any])

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
    found = ask(obj, "status", timeout=QUICK)
    show_json(found) if as_json else show(status_lines(found, width()))


@ctl_command.command("reload")
@_json
@click.pass_obj
def _reload(obj: Any, as_json: bool) -> None:
    """Do what SIGHUP does, and wait for it."""
    found = ask(obj, "reload")
    show_json(found) if as_json else show([found])


@ctl_command.command("scale")
@click.argument("name")
@click.argument("replicas", type=click.IntRange(min=1))
@_json
@click.pass_obj
def _scale(obj: Any, name: str, replicas: int, as_json: bool) -> None:
    """Have so many replicas of a service, and wait until they are ready."""
    tell(obj, as_json, "scale", name=name, replicas=replicas)


def _of_one(command: str, help: str) -> None:
    """Add a command that needs a name and nothing else."""

    @ctl_command.command(command, help=help)
    @click.argument("name")
    @_json
    @click.pass_obj
    def of_one(obj: Any, name: str, as_json: bool) -> None:
        tell(obj, as_json, command, name=name)


@ctl_command.command("add")
@click.argument("words", nargs=-1, metavar="NAME MODULE:FUNCTION | NAME -- COMMAND ...")
@click.option("-f", "--file", metavar="FILE.toml", help="Add the children of a file, or those named behind it.")
@click.option("-w", "--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: 1]")
@click.option("-b", "--bind", "binds", multiple=True, metavar="[NAME=]ADDRESS", help="As for aioipc run.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="An environment variable. May be given again.")
@click.option("-s", "--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Any other field of the file.")
@_json
@click.pass_obj
def _add(obj: Any, /, words: tuple[str, ...], file: str | None, as_json: bool, **options: Any) -> None:
    """Add a service or program, and wait until it is ready; where it does not get so, it is not added.

    It stays through a reload, until it is removed or the master ends. Relative paths are relative to the current
    directory, with --file to that of the file.

    \b
      aioipc ctl add mailer shop.mail:run --workers 2
      aioipc ctl add cache --set ready=notify -- redis-server --port 0
      aioipc ctl add --file services.toml mailer
    """
    check_words(file, words, any(value not in (None, ()) for value in options.values()))
    if file is not None:
        tables, directory = list(tables_of_file(file, words)), os.path.dirname(os.path.abspath(file))
    else:
        tables, directory = [(words[0], table_of_options(words[1:], **options))], os.getcwd()
    for name, table in tables:
        found = ask(obj, "add", name=name, spec=table, directory=directory)
        show_json(found) if as_json else show([added_line(found, name)])


_of_one("start", "Start a service that was stopped or has failed, and wait until it is ready.")
_of_one("stop", "Stop a service, and wait until it is down. It stays so until it is started.")
_of_one("restart", "Replace the processes of a service, and wait for it.")
_of_one("remove", "Stop a service and forget it.")


@ctl_command.command("drain")
@_json
@click.pass_obj
def _drain(obj: Any, as_json: bool) -> None:
    """Stop all services in reverse order. The master stays, and so does its control socket."""
    tell(obj, as_json, "drain")


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
    write = show_json if as_json else lambda record: show([log_line(record)])
    with client_of(obj) as client, refusals():
        if not follow:
            for record in client.request("logs", timeout=QUICK, lines=lines):
                write(record)
            return
        for record in client.follow(lines):
            write(record)


@ctl_command.command("shutdown")
@click.option("--quick", is_flag=True, help="Kill everything at once.")
@click.option("--wait", is_flag=True, help="Wait until the master has ended.")
@_json
@click.pass_obj
def _shutdown(obj: Any, quick: bool, wait: bool, as_json: bool) -> None:
    """Stop everything, and the master. Without --wait it does not wait for that."""
    with client_of(obj) as client, refusals():
        result = client.request("shutdown", timeout=QUICK, quick=quick)
        if wait:
            client.wait_ended()
    if as_json:
        show_json(result)


def _send(obj: Any, name: str, signum: str, as_json: bool) -> None:
    child, dot, number = name.rpartition(".")
    if not dot:
        child, replica = name, None
    elif number.isdecimal():
        replica = int(number)
    else:
        raise CommandError(f"{name!r}: the replica must be a number, as in web.0")
    reached = ask(obj, "signal", timeout=QUICK, name=child, signal=signum, replica=replica)
    if as_json:
        show_json(reached)
    elif not reached:
        raise NothingError(f"{name} has no process now")
