"""A pool as the target of a child, as far as a supervisor must know it: pools stand on supervisors, not below them.

A pool has no process of its own. It lives in the master's loop and looks after its zygote and its workers by itself; to
the core of the supervisor it is one process, that is spawned, gets ready, is asked to stop and ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .child_handle import HandleOwner, PoolHandle


class PoolTarget(ABC):
    """What a pool is made of. Every start of the child, and every replacement, is a new pool."""

    @property
    @abstractmethod
    def shutdown(self) -> float:
        """Seconds that its tasks get to end, where the `ChildSpec` does not say."""

    @abstractmethod
    def check_sendable(self) -> None:
        """Raise SerializationError where one of its functions cannot be sent to workers."""

    @abstractmethod
    def new_handle(
        self, loop: asyncio.AbstractEventLoop, name: str, owner: HandleOwner, on_doom: Callable[[], None]
    ) -> PoolHandle:
        """Return a new pool, not started yet, as the child ``name``.

        ``on_doom`` is called when its workers are about to be killed because the program is told to end at once.
        """
