"""System calls alone, on two pipes: blocking, without a loop. Nothing on pipes can be faster."""

from __future__ import annotations

import os
import select
import subprocess
from time import perf_counter

from .base import ChannelPeer, Invitation, cut, two_fds, two_pipes

AT_MOST = 65536


class SystemCalls(ChannelPeer):
    async def invite(self) -> Invitation:
        (self._in, self._out), invitation = two_pipes()
        return invitation

    async def join(self, address: str) -> None:
        self._in, self._out = two_fds(address)

    async def converse(self, count: int, message: bytes) -> list[float]:
        read, write, size, times = self._in, self._out, len(message), []
        for _ in range(count):
            started = perf_counter()
            os.write(write, message)
            os.read(read, size)
            times.append(perf_counter() - started)
        return times

    async def answer(self, count: int, message: bytes) -> None:
        read, write, size = self._in, self._out, len(message)
        for _ in range(count):
            os.read(read, size)
            os.write(write, message)

    async def pour(self, count: int, message: bytes) -> None:
        write = self._out
        for _ in range(count):
            os.write(write, message)

    async def drain(self, count: int, size: int) -> None:
        rest = b""
        while count:
            messages, rest = cut(rest + os.read(self._in, AT_MOST), size)
            count -= len(messages)

    async def swallow(self, count: int, size: int) -> None:
        missing = count * size
        while missing:
            missing -= len(os.read(self._in, min(missing, AT_MOST)))

    async def through_cat(self, count: int, chunk: bytes) -> int:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:  # noqa: ASYNC220
            assert cat.stdin is not None
            assert cat.stdout is not None
            os.set_blocking(cat.stdin.fileno(), False)
            passed, output = 0, cat.stdout.fileno()
            for _ in range(count):
                passed += _feed(cat.stdin.fileno(), output, memoryview(chunk))
            cat.stdin.close()
            while data := os.read(output, AT_MOST):
                passed += len(data)
        return passed


def _feed(stdin: int, stdout: int, rest: memoryview) -> int:
    """Write all of it, and meanwhile read what comes out; return how much that was."""
    passed = 0
    while rest:
        readable, writable, _ = select.select([stdout], [stdin], [])
        if readable:
            passed += len(os.read(stdout, AT_MOST))
        if writable:
            rest = rest[os.write(stdin, rest) :]
    return passed
