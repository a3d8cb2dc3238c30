"""Who runs a pool for others, such as the supervisor whose child it is."""

from __future__ import annotations

from typing import Protocol

from ..exceptions import PoolClosed, WorkerBootError


class PoolHost(Protocol):
    """Hears what becomes of a pool; everything is called in the loop."""

    def pool_closing(self, error: WorkerBootError | PoolClosed | None) -> None:
        """It takes no more tasks, whoever wanted that, or because of this; it is to be left. May come again."""

    def pool_doomed(self) -> None:
        """All workers are about to be killed, since the program is told to end at once; it is closing already."""

    @property
    def name(self) -> str:
        """What its workers are called."""

    @property
    def advice(self) -> str:
        """What to do where it takes no more tasks; empty, or the end of a sentence."""
