"""Who says something: one process among others, as logs and errors name it."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """A worker of a pool, or a replica of a service."""

    slot: int
    """Its place in the pool, or among the replicas."""
    service: str = ""
    """The name of the service, or of the child that the pool is; empty for a worker of another pool."""

    @property
    def label(self) -> str:
        """What it is called in texts."""
        return f"{self.service}.{self.slot}" if self.service else f"worker {self.slot}"

    @property
    def logger(self) -> str:
        """Which logger tells of it."""
        return "aioipc.supervisor" if self.service else "aioipc.pool"

    @property
    def process_name(self) -> str:
        """What it is called where one word is wanted."""
        return f"{self.service}.{self.slot}" if self.service else f"aioipc-worker-{self.slot}"
