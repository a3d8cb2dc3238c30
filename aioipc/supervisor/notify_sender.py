"""What the master tells the service manager that has started it (``sd_notify(3)``, ``sd_watchdog_enabled(3)``).

Without a service manager, or with one that does not listen, all of it does nothing: what cannot be sent is said in the
log, once, and is never an error. What finds the manager's queue full is sent when that has room, in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from asyncio import _get_running_loop  # public by asyncio's __all__
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Literal

from ..kernel.datagram_room import RoomReadiness
from ..wire.sd_notify import Notification

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_PIDFDID")
_MOST_WAITING = 64
_EXTENSION = 30.0
"""Seconds by which a start or a reload is extended, each time; a master that hangs in it is found out after that."""
_EXTEND_EVERY = 10.0

logger: logging.Logger = logging.getLogger("aioipc.supervisor")

Phase = Literal["starting", "up", "reloading", "stopping"]


class NotifySender:
    """Tells the service manager what the master is about; `from_environ` makes it. For use in one loop's thread.

    ``address`` is what NOTIFY_SOCKET says, a path or "@" and an abstract name; ``None`` tells nobody.
    ``watchdog_timeout`` is after how many seconds of silence the manager takes this process for dead; ``None``: never.
    """

    def __init__(self, address: str | None = None, *, watchdog_timeout: float | None = None) -> None:
        self.watchdog_timeout: float | None = watchdog_timeout
        """Seconds."""
        self.phase: Phase = "starting"
        """What the manager was told last."""
        self._address = _checked(address)
        self._waiting: deque[Notification] = deque()
        self._socket: socket.socket | None = None
        self._room: RoomReadiness | None = None
        self._is_armed = False
        self._watchdog: asyncio.Handle | None = None
        self._extending: asyncio.Handle | None = None
        self._healthy: Callable[[], bool] | None = None
        self._held_back = False
        self._failed = False

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] | None = None) -> NotifySender:
        """Take what the environment says of a service manager, and remove it: no child is to speak for the master.

        The watchdog is off where WATCHDOG_PID is another process. ``environ`` is ``os.environ`` by default.
        """
        variables = os.environ if environ is None else environ
        address, usec, pid, _ = (variables.pop(name, None) for name in _VARIABLES)
        return cls(address, watchdog_timeout=_timeout(usec) if pid in (None, str(os.getpid())) else None)

    def starting(self, status: str | None = None) -> None:
        """Say that the start may take longer than the manager gives by itself, on a running loop again and again."""
        if self.phase == "starting":
            self._send(Notification(extend_timeout=_EXTENSION, status=status))
            self._extend_later()

    def ready(self, status: str | None = None) -> None:
        """Say that everything is up, after the start or a reload, also one that failed: then the old is up."""
        if self.phase != "stopping":
            self.phase = "up"
            self._extend_no_more()
            self._send(Notification(ready=True, status=status))

    def reloading(self, status: str | None = None) -> None:
        """Say that a reload begins, which may take long as a start may; `ready` is to follow.

        Not up yet, or stopping: do nothing.
        """
        if self.phase == "up":
            self.phase = "reloading"
            now = time.monotonic()
            self._send(Notification(reloading=True, monotonic=now, extend_timeout=_EXTENSION, status=status))
            self._extend_later()

    def stopping(self, timeout: float, status: str | None = None) -> None:
        """Say that the stop begins, and may take so many seconds, more than the manager gives by itself.

        It is the last thing to be said: the watchdog is not for a service that stops, nor is anything after it.
        """
        if self.phase != "stopping":
            self.phase = "stopping"
            self._extend_no_more()
            self._watch_no_more()
            self._send(Notification(stopping=True, extend_timeout=timeout, status=status))

    def status(self, text: str) -> None:
        """Say, for people, what the master is doing, unless it stops."""
        if self.phase != "stopping":
            self._send(Notification(status=text))

    def watch(self, healthy: Callable[[], bool]) -> None:
        """Say twice within each timeout that the master is alive, while ``healthy()`` is true.

        It is asked each time, on the running loop, so a blocked loop is silent too; where it raises, it is not healthy.
        Without a watchdog, or where it stops already, nothing is asked. Raises `RuntimeError` without a running loop.
        """
        loop = asyncio.get_running_loop()
        self._healthy = healthy
        if self.phase == "stopping" or self._address is None:
            return
        if self.watchdog_timeout is not None and self._watchdog is None:
            self._watchdog = loop.call_soon(self._beat, loop, self.watchdog_timeout / 2)

    def close(self) -> None:
        """Stop; what still waits is tried once more. Closed already: do nothing."""
        self._watch_no_more()
        self._extend_no_more()
        if self._room is not None:
            self._room.close()
            self._room = None
        if self._waiting:
            self._flush(last=True)
        self._address = None
        self._waiting.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- how -------------------------------------------------------------------------------------------------

    def _beat(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._watchdog = loop.call_later(interval, self._beat, loop, interval)
        if self._is_healthy():
            self._held_back = False
            if not self._waiting:  # else the queue is full, and says enough
                self._send(Notification(watchdog="alive"))
        elif not self._held_back:
            self._held_back = True
            logger.error("the service manager is not told that the master is alive: it is not healthy")

    def _watch_no_more(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _extend_later(self) -> None:
        """Have the phase extended in time, by a loop that still turns then."""
        loop = _get_running_loop()
        if loop is not None and self._address is not None:
            self._extending = loop.call_later(_EXTEND_EVERY, self._extend)

    def _extend(self) -> None:
        self._send(Notification(extend_timeout=_EXTENSION))
        self._extend_later()

    def _extend_no_more(self) -> None:
        if self._extending is not None:
            self._extending.cancel()
            self._extending = None

    def _is_healthy(self) -> bool:
        try:
            return self._healthy is not None and self._healthy()
        except Exception:
            logger.exception("the master could not be asked whether it is healthy")
            return False

    def _send(self, notification: Notification) -> None:
        if self._address is not None:
            if len(self._waiting) == _MOST_WAITING:
                self._waiting.remove(next((each for each in self._waiting if _is_small(each)), self._waiting[0]))
            self._waiting.append(notification)
            if not self._is_armed:
                self._flush()

    def _flush(self, *, last: bool = False) -> None:
        """Send what waits, as far as the manager takes it, and the rest when it has room, unless this is the last."""
        while self._waiting and self._address is not None:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.sendto(self._waiting[0].encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
            except BlockingIOError:
                if not last:
                    self._wait_for_room(self._address)
                return
            except OSError as error:
                if not self._failed:
                    text = "the service manager cannot be told anything at %s (NOTIFY_SOCKET): %s"
                    logger.warning(text, self._address.replace("\0", "@"), error.strerror or error)
                self._failed = True
            else:
                self._failed = False
            self._waiting.popleft()

    def _wait_for_room(self, address: str) -> None:
        if _get_running_loop() is None:  # it is tried with the next message
            return
        if self._room is None:
            self._room = RoomReadiness(address)
        self._room.arm(self._on_room)
        self._is_armed = True

    def _on_room(self) -> bool:
        self._is_armed = False
        if self._room is not None:
            self._room.disarm()
        self._flush()
        if not self._waiting and self._room is not None:
            self._room.close()
            self._room = None
        return True


def _is_small(notification: Notification) -> bool:
    """Whether it can be left out: it only says what is going on."""
    return not (notification.ready or notification.reloading or notification.stopping)


def _checked(address: str | None) -> str | None:
    if not address:
        return None
    if address[0] not in "/@" or len(address) == 1:
        logger.warning("NOTIFY_SOCKET must be a path or '@name', not %r: nobody is told anything", address)
        return None
    return "\0" + address[1:] if address[0] == "@" else address


def _timeout(usec: str | None) -> float | None:
    if usec is None:
        return None
    if not (usec.isascii() and usec.isdecimal() and 0 < int(usec) < 1 << 63):
        logger.warning("WATCHDOG_USEC must be a number of microseconds, not %r: there is no watchdog", usec)
        return None
    return int(usec) / 1e6
