"""What goes wrong in a command, told in one line on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from aioipc import IPCError

from .exit_codes import EXIT_ERROR, EXIT_NOTHING
from .humans import printable

_OPTIONS = {  # the library names its arguments, the command line its options
    "; exist_ok=True opens it": "; --exist-ok takes it as it is",
    "exist_ok=True": "--exist-ok",
    "; create=True makes one": "; aioipc mk fifo makes one",
    "; allow_zero=True": "; --allow-zero",
    "max_message_size": "--max-message-size",
    "max_bytes": "--max-bytes",
}


class CommandError(click.ClickException):
    """The command cannot do what it was asked for; exit code 2."""

    exit_code = EXIT_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self._command = context.command_path if context is not None else "aioipc"

    def show(self, file: Any = None) -> None:
        """The line, on standard error."""
        text = "\n".join(printable(line) for line in self.message.split("\n"))
        click.echo(f"{self._command}: {text}", file=file, err=True)


class NothingError(CommandError):
    """Nothing is wrong, but what was asked for did not happen: there was no message, or no room; exit code 1."""

    exit_code = EXIT_NOTHING


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Turn what the library and the kernel refuse into a `CommandError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, IPCError, ValueError) as error:
        raise CommandError(explain(error)) from error


def explain(error: Exception) -> str:
    """One line: which object, what is wrong, in the words of the command line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{_shown(error.filename)}: {error.strerror}"
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _shown(name: object) -> str:
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
    return text.encode("utf-8", "backslashreplace").decode()
