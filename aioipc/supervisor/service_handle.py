"""The master's side of one process of a service: a Python function that gets a `WorkerContext`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..exceptions import SerializationError
from ..wire import service_protocol as protocol
from ..wire.framing import Frame
from .child import Child
from .child_handle import HandleOwner
from .launch import Launch
from .launched_process import LaunchedProcess, pipes_of
from .relays import RelayOptions
from .serialization import dump
from .source import Source

ENTRY = "aioipc.supervisor.service_main:main"
"""What a zygote is to run for services and commands."""
EXIT_TIME = 8.0
"""Seconds that a process gets to end after its function has; it ends by itself after five."""


class ServiceHandle(LaunchedProcess):
    """One process of a service. ``function`` is an async function, or "module:function", which is imported there.

    ``shutdown`` is the number of seconds that it gives itself to stop when it is sent SIGTERM; `stop` says otherwise.
    With ``says_ready`` it accepts nothing before it has said that it is ready: asked to stop then, it is cancelled.
    ``app_dir`` is put first on its ``sys.path``, its working directory where that is ``None``.

    ``listeners`` are descriptors of listening sockets, by name; they stay the caller's.

    Raises `SerializationError` where the function cannot be sent, OSError where there are no descriptors left,
    ValueError for more than 200 listeners.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        replica: int,
        owner: HandleOwner,
        *,
        function: Callable[..., Any] | str,
        launch: Launch,
        relay: RelayOptions,
        heartbeat_timeout: float,
        shutdown: float,
        says_ready: bool = True,
        generation: int = 0,
        concurrency: int = 1,
        app_dir: str | None = None,
        listeners: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        source = Source(replica, name)
        relay = pipes_of(relay, launch)
        settings: dict[str, Any] = {
            "name": name,
            "replica": replica,
            "generation": generation,
            "concurrency": concurrency,
            "title": launch.title or source.label,
            "command": None,
            "app_dir": app_dir,
            "shutdown": shutdown,
            "says_ready": says_ready,
            "heartbeat_timeout": heartbeat_timeout,
            **_sendable(function, name),
        }
        child = Child(0, logs=relay.logs, capture=relay.capture, stdin=launch.stdin == "inherit", listeners=listeners)
        super().__init__(
            *(loop, source, owner, launch, relay, child, settings),
            heartbeat_timeout=heartbeat_timeout,
        )
        self._told_to_stop = False
        self._deadline = math.inf
        self._assumed_ready = False

    def stop(self, deadline: float) -> None:
        """See `LaunchedProcess.stop`: its function is told, and is cancelled shortly before the deadline; at once where
        it has yet to say that it is ready.
        """
        if self.state == "EXITED" or (self._told_to_stop and deadline >= self._deadline):
            return
        self._enter("STOPPING")
        self._told_to_stop = True
        self._deadline = deadline
        left = max(0.0, deadline - self._loop.time())
        self._control.send(protocol.encode_stop(time.monotonic() + left - min(1.0, left / 10)))
        self._continue()

    def assume_ready(self) -> None:
        """Count it as ready, since it has run for as long as that takes; ``ready`` is not told to the owner then."""
        if not self.was_ready and self.state != "EXITED":
            self._assumed_ready = True
            self._control.send(protocol.encode_plain(protocol.ASSUME_READY))

    # -- frames --------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        handler = _HANDLERS.get(frame.kind)
        if handler is None:
            super()._on_frame(frame)
        else:
            handler(self, frame)

    def _on_launched(self, frame: Frame) -> None:
        self._has_launched()

    def _on_ready(self, frame: Frame) -> None:
        self.child.ready()
        if self._assumed_ready:
            self.was_ready = True
        else:
            self._is_ready()

    def _on_status(self, frame: Frame) -> None:
        text = protocol.decode_status(frame)
        self._tell(lambda: self._owner.status(self, text))

    def _on_stopping(self, frame: Frame) -> None:
        why = protocol.decode_text(frame)
        self._enter("STOPPING")
        if why == protocol.ENDED:
            self._later(EXIT_TIME, self.kill, f"its function had ended and it did not exit for {EXIT_TIME:g} s")
        self._tell(lambda: self._owner.stopping_by_itself(self, why))


def _sendable(function: Callable[..., Any] | str, name: str) -> dict[str, Any]:
    if isinstance(function, str):
        return {"target": function, "function": None}
    try:
        return {"target": repr(function), "function": dump(function)}
    except Exception as error:
        raise SerializationError(f"the function of service {name!r} cannot be sent to it: {error}") from error


_HANDLERS: dict[int, Callable[[ServiceHandle, Frame], None]] = {
    protocol.LAUNCHED: ServiceHandle._on_launched,
    protocol.READY: ServiceHandle._on_ready,
    protocol.STATUS: ServiceHandle._on_status,
    protocol.STOPPING: ServiceHandle._on_stopping,
}
