"""Who tells that a UNIX datagram socket which was full has room again.

A socket that only sends hears nothing of its receivers. But one that is *connected* to a receiver is writable when that
has room (``unix(7)``, ``poll(2)``). So for the tasks that wait for one receiver a helper is connected to it. Nothing is
sent through it; it goes as soon as they have stopped waiting.

A report may be for nothing: the room that lacks may be that of the sending socket's own buffer, of which the helper
knows nothing, and then it would report for ever. So after a report for nothing the next wait is a pause. And the path
may lead to another receiver by now than the one that the helper was connected to: once a second it is connected anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aioipc._loop.back_off import BackOffReadiness
from aioipc._loop.readiness import DescriptorReadiness

ANEW = 1.0  # seconds until a helper is connected again


class RoomReadiness:
    """Reports that the datagram socket at a path may have room."""

    __slots__ = ("_armed", "_helper", "_path", "_pause", "_poll", "_reported", "_timer")

    def __init__(self, path: str) -> None:
        self._path = path
        self._helper: socket.socket | None = None
        self._poll: DescriptorReadiness | None = None  # of the helper
        self._pause = BackOffReadiness()
        self._armed = False
        self._reported = False  # and that woke a task
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, report: Callable[[], bool]) -> None:
        """Report when the helper is writable; after a pause where there is no helper, or its report was for nothing."""
        if self._armed:
            return
        self._armed = True

        def note() -> bool:
            self._reported = report()
            return self._reported

        for_nothing, self._reported = self._reported, False
        if for_nothing or not self._connect():
            self._pause.arm(report)
        elif self._poll is not None:
            self._poll.arm(note)
            self._timer = asyncio.get_running_loop().call_later(ANEW, self._look_anew, report)

    def disarm(self) -> None:
        """Stop reporting."""
        if self._armed:
            self._armed = False
            self._pause.disarm()
            if self._poll is not None:
                self._poll.disarm()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def close(self) -> None:
        """Stop reporting, and close the helper."""
        self.disarm()
        if self._helper is not None:
            self._helper.close()
            self._helper = self._poll = None

    def _look_anew(self, report: Callable[[], bool]) -> None:
        """Let a task try whoever is at the path now; where that is full, it arms this again, with another helper."""
        self.close()
        report()

    def _connect(self) -> bool:
        """Have a helper that is connected to whoever is at the path now."""
        if self._helper is not None:
            return True
        helper = None
        try:
            helper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            helper.connect(self._path)
        except OSError:  # no descriptor, or nobody there: whoever tries will see it
            if helper is not None:
                helper.close()
            return False
        self._helper, self._poll = helper, DescriptorReadiness(helper.fileno(), "write")
        return True
