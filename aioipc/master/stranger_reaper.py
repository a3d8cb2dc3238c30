"""The duty of process 1: to reap the orphans of others, which the kernel hands to it.

The processes of services never come here: their zygote reaps them, and adopts what they leave. But in a container the
master may be process 1, and gets the orphans of whatever else is started in it, as by ``docker exec``. It does not
wait for "any child": that would take the exit status of its own ones from those who wait for them. So it looks now and
then, and reaps by number what is not its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from .._sys.procfs import children, process_info
from ..supervisor.zygote import live_pids

INTERVAL = 1.0
"""Seconds between two looks."""


class StrangerReaper:
    """Reaps them on the loop, from the start to `close`, where this is process 1; else it does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seen: set[int] = set()
        self._timer = loop.call_later(INTERVAL, self._look) if os.getpid() == 1 else None

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._look)
        self._seen = reap_strangers(self._seen)


def reap_strangers(seen: set[int]) -> set[int]:
    """Reap the children that have ended, are not ours, and had ended at the look before; return those for the next.

    A child of ours that is not known as such (somebody uses `subprocess`) has that long to be waited for.
    """
    own = live_pids()
    ended = {pid for pid in children(os.getpid()) if pid not in own and _is_zombie(pid)}
    for pid in ended & seen:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return ended - seen


def _is_zombie(pid: int) -> bool:
    found = process_info(pid)
    return found is not None and found.state == "Z"
