"""What a child tells the master by ``sd_notify(3)``: a program of any language, with ``ready="notify"``.

Each process gets a socket of its own, in a directory that nobody else may read. The kernel adds to each datagram who
has sent it (SCM_CREDENTIALS of ``unix(7)``): only the child and the processes of its session count. A sender that has
ended when its message is read cannot be told from others, so ``systemd-notify(1)`` waits until it was (its barrier).
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import secrets
import socket
import stat
import struct
import tempfile
from collections.abc import Callable

from .._sys import procfs
from ..kernel.claims import Claim
from ..kernel.socket_base import BoundSocket, new_socket
from ..kernel.socket_paths import bind_datagram
from ..wire.sd_notify import LARGEST, Notification, decode

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_DESCRIPTORS = array.array("i", [0] * 253)  # SCM_MAX_FD
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(len(_DESCRIPTORS) * _DESCRIPTORS.itemsize)
_PER_TURN = 16
"""Datagrams that are read before the loop goes on."""

logger: logging.Logger = logging.getLogger("aioipc.supervisor")


class NotifyDirectory:
    """Where the sockets of a master are, one for each child that tells; a private directory, made with the first.

    It is made anew where somebody has removed it, as those do who clean up temporary directories.
    """

    def __init__(self) -> None:
        self._path: str | None = None

    def new_receiver(
        self, on_notification: Callable[[Notification], None], *, uid: int | None = None
    ) -> NotifyReceiver:
        """Return a receiver for one process that is about to be started, as another user where ``uid`` is given.

        Raises `OSError` where there is no temporary directory that can be written to, or no descriptor.
        """
        path = os.path.join(self._made(), secrets.token_hex(8))
        if uid is not None and uid != os.geteuid():
            os.chmod(self._made(), 0o711)  # may go through, not look; the names cannot be guessed
        receiver = NotifyReceiver(path, on_notification)
        try:
            if uid is not None:
                os.chown(path, uid, -1)
        except BaseException:
            receiver.close()
            raise
        return receiver

    def close(self) -> None:
        """Remove the directory, when its receivers are closed. Nothing was made: do nothing."""
        path, self._path = self._path, None
        if path is not None and _is_ours(path):
            try:
                os.rmdir(path)
            except OSError as error:
                logger.warning("the directory %s is left: %s", path, error.strerror)

    def _made(self) -> str:
        if self._path is None or not _is_ours(self._path):
            self._path = tempfile.mkdtemp(prefix="aioipc-notify-")
        return self._path


class NotifyReceiver(BoundSocket):
    """Where one process tells by sd_notify what it is about; `NotifyDirectory.new_receiver` makes it.

    What comes before `start` waits. ``on_notification`` is called on the loop for each datagram that says anything.
    """

    _label = "notify receiver"

    def __init__(self, path: str, on_notification: Callable[[Notification], None]) -> None:
        sock = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # before anybody can send
            with Claim.begin("unix-socket", path, remove=True) as claim:
                bind_datagram(sock, path, 0o600, claim)
            super().__init__(sock, path, claim)
        except BaseException:
            sock.close()
            raise
        self._on_notification = on_notification
        self._loop: asyncio.AbstractEventLoop | None = None
        self._child = 0
        self._warned = False

    @property
    def address(self) -> str:
        """What the process is to find in NOTIFY_SOCKET."""
        return str(self.path)

    def start(self, pid: int) -> None:
        """Listen to the process ``pid``, which leads a session, on the running loop. Started already: do nothing."""
        if self._loop is None:
            self._child = pid
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self.fileno(), self._read)

    def close(self) -> None:
        """Stop listening at once, and remove the socket; closed already: do nothing."""
        loop, self._loop = self._loop, None
        if loop is not None and self._socket is not None and not loop.is_closed():
            loop.remove_reader(self._socket.fileno())
        super().close()

    def _read(self) -> None:
        for _ in range(_PER_TURN):
            sock = self._socket
            if sock is None:  # closed by what was told
                return
            try:
                datagram, ancillary, _, _ = sock.recvmsg(LARGEST + 2, _ROOM, socket.MSG_CMSG_CLOEXEC)  # too large shows
            except BlockingIOError:
                return
            pid, descriptors = _parts(ancillary)
            try:
                if self._counts(pid):
                    self._tell(decode(datagram))
            finally:
                for fd in descriptors:  # a barrier ends here; nothing else is taken
                    os.close(fd)

    def _counts(self, sender: int) -> bool:
        if sender == self._child:
            return True
        info = procfs.process_info(sender) if sender else None
        if info is not None and info.session == self._child:
            return True
        if not self._warned:
            self._warned = True
            why = "has ended too early to be known" if info is None else "is not in its session"
            text = "process %d is not heard in the name of process %d by sd_notify: it %s"
            logger.warning(text, sender, self._child, why)
        return False

    def _tell(self, notification: Notification) -> None:
        if notification != Notification() and notification != Notification(barrier=True):
            self._on_notification(notification)


def _is_ours(path: str) -> bool:
    """Whether the directory is there, and of this user: another one may have taken the name of one that was removed."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _parts(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """Return who has sent it, and the descriptors that came with it."""
    pid, descriptors = 0, array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= _CREDENTIALS.size:
            pid = _CREDENTIALS.unpack_from(data)[0]
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return pid, descriptors.tolist()
