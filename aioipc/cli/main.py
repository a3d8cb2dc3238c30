"""The command ``aioipc``: a group whose commands are loaded when they are asked for.

A command module costs its imports only where that command runs, so ``aioipc --version`` stays quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from aioipc import __version__

from .exit_codes import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "ctl": "aioipc.cli.ctl:ctl_command",
    "doctor": "aioipc.cli.doctor:doctor_command",
    "ls": "aioipc.cli.ls:ls_command",
    "map": "aioipc.cli.map:map_command",
    "mk": "aioipc.cli.mk:mk_command",
    "recv": "aioipc.cli.recv:recv_command",
    "rm": "aioipc.cli.rm:rm_command",
    "run": "aioipc.cli.run:run_command",
    "send": "aioipc.cli.send:send_command",
    "show": "aioipc.cli.show:show_command",
}


class LazyGroup(click.Group):
    """A group that imports a command's module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command named, or ``None``."""
        if (home := COMMANDS.get(cmd_name)) is None:
            return None
        module, _, attribute = home.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; that its reader has left goes on without an errno, or click would exit with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise BrokenPipeError from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aioipc", message="%(prog)s %(version)s")
def aioipc() -> None:
    """Async IPC from the shell: queues, FIFOs, sockets, shared memory, worker processes and services."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = aioipc.main(args=arguments, prog_name="aioipc", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes sys.stdout once more on its way out; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = EXIT_PIPE_CLOSED
    sys.exit(code)
