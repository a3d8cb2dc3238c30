"""The pools that are compared, one class each; a module is imported only in the process that measures it."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from dataclasses import dataclass

from .base import Peer


@dataclass(frozen=True)
class Entry:
    """Where a peer is found: its class, and the distribution that brings it (empty: Python or ourselves).

    ``on_request``: measured only where it is named.
    """

    name: str
    module: str
    class_name: str
    distribution: str = ""
    on_request: bool = False

    def version(self) -> str | None:
        """The version installed here, or None where it is missing."""
        if not self.distribution:
            return f"Python {platform.python_version()}"
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def make(self) -> Peer:
        peer = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.class_name)()
        assert isinstance(peer, Peer)
        return peer


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("aioipc", "aioipc_pool", "AioipcPool"),
        Entry("aioipc-spin", "aioipc_pool", "SpinningAioipcPool", on_request=True),
        Entry("cf-fork", "futures", "ForkExecutor"),
        Entry("cf-forkserver", "futures", "ForkserverExecutor"),
        Entry("mp.Pool", "multiprocessing_pool", "MultiprocessingPool"),
        Entry("loky", "loky_executor", "LokyExecutor", "loky"),
        Entry("pebble", "pebble_pool", "PebblePool", "pebble"),
        Entry("mpire", "mpire_pool", "MpirePool", "mpire"),
        Entry("aiomultiprocess", "aiomultiprocess_pool", "AiomultiprocessPool", "aiomultiprocess"),
        Entry("anyio", "anyio_process", "AnyioProcess", "anyio"),
    )
}
