"""Tasks and services that meet a signal at the worst moment: behind the last bytecode before a call that waits."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal

from aioipc.supervisor.service_context import WorkerContext
from tests.harness.processes import eventually_async

SOURCE = r"""
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

int read_behind(int signum, int journal, int gate) {
    sigset_t it, pending;
    char byte;
    sigemptyset(&it);
    sigaddset(&it, signum);
    pthread_sigmask(SIG_BLOCK, &it, NULL);
    if (write(journal, "here\n", 5) != 5)
        return -1;
    do {
        usleep(1000);
        sigpending(&pending);
    } while (!sigismember(&pending, signum));
    pthread_sigmask(SIG_UNBLOCK, &it, NULL);  /* its handler, the part in C, runs now */
    return read(gate, &byte, 1) < 0 && errno == EINTR;
}
"""
"""`read_behind` says that it is there, waits until a signal has come, lets it in, then waits at a gate."""
LIBRARY, JOURNAL, GATE = "LATE_LIBRARY", "LATE_JOURNAL", "LATE_GATE"


def wait_behind(signum: int) -> bool:
    """Wait at the gate, behind a signal; tells whether a second one has interrupted that."""
    journal = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    gate = os.open(os.environ[GATE], os.O_RDONLY)
    try:
        result: int = ctypes.CDLL(os.environ[LIBRARY]).read_behind(signum, journal, gate)
        assert result >= 0
        return bool(result)
    finally:
        os.close(journal)
        os.close(gate)


async def block_behind(signum: int) -> bool:
    """The same in the loop, which it blocks."""
    return wait_behind(signum)


async def own_handler() -> bool:
    """Have the loop handle a signal for a while; tells whether the process's wake-up descriptor is what it was."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    before = _wakeup_fd()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await heard.wait()
    loop.remove_signal_handler(signal.SIGUSR1)
    # asyncio takes it away from whosever it is; it is taken back at the next beat.
    await eventually_async(lambda: _wakeup_fd() != -1, 30)
    return _wakeup_fd() == before


def _wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


async def serve_behind(worker: WorkerContext) -> None:
    """A service whose loop is blocked, behind the SIGTERM that asks it to stop."""
    await worker.ready()
    wait_behind(signal.SIGTERM)
