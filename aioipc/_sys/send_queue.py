"""What a non-blocking stream socket did not take yet."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable

_MAX_PIECES = 64


class SendQueue:
    """Pieces to be sent in order on a non-blocking socket, by sendmsg(2) and without joining them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pieces: deque[memoryview] = deque()

    def __len__(self) -> int:
        return len(self._pieces)

    def push(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Append pieces; nothing is sent yet."""
        self._pieces.extend(memoryview(piece) for piece in pieces if len(piece))

    def write(self) -> bool:
        """Send what the socket takes; True where that was everything. Raises OSError as sendmsg(2) does."""
        pieces = self._pieces
        try:
            while pieces:
                some = [pieces[i] for i in range(min(len(pieces), _MAX_PIECES))]
                self._sent(self._sock.sendmsg(some, (), socket.MSG_NOSIGNAL))
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def clear(self) -> None:
        """Forget what was not sent."""
        self._pieces.clear()

    def _sent(self, count: int) -> None:
        pieces = self._pieces
        while count:
            piece = pieces[0]
            if count < len(piece):
                pieces[0] = piece[count:]
                return
            count -= len(piece)
            pieces.popleft()
