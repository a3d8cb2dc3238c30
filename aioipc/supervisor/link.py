"""Frames between master and worker on a private socket, in the master's loop.

Only our own protocol is read here, so it is read in the callback (decision 1), one receive per turn and socket,
and a task that awaits an answer is never in the way of another's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

from .._sys.send_queue import SendQueue
from ..wire.framing import (
    ATTACHMENTS_LIMIT,
    BODY_LIMIT,
    SCRATCH_SIZE,
    Buffer,
    Frame,
    FrameDecoder,
    ProtocolError,
)


class FrameLink:
    """One non-blocking stream socket on a loop: `send` frames, get frames by callback.

    ``on_frame`` is called for each frame, ``on_lost`` once, with the reason, when the link ends: end of file,
    an error of the socket, or bytes that are no frames, or announce one of more than ``limit`` bytes. After `close`
    neither is called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[str], None],
        *,
        scratch: int = SCRATCH_SIZE,
        limit: int = BODY_LIMIT + ATTACHMENTS_LIMIT,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = FrameDecoder(scratch, limit)
        self._unsent = SendQueue(sock)
        self._open = True
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_sending(self) -> bool:
        """Whether something waits for the peer to read."""
        return bool(self._unsent)

    def send(self, pieces: Iterable[Buffer]) -> None:
        """Send a frame: at once what the socket takes, the rest as soon as it takes more."""
        if not self._open:
            return
        waiting = bool(self._unsent)
        self._unsent.push(pieces)
        if not waiting and not self._written():
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def drain_input(self) -> None:
        """Read to the end what a peer that has died left in the socket."""
        while self._open and self._receive():
            pass

    def close(self) -> None:
        """Stop reading and writing; the socket stays open."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._unsent.clear()

    # -- callbacks -----------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._receive()

    def _receive(self) -> bool:
        """Receive once; False where there was nothing to receive."""
        try:
            count = self._sock.recv_into(self._decoder.buffer())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lose(str(error))
            return False
        if not count:
            self._lose("end of file")
            return False
        try:
            for frame in self._decoder.received(count):
                self._on_frame(frame)
                if not self._open:
                    break
        except ProtocolError as error:
            self._lose(f"it sent garbage: {error}")
        return True

    def _writable(self) -> None:
        if self._written():
            self._loop.remove_writer(self._sock.fileno())

    def _written(self) -> bool:
        try:
            return self._unsent.write()
        except OSError:
            self._unsent.clear()  # the reader will see the end and report it
            return True

    def _lose(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_lost(reason)
