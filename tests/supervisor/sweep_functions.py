"""A service with which everything goes wrong, but each thing once: at one point of the life of one of its processes.

Its child is called "fault-point". The processes of a child count themselves by a file, so each knows its number; as
this module is imported by the process itself, a fault can also hit the import.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aioipc import WorkerContext

MARGIN = 64 << 20


async def kill() -> None:
    """Also what the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


async def segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


async def stop() -> None:
    """Again, too, where the request to stop comes with a SIGCONT."""
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


async def memory() -> None:
    """Have no more address space than there is, and take more."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MARGIN  # less than it has mapped already
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    hoard = []
    while True:
        hoard.append(bytearray(MARGIN // 4))


async def block() -> None:
    time.sleep(600)  # noqa: ASYNC251 - on purpose


async def gil() -> None:
    ctypes.PyDLL(None).sleep(600)


async def deaf() -> None:
    """Hear no request, no signal and no cancellation, and never be ready."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


async def error() -> None:
    raise RuntimeError("this was to be expected")


FAULTS: dict[str, Callable[[], Awaitable[None]]] = {
    each.__name__: each for each in (kill, segv, stop, memory, block, gil, deaf, error)
}

POINTS: dict[str, tuple[tuple[str, int], ...]] = {
    "importing": (("import", 1),),
    "starting": (("start", 1),),
    "ready": (("ready", 1),),
    "again": (("ready", 1), ("start", 2)),
    "replaced": (("told", 1),),
    "replacement": (("start", 2),),
    "leaving": (("drain", 1),),
    "draining": (("drain", 1),),
    "stopping": (("stop", 2),),
}
"""Where in its code which of the child's processes does it, by the point's name: while it is imported, before it is
ready, when it is ready (and the next one, which is started out of the back-off, too), when its replacement starts, as
the replacement, having been replaced, having been asked to stop, the same before it was ready."""


def directory() -> Path:
    """Where the processes of a test count themselves."""
    return Path(os.environ["SWEEP"])


def starts(name: str, where: Path) -> int:
    """How many processes a child has had."""
    path = where / f"{name}.starts"
    return path.stat().st_size if path.exists() else 0


def count_start(name: str) -> int:
    """Return which of the processes of its child this is."""
    path = directory() / f"{name}.starts"
    with path.open("ab") as file:
        file.write(b"x")
        return file.tell()


CHILD = os.environ.get("SWEEP_CHILD", "")
NUMBER = count_start(CHILD) if CHILD else 0


def _is_due(place: str) -> bool:
    return (place, NUMBER) in POINTS[CHILD.partition("-")[2]]


async def _pass(place: str) -> None:
    """Do here what was to be done here, if anything."""
    if _is_due(place):
        await FAULTS[CHILD.partition("-")[0]]()


if CHILD and _is_due("import"):
    FAULTS[CHILD.partition("-")[0]]().__await__().send(None)


async def serve(worker: WorkerContext) -> None:
    """Go through a life, up to the point where something goes wrong."""
    if _is_due("stop"):
        with contextlib.suppress(asyncio.CancelledError):  # which comes with the request, as it is not ready
            await worker.stopping()
        await _pass("stop")
        return
    await _pass("start")
    told = asyncio.Event()
    pid = directory() / f"{worker.name}.pid"
    if NUMBER == 1:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        pid.write_text(str(os.getpid()))
    elif NUMBER == 2 and "-replaced" in CHILD:
        await _outlive(int(pid.read_text()))
    await worker.ready()
    if _is_due("told"):
        await told.wait()
        await _pass("told")
    if _is_due("ready"):
        await asyncio.sleep(0.05)  # so that it is known to be ready
        await _pass("ready")
    await worker.stopping()
    await _pass("drain")


async def _outlive(pid: int) -> None:
    """Have the process that is to be replaced do what it is to do, and wait until it has ended of it."""
    pidfd, over = os.pidfd_open(pid), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, over.set)
    signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
    await over.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)
