"""A program: processes make, open and lose objects of the same names while others clean up all the time.

Whoever has an object, made or opened, must find that it is there as long as it lives; and at last nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import aioipc
from aioipc._sys.libc import set_parent_death_signal
from aioipc.kernel.owner_records import read_records

KEY = 0x41494F53
NAME = "/aioipc-storm"
FOLDER = tempfile.mkdtemp()


async def fifo() -> aioipc.FifoReceiveStream:
    return await aioipc.open_fifo_reader(f"{FOLDER}/fifo", create=True, remove=True, persistent=True)


def is_there(made: Any) -> bool:
    if isinstance(made, aioipc.SysVMessageQueue | aioipc.SysVSemaphoreSet):
        made.statistics()  # ObjectRemovedError
        return True
    if isinstance(made, aioipc.Listener):
        return os.path.exists(f"{FOLDER}/socket")
    return not made.is_removed()


MAKERS: list[Callable[[], Any]] = [
    lambda: aioipc.SysVMessageQueue.create(KEY, exist_ok=True),
    lambda: aioipc.SysVSemaphoreSet.create(KEY, [1], exist_ok=True),
    lambda: aioipc.SysVSharedMemory.create(KEY, 10, exist_ok=True),
    lambda: aioipc.PosixMessageQueue.create(NAME, exist_ok=True),
    lambda: aioipc.PosixSemaphore.create(NAME, exist_ok=True),
    lambda: aioipc.SharedMemory.create(10, name=NAME, exist_ok=True),
    lambda: asyncio.run(fifo()),
    lambda: aioipc.listen_unix(f"{FOLDER}/socket"),
]


def use(seed: int) -> None:
    """Make or open one of each, look at them for a while, and die."""
    chosen = random.Random(seed)
    kept = []
    for make in chosen.sample(MAKERS, len(MAKERS)):
        with contextlib.suppress(OSError if make is MAKERS[-1] else ()):  # somebody else listens there
            kept.append(make())
    for _ in range(chosen.randrange(20)):
        for each in kept:
            assert is_there(each), f"{each!r} was taken away from its living user"
    os.kill(os.getpid(), signal.SIGKILL)


def clean(seed: int) -> None:
    while True:
        failed = [result for result in aioipc.remove_orphans() if result.outcome == "failed"]
        assert not failed, failed


def started(work: Callable[[int], None], seed: int) -> int:
    child = os.fork()
    if not child:
        set_parent_death_signal(signal.SIGKILL)
        try:
            work(seed)
        finally:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    return child


def main(rounds: int) -> None:
    for make in MAKERS:
        make().close()  # imports, and what is made once
    cleaners = [started(clean, seed) for seed in range(2)]
    users: set[int] = set()
    number = 0
    while number < rounds or users:
        while number < rounds and len(users) < 3:
            users.add(started(use, number))
            number += 1
        pid, status = os.wait()
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{pid} has failed"
        users.remove(pid)
    for pid in cleaners:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    aioipc.remove_orphans()
    assert read_records() == os.listdir(FOLDER) == [], (read_records(), os.listdir(FOLDER))
    os.rmdir(FOLDER)


if __name__ == "__main__":
    main(int(sys.argv[1]))
