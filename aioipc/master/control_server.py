"""The master's end of its control socket: a task a connection, with a limit on everything that a client can do.

One that sends half a request, or does not read the answer, loses its connection after a while. The commands themselves
are in control_commands.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from ..exceptions import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock
from ..kernel.listeners import Listener, listen_unix
from ..kernel.socket_base import PeerCredentials
from ..kernel.sockets import SocketStream
from ..wire import control_protocol as protocol
from ..wire.control_protocol import Answer, ControlProtocolError, Failure, FrameSplitter
from .log_tail import LogFollower, LogTail

MOST_CONNECTIONS = 32
HALF_TIME = 10.0
"""Seconds for the rest of a request, and for the reader of an answer."""
IDLE_TIME = 300.0
_LAST_MOMENTS = 1.0
_FULL = Answer(ok=False, error=Failure("state", f"there are {MOST_CONNECTIONS} connections to this master already"))

_log = logging.getLogger("aioipc.master")
_GONE = (EndOfStream, BrokenResourceError, ClosedResourceError, OSError)


class ControlServer:
    """Listens at ``path`` from the start on; ``do`` does a request and returns the answer, never raising.

    Raises OSError where that cannot be listened at, ValueError where it cannot be a path.
    """

    def __init__(self, path: str, do: Callable[[protocol.AnyRequest], Awaitable[Answer]], tail: LogTail) -> None:
        self.path: str = path
        self._do = do
        self._tail = tail
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._listener: Listener[SocketStream] = listen_unix(path, mode=0o600)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def aclose(self) -> None:
        """Stop listening, let what is being answered be answered, and close all connections."""
        self._listener.close()
        if self._busy:
            await asyncio.wait(list(self._busy), timeout=_LAST_MOMENTS)
        ending = [*self._connections, self._accepting]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                stream = await self._listener.accept()
            except ClosedResourceError:
                return
            except OSError as error:  # no descriptors left: others may give some back
                _log.warning("the control socket cannot accept a connection: %s", error)
                await asyncio.sleep(1)
                continue
            if len(self._connections) >= MOST_CONNECTIONS:
                with contextlib.suppress(*_GONE, WouldBlock):
                    stream.send_nowait(protocol.encode_frame(_FULL))
                stream.close()
                continue
            task = loop.create_task(self._serve(stream))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    # -- one connection --------------------------------------------------------------------------------------

    async def _serve(self, stream: SocketStream) -> None:
        try:
            if await self._is_allowed(stream):
                await self._converse(stream)
        except ControlProtocolError as error:
            with contextlib.suppress(*_GONE, TimeoutError):
                await _send(stream, Answer(ok=False, error=Failure("protocol", str(error))))
        except (*_GONE, TimeoutError):
            pass
        except Exception:
            _log.exception("a connection to the control socket has failed")
        finally:
            stream.close()

    async def _is_allowed(self, stream: SocketStream) -> bool:
        """Whether it is one of our own user, or root; the permissions of the socket say so, and this makes sure."""
        peer = stream.peer
        if isinstance(peer, PeerCredentials) and peer.uid in (0, os.geteuid()):
            return True
        _log.warning("somebody else has tried to use the control socket: %s", peer)
        await _send(stream, Answer(ok=False, error=Failure("protocol", "this master is for its own user, and root")))
        return False

    async def _converse(self, stream: SocketStream) -> None:
        splitter = FrameSplitter(protocol.REQUEST_LIMIT)
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        limit, was_half = loop.time() + IDLE_TIME, False
        while True:
            async with asyncio.timeout_at(limit):
                data = await stream.receive()
            bodies = splitter.feed(data)
            for body in bodies:
                self._busy.add(task)
                try:
                    follower = await self._answer(stream, body)
                finally:
                    self._busy.discard(task)
                if follower is not None:
                    await self._follow(stream, *follower)
                    return
            is_half = splitter.pending > 0
            if bodies or not was_half:
                limit = loop.time() + (HALF_TIME if is_half else IDLE_TIME)
            was_half = is_half

    async def _answer(self, stream: SocketStream, body: bytes) -> tuple[LogFollower, int] | None:
        """Answer one request; returns who is to get what follows, if that was asked for."""
        number = protocol.envelope_of(body).id
        try:
            request = protocol.decode_request(body)
        except ControlProtocolError as error:
            await _send(stream, Answer(ok=False, id=number, error=Failure("protocol", str(error))))
            return None
        if isinstance(request, protocol.Logs):
            follower = self._tail.follow() if request.follow else None
            await _send(stream, Answer(ok=True, id=number, result=self._tail.last(request.lines)))
            return None if follower is None else (follower, number)
        await _send(stream, await self._do(request))
        return None

    async def _follow(self, stream: SocketStream, follower: LogFollower, number: int) -> None:
        """Send what comes until the client closes the connection, or says anything more."""
        pushing = asyncio.get_running_loop().create_task(_push(stream, follower, number))
        try:
            await stream.receive()
        finally:
            follower.close()
            pushing.cancel()
            await asyncio.wait([pushing])


async def _push(stream: SocketStream, follower: LogFollower, number: int) -> None:
    try:
        while True:
            for event in await follower.next():
                await _send(stream, Answer(ok=True, id=number, event=event))
    except (*_GONE, TimeoutError):
        stream.close()


async def _send(stream: SocketStream, answer: Answer) -> None:
    try:
        data: Any = protocol.encode_frame(answer)
    except ValueError as error:
        data = protocol.encode_frame(Answer(ok=False, id=answer.id, error=Failure("failed", str(error))))
    async with asyncio.timeout(HALF_TIME):
        await stream.send(data)
