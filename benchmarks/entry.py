"""An entry in the list of what is compared; a peer is imported only in the processes that measure it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import platform
from dataclasses import dataclass
from typing import Any

import uvloop

OURS = "aioipc"
"""Names of ours begin so; the one that is judged has this name."""


@dataclass(frozen=True)
class Entry:
    """Where a peer is found: its class in a module below ``benchmarks``.

    ``distribution`` brings it (empty: Python or ourselves). ``on_request``: measured only where it is named.
    ``on_asyncio``: not on uvloop. ``floor``: what nobody can beat, so aioipc is not judged by it. ``only`` names the
    cases that it can do, where it can do few.
    """

    name: str
    module: str
    class_name: str
    distribution: str = ""
    on_request: bool = False
    on_asyncio: bool = False
    floor: bool = False
    only: tuple[str, ...] = ()

    def version(self) -> str | None:
        """The version installed here, or None where it is missing."""
        if not self.distribution:
            return f"Python {platform.python_version()}"
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def make(self) -> Any:
        """Import it and make one."""
        peer = getattr(importlib.import_module(f"benchmarks.{self.module}"), self.class_name)()
        peer.name = self.name
        return peer

    def runner(self) -> asyncio.Runner:
        """Make the event loop that it runs on."""
        return asyncio.Runner(loop_factory=asyncio.SelectorEventLoop if self.on_asyncio else uvloop.new_event_loop)
