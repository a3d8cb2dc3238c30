"""Who listens at a TCP port, as the kernel's tables tell."""

from __future__ import annotations

import os
import socket

import pytest

from aioipc._sys.tcp_sockets import ListeningPort, listening_ports


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
)
def test_finds_who_listens(family: int, host: str) -> None:
    with socket.socket(family) as sock:
        try:
            sock.bind((host, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {host}: {error}")
        port = sock.getsockname()[1]
        assert listening_ports(port) == []  # bound, but nobody can connect
        sock.listen()
        assert listening_ports(port) == [ListeningPort(host, port, os.geteuid(), os.fstat(sock.fileno()).st_ino)]
        with socket.create_connection(("::1" if family == socket.AF_INET6 else host, port)):
            assert len(listening_ports(port)) == 1  # no connections
