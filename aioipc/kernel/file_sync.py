"""Bringing files from the page cache to the disk (``fsync(2)``), in a thread, for any number of tasks at once."""

from __future__ import annotations

import os
import threading

from aioipc._loop.shared_call import SharedCall


class FileSync:
    """Syncs all files it was given; ``label`` says in errors whose they are."""

    def __init__(self, label: str) -> None:
        self._fds: list[int] = []  # oldest first
        self._busy = threading.Lock()
        self._closed = False
        self._shared = SharedCall(self.sync_now, label)

    @property
    def calls(self) -> int:
        """How often the files were synced for tasks."""
        return self._shared.calls

    def add(self, *fds: int) -> None:
        """Take over descriptors. The last one is synced each time, those before it once more."""
        self._fds += fds

    async def run(self) -> None:
        """Sync what was written until now, together with all tasks that wait; raises `OSError` where that fails."""
        await self._shared.run()

    def sync_now(self) -> None:
        """Sync in this thread, and wait for that."""
        with self._busy:
            fds = self._fds[:]
            try:
                for fd in fds:
                    os.fsync(fd)
            finally:
                for fd in fds[:-1]:
                    self._fds.remove(fd)
                    os.close(fd)
                if self._closed:
                    self._close_files()

    def close(self) -> None:
        """Close the descriptors; a sync that is under way does it at its end. Tasks get `ClosedResourceError`."""
        self._shared.close(self._end)

    def _end(self) -> None:
        self._closed = True
        if self._busy.acquire(blocking=False):
            self._close_files()
            self._busy.release()

    def _close_files(self) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)
