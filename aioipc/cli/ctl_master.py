"""Which master ``aioipc ctl`` talks to, and how what it says becomes output and an exit code."""

from __future__ import annotations

from typing import Any

import aioipc

from .failure import CommandError, NothingError, errors_told
from .json_text import to_json
from .screen import show

QUICK = 10.0
"""Seconds in which a master answers that has nothing to wait for."""

Chosen = tuple[str | None, int | None]
"""What --control and --pid say."""


def ask(chosen: Chosen, command: str, *, timeout: float | None = None, **arguments: Any) -> Any:
    """Tell a master to do a command, and return the result."""
    with client_of(chosen) as client, refusals():
        return client.request(command, timeout=timeout, **arguments)


def tell(chosen: Chosen, as_json: bool, command: str, **arguments: Any) -> None:
    """The same for a command whose result is shown as JSON alone."""
    result = ask(chosen, command, **arguments)
    if as_json:
        show_json(result)


def client_of(chosen: Chosen) -> aioipc.ControlClient:
    """Return a connection to the master; `CommandError` where there is none."""
    control, pid = chosen
    with errors_told():
        return aioipc.ControlClient(control or _path_of(pid))


def _path_of(pid: int | None) -> str:
    found = aioipc.find_masters()
    hint = "give the path in its log by --control"
    if pid is not None:
        if pid not in found:
            raise CommandError(f"no master of yours with pid {pid} is found in the state directory; {hint}")
        return found[pid]
    if not found:
        raise CommandError(f"no master of yours is found in the state directory; if one runs, {hint}")
    if len(found) > 1:
        raise CommandError(f"several masters run, choose one by --pid: {', '.join(map(str, found))}")
    return next(iter(found.values()))


class refusals:
    """Turn what the master says into the exit code: 1 where it refuses or fails, 2 where the question was wrong."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aioipc.ControlError):
            wrong = error.kind in ("usage", "protocol", "unreachable")
            raise (CommandError if wrong else NothingError)(str(error)) from None


def show_json(value: Any) -> None:
    """Write a value to standard output."""
    show([to_json(value).decode()], utf8=True)
