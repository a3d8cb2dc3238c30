"""What a master does when it is told by its control socket."""

from __future__ import annotations

import logging
import os
from typing import Any, Protocol

import msgspec

from ..exceptions import ClosedResourceError, ConfigError, IPCError
from ..supervisor.config import parse_child
from ..supervisor.signal_numbers import signal_number
from ..supervisor.spec import ChildSpec
from ..supervisor.supervisor import Supervisor
from ..wire import control_protocol as protocol
from ..wire.control_protocol import Answer, ErrorKind, Failure

_log = logging.getLogger("aioipc.master")


class Commanded(Protocol):
    """The master, as far as commands need it."""

    supervisor: Supervisor
    title: str

    def adapt(self, spec: ChildSpec) -> ChildSpec:
        """Return a child as this master runs it."""

    async def reload(self) -> str:
        """Reload; return what has changed."""

    def stop(self, *, quick: bool) -> None:
        """Begin to stop everything."""


class ControlCommands:
    """Does requests to a master."""

    def __init__(self, master: Commanded) -> None:
        self._master = master

    async def do(self, request: protocol.AnyRequest) -> Answer:
        """Do it, and return the answer, also where it fails."""
        name = str(request.__struct_config__.tag)
        if not isinstance(request, protocol.Status):
            _log.info("told by the control socket: %s", " ".join([name, *_words(request)]))
        try:
            return Answer(ok=True, id=request.id, result=await self._result(request))
        except Exception as error:
            kind = _kind(error)
            if kind == "failed" and not isinstance(error, IPCError | OSError):
                _log.exception("the command %s has failed", name)
            return Answer(ok=False, id=request.id, error=Failure(kind, _text(error)))

    async def _result(self, request: protocol.AnyRequest) -> Any:
        supervisor = self._master.supervisor
        match request:
            case protocol.Status():
                return status(supervisor, self._master.title)
            case protocol.Reload():
                return await self._master.reload()
            case protocol.Shutdown(quick=quick):
                self._master.stop(quick=quick)
            case protocol.Scale(name=name, replicas=replicas):
                await supervisor.scale(name, replicas)
            case protocol.Add(name=name, spec=table, directory=directory):
                return await self._add(name, table, directory)
            case protocol.Start(name=name):
                await self._start(name)
            case protocol.Stop(name=name):
                await supervisor.terminate_child(name)
            case protocol.Restart(name=name):
                await supervisor.restart_child(name)
            case protocol.Remove(name=name):
                await supervisor.delete_child(name)
            case protocol.Drain():
                for child in reversed(supervisor.children()):
                    if "/" not in child.name:
                        await supervisor.terminate_child(child.name)
            case protocol.SignalChild(name=name, signal=number, replica=replica):
                return supervisor.signal_child(name, signal_number(number), replica)
            case _:
                raise ValueError("this is no command of its own")
        return None

    async def _add(self, name: str, table: dict[str, Any], directory: str | None) -> Any:
        supervisor = self._master.supervisor
        spec = _parsed(name, table, directory)
        await supervisor.start_child(self._master.adapt(spec))
        added = [child for child in supervisor.children() if child.name == name]
        return msgspec.to_builtins(added[0]) if added else None

    async def _start(self, name: str) -> None:
        for child in self._master.supervisor.children():
            if child.name == name and child.state in ("up", "starting"):
                if any(each.state in ("EXITED", "FATAL") for each in child.processes):
                    break
                raise ValueError(f"{name!r} is {child.state} already")
        await self._master.supervisor.restart_child(name)


def _parsed(name: str, table: dict[str, Any], directory: str | None) -> ChildSpec:
    try:
        return parse_child(name, table, directory=os.path.abspath(directory or os.curdir))
    except ConfigError as error:
        raise ValueError(str(error)) from None  # what is wrong is the request


def status(supervisor: Supervisor, title: str) -> dict[str, Any]:
    """Return what a master and its children are doing as plain values."""
    found: dict[str, Any] = {"pid": os.getpid(), "title": title}
    return {**found, **msgspec.to_builtins(supervisor.statistics(), str_keys=True)}


def _words(request: protocol.AnyRequest) -> list[str]:
    """Return what a request says besides its name, without what is as always, and what may be secret."""
    left_out = ("id", "version", "spec", "directory")
    values = ((name, getattr(request, name)) for name in request.__struct_fields__ if name not in left_out)
    return [name if value is True else str(value) for name, value in values if value is not None and value is not False]


def _kind(error: Exception) -> ErrorKind:
    if isinstance(error, ClosedResourceError):
        return "state"
    if isinstance(error, LookupError):
        return "not-found"
    if isinstance(error, TypeError | ValueError) and not isinstance(error, ConfigError):
        return "usage"
    return "failed"


def _text(error: Exception) -> str:
    if isinstance(error, LookupError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__
