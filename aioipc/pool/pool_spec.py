"""`PoolSpec`: a pool as a child of a supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..supervisor.child_handle import HandleOwner
from ..supervisor.pool_target import PoolTarget
from .hosted_pool import HostedPool
from .options import PoolOptions
from .pool import Pool


class PoolSpec(PoolOptions, PoolTarget):
    """What a pool is made of, as the target of a `ChildSpec`. It takes what `Pool` takes, and checks it at once::

        aioipc.ChildSpec("jobs", aioipc.PoolSpec(workers=4, initializer=connect))

    It is frozen; a changed one is made by ``dataclasses.replace``. ``shutdown`` is how long its tasks get to end when
    the child is stopped, unless the `ChildSpec` says otherwise. Raises TypeError and ValueError for options that cannot
    be.
    """

    def check_sendable(self) -> None:
        """Raise SerializationError where one of its functions cannot be sent to workers."""
        self.worker_settings()

    def new_pool(self) -> Pool:
        """Return a new pool of these options, not open yet."""
        return Pool(**vars(self))

    def new_handle(
        self, loop: asyncio.AbstractEventLoop, name: str, owner: HandleOwner, on_doom: Callable[[], None]
    ) -> HostedPool:
        """See `PoolTarget`; for supervisors."""
        return HostedPool(loop, name, self.new_pool(), owner, on_doom)
