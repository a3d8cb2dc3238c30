"""``aioipc run module:function`` or ``aioipc run FILE.toml``: services that are kept running."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import output
from .failure import CommandError, errors_told
from .parameters import parse_duration, parse_size, reading
from .services import Services
from .start import hold_signals

COUNT = click.IntRange(min=1)
_LEVELS = ("debug", "info", "warning", "error", "critical")
_OF_FUNCTIONS = (
    *("name", "workers", "binds", "app_dir", "concurrency", "boot_timeout", "heartbeat_timeout", "drain_delay"),
    *("max_age", "max_memory", "max_tasks", "jitter"),
)
F = TypeVar("F", bound=Callable[..., Any])


def _time(name: str, help: str, default: str | None = None) -> Callable[[F], F]:
    read = reading(parse_duration)
    shown = default is not None
    return click.option(name, metavar="TIME", callback=read, default=default, show_default=shown, help=help)


@click.command("run", short_help="Keep services running: restart, reload, stop cleanly.")
@click.argument("target", metavar="MODULE:FUNCTION|FILE.toml")
@click.option("-w", "--workers", type=COUNT, metavar="N", help="Worker processes.  [default: one per CPU it may use]")
@click.option(
    "-b",
    "--bind",
    "binds",
    multiple=True,
    metavar="[NAME=]ADDRESS",
    help="Listen there for the workers: tcp://HOST:PORT, unix://PATH or fd://NAME. May be given again.",
)
@click.option("--name", metavar="NAME", help="What the service is called.  [default: the module]")
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Look for the module there first.  [default: the current directory]",
)
@click.option("--concurrency", type=COUNT, metavar="N", help="Told to each worker as worker.concurrency.  [default: 1]")
@_time("--shutdown-timeout", "How long a stop may take before the rest is killed.", "25")
@_time("--boot-timeout", "How long a worker may take to get ready.  [default: 60]")
@_time("--heartbeat-timeout", "How long a worker may be silent.  [default: 30]")
@_time("--drain-delay", "How long a worker goes on as before when it is to stop.  [default: 0]")
@_time("--max-age", "Replace a worker after that time.")
@click.option("--max-memory", callback=reading(parse_size), metavar="SIZE", help="Replace a worker above that: 512M.")
@click.option("--max-tasks", type=COUNT, metavar="N", help="Replace a worker after so many pieces of work.")
@click.option(
    "--jitter", type=click.FloatRange(0, 1), metavar="PART", help="By which part of them they vary.  [default: 0.1]"
)
@click.option("--pid-file", type=click.Path(dir_okay=False), metavar="FILE", help="Write the master's pid there.")
@click.option("--control", type=click.Path(dir_okay=False), metavar="PATH", help="The control socket, for aioipc ctl.")
@click.option("--no-control", is_flag=True, help="No control socket.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="info", show_default=True)
def run_command(target: str, **options: Any) -> None:
    """Run the service MODULE:FUNCTION in worker processes, or all that FILE.toml says, and keep them running.

    FUNCTION is async and gets an aioipc.WorkerContext. Logs go to standard error.

    \b
      SIGTERM, SIGINT   stop cleanly; a second one, or SIGQUIT, kills at once
      SIGHUP            reload: fresh code, environment and file, new workers first
      SIGTTIN, SIGTTOU  one worker more, one less
      SIGUSR1           write down what everything is doing

    Exit code: 0 all that was accepted is finished, 1 the time for that was over, 2 wrong usage or
    file, 3 nothing can be started, 4 too many restarts, 128 + n killed at once by signal n.

    \b
      aioipc run web:serve --workers 4 --bind http=tcp://127.0.0.1:8000
    """
    output.open_missing_descriptors()
    hold_signals()
    given = {name: options.pop(name) for name in _OF_FUNCTIONS}
    is_file = target.endswith(".toml")
    if is_file:
        _refuse_with_file(given)
    if options["no_control"] and options["control"]:
        raise click.UsageError("--control and --no-control exclude each other")
    services = Services(target, is_file=is_file, options=given)
    sys.exit(_execute(services, options))


def _execute(services: Services, options: dict[str, Any]) -> int:
    import aioipc

    with errors_told():
        about = services.about(options["shutdown_timeout"])
        return aioipc.supervise(
            services.load,
            title=services.target,
            about=about,
            shutdown=options["shutdown_timeout"],
            pid_file=options["pid_file"],
            control=options["control"] or not options["no_control"],
            log_format=options["log_format"],
            log_level=options["log_level"].upper(),
        )


def _refuse_with_file(given: dict[str, Any]) -> None:
    names = {"binds": "bind"}
    for name, value in given.items():
        if value not in (None, ()):
            option = f"--{names.get(name, name).replace('_', '-')}"
            raise CommandError(f"{option} is for MODULE:FUNCTION; with a file, the file says it")
