"""The other end of a master's control socket: for a command line, or a script. Plain blocking calls."""

from __future__ import annotations

import errno
import itertools
import math
import os
import select
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from ..exceptions import ControlError
from ..kernel.processes import open_pidfd
from ..kernel.socket_base import PeerCredentials, check_path, peer_of
from ..wire import control_protocol as protocol
from ..wire.control_protocol import Answer, ControlProtocolError, FrameSplitter
from .control_place import known_paths

_CONNECT_TIME = 5.0


def find_masters() -> dict[int, str]:
    """Return the control sockets of the masters of this user that run, by their pid.

    They are found in the state directory, also those that listen elsewhere; but none with another state directory.
    Raises OSError where AIOIPC_STATE_DIR leads to a directory that cannot be used.
    """
    found = {}
    for pid, path in sorted(known_paths().items()):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            result = probe.connect_ex(path)
            if result == errno.EAGAIN or (result == 0 and not _is_of_another(probe, path, pid)):
                found[pid] = os.path.realpath(path)
    return found


def _is_of_another(probe: socket.socket, path: str, pid: int) -> bool:
    """Whether a dead master has left a link to a socket where a later one listens now."""
    peer = peer_of(probe)
    return os.path.islink(path) and isinstance(peer, PeerCredentials) and peer.pid != pid


class ControlClient:
    """A connection to the master that listens at ``path``; also a context manager.

    Raises ControlError where nobody listens there, or somebody else's master does, TypeError or ValueError for what
    cannot be a path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = check_path(path)
        self._numbers = itertools.count(1)
        self._splitter = FrameSplitter(protocol.ANSWER_LIMIT)
        self._bodies: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_CONNECT_TIME)
            self._socket.connect(self.path)
            self._check_peer()
        except TimeoutError:
            self._socket.close()
            raise ControlError(f"the master at {self.path} does not accept connections") from None
        except OSError as error:
            self._socket.close()
            raise ControlError(f"no master can be reached at {self.path}: {error.strerror or error}") from None
        except BaseException:
            self._socket.close()
            raise

    def request(self, command: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """Tell the master to do a command, and return the result when it is done.

        The commands and their arguments are in the reference of ``aioipc run``. ``timeout`` is in seconds, without end
        by default. Raises ControlError where it is refused, fails or is not answered.
        """
        return self._ask(command, timeout, arguments).result

    def follow(self, lines: int = 100) -> Iterator[dict[str, Any]]:
        """Go through the last log records and those that come, until the master ends.

        Raises ControlError where it refuses. The connection is of no more use then but to be closed.
        """
        yield from self._ask("logs", None, {"lines": lines, "follow": True}).result
        while True:
            try:
                answer = self._receive()
            except ControlError:
                return
            yield answer.event

    def wait_ended(self, timeout: float | None = None) -> None:
        """Wait until the master that was told to shut down has ended, its process too.

        ``timeout`` is in seconds, without end by default. Raises ControlError where it is over.
        """
        peer = peer_of(self._socket)
        pid = peer.pid if isinstance(peer, PeerCredentials) else 0
        try:
            fd = open_pidfd(pid) if pid else None  # 0: a process of a PID namespace that cannot be seen
        except ProcessLookupError:
            return
        if fd is None:
            self._wait_closed(timeout)
            return
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if not poller.poll(None if timeout is None else math.ceil(timeout * 1000)):
                raise ControlError(f"the master at {self.path} has not ended within {timeout:g} s")
        finally:
            os.close(fd)

    def _wait_closed(self, timeout: float | None) -> None:
        """The last thing that a master does is to close its connections."""
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            raise ControlError(f"the master at {self.path} has not ended within {timeout:g} s") from None
        except OSError:
            pass

    def close(self) -> None:
        """Close the connection; what the master was told goes on. Closed already: do nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: str, timeout: float | None, arguments: dict[str, Any]) -> Answer:
        number = next(self._numbers)
        message = {**arguments, "command": command, "id": number, "version": protocol.VERSION}
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(protocol.encode_frame(message, protocol.REQUEST_LIMIT))
        except TimeoutError:
            raise ControlError(f"the master at {self.path} did not listen within {timeout:g} s") from None
        except OSError as error:
            raise ControlError(f"the master at {self.path} has gone: {error.strerror or error}") from None
        try:
            answer = self._receive()
        except TimeoutError:
            raise ControlError(f"the master at {self.path} did not answer within {timeout:g} s") from None
        if answer.error is not None:
            raise ControlError(answer.error.message, kind=answer.error.kind)
        return answer

    def _receive(self) -> Answer:
        try:
            while not self._bodies:
                data = self._socket.recv(65536)
                if not data:
                    raise ControlError(f"the master at {self.path} has closed the connection")
                self._bodies += self._splitter.feed(data)
            return protocol.decode_answer(self._bodies.pop(0))
        except ControlProtocolError as error:
            raise ControlError(
                f"what listens at {self.path} is no master of aioipc: {error}", kind="protocol"
            ) from None
        except TimeoutError:
            raise
        except OSError as error:
            raise ControlError(f"the master at {self.path} has gone: {error.strerror or error}") from None

    def _check_peer(self) -> None:
        peer = peer_of(self._socket)
        if isinstance(peer, PeerCredentials) and os.geteuid() not in (0, peer.uid) and peer.uid != 0:
            raise ControlError(f"the master at {self.path} is of another user (uid {peer.uid})")
