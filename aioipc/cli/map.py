"""``aioipc map package.module:function [FILES...]``: one task a line in, one JSON line a result out."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from . import output
from .parameters import Seconds
from .target import TargetError, check_target, is_async

COUNT = click.IntRange(min=1)
SECONDS = Seconds(min=0, min_open=True)


class CommandError(click.ClickException):
    """A mistake of the caller, told in one line; exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """The line, on standard error."""
        click.echo(f"aioipc map: {self.message}", file=file, err=True)


@click.command("map", short_help="Run a function over the lines of files or standard input.")
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "json_values", is_flag=True, help="Each line is a JSON value, not a text.")
@click.option("-0", "--null", is_flag=True, help="Tasks end with a zero byte: find -print0.")
@click.option("--ordered", is_flag=True, help="Results in the order of the tasks, not as they come.")
@click.option("-w", "--workers", type=COUNT, metavar="N", help="Worker processes.  [default: one per CPU it may use]")
@click.option("--concurrency", type=COUNT, default=16, show_default=True, metavar="N", help="Async tasks per worker.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="End a task that takes longer.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="How often a task that failed, or lost its worker, is tried again.",
)
@click.option("--fail-fast", is_flag=True, help="Start no more tasks after the first that fails.")
@click.option(
    "-o",
    "--output",
    "output_name",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the results there, not to standard output.",
)
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    metavar="DIR",
    help="Look for modules there first.  [default: the current directory]",
)
@click.option("--no-progress", is_flag=True, help="No progress on standard error.")
@click.option("-q", "--quiet", is_flag=True, help="Neither progress nor summary.")
@click.option(
    "--shutdown",
    type=Seconds(min=0),
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="After Ctrl-C or SIGTERM, the time that running tasks have to finish.",
)
def map_command(function: str, app_dir: str, output_name: str | None, **options: Any) -> None:
    """Call FUNCTION in worker processes, once for each line of FILES or standard input.

    A result is one line of JSON on standard output, written as soon as it is there:

    \b
      {"index":0,"task":"a.py","result":421}
      {"index":1,"task":"b.py","error":{"type":"ValueError","message":"…","traceback":"…"}}

    FUNCTION takes one argument and may be async. Exit code: 0 all done, 1 a task failed,
    2 wrong usage, 3 no worker can start, 130 and 143 after Ctrl-C and SIGTERM, 141 where the reader
    of the results has left.

    \b
      find . -name '*.py' | aioipc map mypackage.tools:count_words --workers 4
    """
    output.open_missing_descriptors()
    descriptor = output.take_standard_output()
    directory = os.path.abspath(app_dir)
    sys.path.insert(0, directory)
    try:
        found = check_target(function, directory)
        if output_name not in (None, "-"):
            descriptor = output.open_file(output_name, options["files"])
    except (TargetError, output.OutputError) as error:
        raise CommandError(str(error)) from error
    from .session import Settings, execute  # here, so that a wrong name is told without loading the rest

    sys.exit(execute(Settings(target=function, is_async=is_async(found), **options), descriptor))
