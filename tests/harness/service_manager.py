"""A service manager, as far as a service sees it: a socket that hears what is told by sd_notify."""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import eventually, eventually_async

_CREDENTIALS = struct.Struct("iII")


class ServiceManager:
    """Hears a service; `service_manager` makes it and ends it."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._socket = sock
        self.address = address
        """What NOTIFY_SOCKET is to be."""
        self.datagrams: list[str] = []
        """All that was heard, in order."""
        self.senders: list[int] = []
        """The process that each of them is from."""

    def environ(self, watchdog: float | None = None, pid: int | None = None) -> dict[str, str]:
        """What a service is started with; ``watchdog`` is in seconds."""
        found = {"NOTIFY_SOCKET": self.address}
        if watchdog is not None:
            found["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
        if pid is not None:
            found["WATCHDOG_PID"] = str(pid)
        return found

    def heard(self, *, watchdog: bool = False) -> list[str]:
        """What was heard until now, each datagram with its lines joined by a space; those of the watchdog left out."""
        while True:
            try:
                body, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                break
            self.senders += [_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary]
            self.datagrams.append(body.decode().removesuffix("\n").replace("\n", " "))
        return [each for each in self.datagrams if watchdog or each != "WATCHDOG=1"]

    def wait(self, text: str, timeout: float = 10) -> list[str]:
        """Wait until a datagram with this text in it was heard; return all of them."""
        eventually(lambda: self._has(text), timeout, lambda: f"{text} among {self.datagrams}")
        return self.heard()

    async def wait_async(self, text: str, timeout: float = 10) -> list[str]:
        """Do what `wait` does, with the loop running."""
        await eventually_async(lambda: self._has(text), timeout, lambda: f"{text} among {self.datagrams}")
        return self.heard()

    def _has(self, text: str) -> bool:
        return any(text in each for each in self.heard(watchdog=True))


@contextmanager
def service_manager(directory: Path | None = None) -> Iterator[ServiceManager]:
    """A service manager with its socket in a directory, or with an abstract one."""
    address = f"{directory}/notify" if directory is not None else f"@aioipc-test-{os.getpid()}-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sock.setblocking(False)
        yield ServiceManager(sock, address)
