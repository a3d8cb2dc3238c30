"""Waiting for anything about an object to change: every waiter is woken and looks for itself."""

from __future__ import annotations

import asyncio


class Change:
    """Any number of tasks wait for the next `notify`. Belongs to one loop."""

    __slots__ = ("_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []

    async def wait_change(self) -> None:
        """Wait for the next `notify`. Cancelling it changes nothing."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter.cancelled() and waiter in self._waiters:  # nobody may come to notify for long
                self._waiters.remove(waiter)

    def notify(self) -> None:
        """Wake every waiter."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
