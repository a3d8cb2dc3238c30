"""The source of readiness for files that others write to: inotify says that one has changed (`aioipc._sys.inotify`).

All files of a loop share one inotify descriptor, since a user may have 128 of these. An event carries nothing that
matters; it says to look again. So it costs nothing that they are read in the callback, and that the kernel drops some.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from aioipc._sys.inotify import (
    ATTRIB,
    DELETE_SELF,
    IGNORED,
    MODIFY,
    MOVE_SELF,
    OVERFLOW,
    add_watch,
    decode_events,
    open_inotify,
    remove_watch,
)

_EVENTS = MODIFY | ATTRIB | DELETE_SELF | MOVE_SELF
_ROOM = 65536  # bytes: 4096 events of files


class ChangeReadiness:
    """Reports once for each time it is armed, when the file has changed since the last report, or at once at first.

    A change is a write, another size, another name or one name less. `watch` says which file it is.
    """

    __slots__ = ("_changed", "_fd", "_hub", "_report", "_watch")

    def __init__(self) -> None:
        self._hub: _Hub | None = None
        self._watch = self._fd = -1
        self._report: Callable[[], bool] | None = None
        self._changed = True

    def watch(self, fd: int) -> None:
        """Report changes of this open file from now on; the descriptor stays the caller's."""
        (hub, self._hub), old = (self._hub, None), self._watch
        self._fd = fd
        self._changed = True
        if hub is not None:
            with contextlib.suppress(OSError):  # `arm` will say so
                self._watch, self._hub = hub.add(self, fd), hub
            if self._hub is None or self._watch != old:
                hub.remove(self, old)
        if self._report is not None:
            self.arm(self._report)

    def arm(self, report: Callable[[], bool]) -> None:
        """Report the next change. Raises `OSError` at a limit (fs.inotify), before anything is armed."""
        loop = asyncio.get_running_loop()
        if self._hub is None:
            self._hub = _Hub.of(loop)
            self._watch = self._hub.add(self, self._fd)
            self._changed = True  # it may have happened before
        self._report = report
        if self._changed:
            loop.call_soon(self._fire)

    def disarm(self) -> None:
        """Do not report until armed again."""
        self._report = None

    def close(self) -> None:
        """Watch the file no longer."""
        self._report = None
        self._stop()

    def tell(self) -> None:
        """Note a change."""
        self._changed = True
        self._fire()

    def _fire(self) -> None:
        report, self._report = self._report, None
        if report is not None:
            self._changed = False
            report()

    def _stop(self) -> None:
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.remove(self, self._watch)


class _Hub:
    """The inotify descriptor of a loop, as long as somebody watches a file."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._fd = -1
        self._watchers: dict[int, set[ChangeReadiness]] = {}

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Hub:
        """Return the one of this loop."""
        hub = _hubs.get(loop)
        if hub is None or hub._pid != os.getpid():
            hub = _hubs[loop] = cls(loop)
        return hub

    def add(self, watcher: ChangeReadiness, fd: int) -> int:
        """Have the watcher told of changes; return the number to `remove` it by."""
        if self._fd < 0:
            self._fd = open_inotify()
            self._loop.add_reader(self._fd, self._read)
        try:
            watch = add_watch(self._fd, f"/proc/self/fd/{fd}", _EVENTS)
        except BaseException:
            self._end_if_idle()
            raise
        self._watchers.setdefault(watch, set()).add(watcher)
        return watch

    def remove(self, watcher: ChangeReadiness, watch: int) -> None:
        """Tell it no longer; a forked child leaves the descriptor to its parent."""
        if self._pid != os.getpid():
            return
        watchers = self._watchers.get(watch)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[watch]
                remove_watch(self._fd, watch)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._watchers and self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._loop.remove_reader(fd)
            os.close(fd)
        if not self._watchers and _hubs.get(self._loop) is self:
            del _hubs[self._loop]

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            told: set[ChangeReadiness] = set()
            for watch, mask in decode_events(os.read(self._fd, _ROOM)):
                if mask & OVERFLOW:
                    told.update(*self._watchers.values())
                elif mask & IGNORED:
                    told |= self._watchers.pop(watch, set())
                else:
                    told |= self._watchers.get(watch, set())
            for watcher in told:
                watcher.tell()
            self._end_if_idle()


_hubs: dict[asyncio.AbstractEventLoop, _Hub] = {}
