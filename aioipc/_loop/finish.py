"""Wait for the end of something that must not be left half-done, whoever cancels the one that waits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import anyio

T = TypeVar("T")


async def finish(task: asyncio.Task[T]) -> T:
    """Return the result of ``task``, which is under way; raise what it raises.

    Cancelled, by ``Task.cancel`` or by a cancel scope of anyio: ``task`` goes on, and the cancellation comes out
    when it is done. So it needs a deadline of its own. Several may wait for one task.
    """
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()
