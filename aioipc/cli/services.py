"""What ``aioipc run`` is to run: the specification, from the options or from a file."""

from __future__ import annotations

import importlib.machinery
import os
import pkgutil
import re
import sys
from typing import Any

import aioipc

from .failure import CommandError
from .target import TargetError, close_to, split_target

_BINDING = re.compile(r"(?:(?P<name>[^=:]+)=)?(?P<address>(?P<scheme>[a-z]+)://(?P<rest>.*))")
_PASSED = (
    "boot_timeout",
    "heartbeat_timeout",
    "max_age",
    "max_memory",
    "max_tasks",
    "jitter",
    "drain_delay",
    "concurrency",
)


class Services:
    """Makes the specification, anew for each reload."""

    def __init__(self, target: str, *, is_file: bool, options: dict[str, Any]) -> None:
        self.target: str = os.path.abspath(target) if is_file else target
        self._is_file = is_file
        self._options = options
        self._spec: aioipc.SupervisorSpec | None = None

    def about(self, shutdown: float) -> str:
        """Read the options, and return what is to be run in a few words. `CommandError` where they are wrong."""
        if self._is_file:
            return "services as the file says"
        directory = os.path.abspath(self._options["app_dir"] or os.curdir)
        _check_module(self.target, directory)
        workers, rule = self._options["workers"], "--workers"
        if workers is None:
            workers, rule = aioipc.default_workers()
        self._spec = aioipc.SupervisorSpec([self._child(workers, directory, shutdown)])
        return f"workers {workers}, by {rule}"

    def load(self) -> aioipc.SupervisorSpec:
        """Return the specification: of a file, what it says now."""
        if self._spec is not None:
            return self._spec
        return aioipc.read_config(self.target)

    def _child(self, workers: int, directory: str, shutdown: float) -> aioipc.ChildSpec:
        options = self._options
        given = {name: options[name] for name in _PASSED if options[name] is not None}
        return aioipc.ChildSpec(
            options["name"] or _default_name(self.target),
            self.target,
            replicas=workers,
            shutdown=shutdown,
            listeners=read_bindings(options["binds"]),
            app_dir=directory,
            stdout="capture",
            stderr="capture",
            **given,
        )


def read_bindings(binds: tuple[str, ...]) -> dict[str, str]:
    """Return addresses by name. Without a name it is that of ``fd://NAME``, else "default"."""
    found: dict[str, str] = {}
    for each in binds:
        match = _BINDING.fullmatch(each)
        if match is None:
            raise CommandError(f"--bind {each!r}: it must be [NAME=]tcp://HOST:PORT, unix://PATH or fd://NAME")
        name = match["name"] or (match["rest"] if match["scheme"] == "fd" else "default")
        if name in found:
            raise CommandError(f"--bind {each!r}: there is a listener {name!r} already; give it a name of its own")
        found[name] = match["address"]
    return found


def _default_name(target: str) -> str:
    module = target.partition(":")[0].rpartition(".")[2]
    return module if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", module) else "service"


def _check_module(target: str, directory: str) -> None:
    """See that there is a module to look into, without importing anything: that is for the workers."""
    try:
        module, _ = split_target(target)
    except TargetError as error:
        raise CommandError(str(error)) from None
    top = module.partition(".")[0]
    if top in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(top, [directory, *sys.path]):
        return
    hint = close_to(top, [each.name for each in pkgutil.iter_modules([directory])])
    raise CommandError(f"no module named {top!r} (looked in {directory} first){hint}")
