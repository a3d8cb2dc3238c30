"""A program: for each kind of object, forks that are killed at every line that making and closing one runs through.

After each, `remove_orphans` must have removed exactly what was left. It prints how often that was so for each kind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

import aioipc
from aioipc._sys import posix_mq, sysvipc

KEY = 0x41494F4B
IDS: dict[Literal["msg", "sem", "shm"], str] = {"msg": "msqid", "sem": "semid", "shm": "shmid"}
FOLDER = tempfile.mkdtemp()
STATE = os.environ["AIOIPC_STATE_DIR"]
OURS = os.path.dirname(os.path.dirname(aioipc.__file__)) + "/aioipc/kernel/"
PASSED = 44  # the exit status of a fork that was not killed


async def reader(path: str) -> None:
    (await aioipc.open_fifo_reader(path, create=True, remove=True)).close()


def without_o_tmpfile() -> None:
    """Where /proc or the file system does not let a file be made without a name."""
    del os.O_TMPFILE
    aioipc.SharedMemory.create(4096, name="/aioipc-kill").close()


MAKERS: dict[str, Callable[[], Any]] = {
    "queue": lambda: aioipc.SysVMessageQueue.create(KEY).close(),
    "private queue": lambda: aioipc.SysVMessageQueue.create(max_bytes=100).close(),
    "private semaphores": lambda: aioipc.SysVSemaphoreSet.create(None, [1, 2]).close(),
    "semaphores": lambda: aioipc.SysVSemaphoreSet.create(KEY, [0]).close(),
    "private memory": lambda: aioipc.SysVSharedMemory.create(None, 4096).close(),
    "POSIX queue": lambda: aioipc.PosixMessageQueue.create("/aioipc-kill").close(),
    "POSIX semaphore": lambda: aioipc.PosixSemaphore.create("/aioipc-kill").close(),
    "POSIX memory": lambda: aioipc.SharedMemory.create(4096, name="/aioipc-kill").close(),
    "POSIX memory that has a name at once": without_o_tmpfile,
    "FIFO": lambda: asyncio.run(reader(f"{FOLDER}/fifo")),
    "listener": lambda: aioipc.listen_unix(f"{FOLDER}/socket").close(),
    "datagram socket": lambda: aioipc.open_datagram_socket(f"{FOLDER}/datagrams").close(),
}


def world() -> set[str]:
    """What there is that could be left over, records too."""
    tables = ((name, sysvipc.table(name) or ()) for name in IDS)
    found = {f"{name} {row[IDS[name]]}" for name, rows in tables for row in rows if row["cuid"] == os.geteuid()}
    found |= {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if "aioipc-" in name}
    found |= {f"{folder}/{name}" for folder in (FOLDER, STATE) for name in os.listdir(folder)}
    try:
        os.close(posix_mq.open_queue("/aioipc-kill", os.O_RDONLY))
        found.add("queue")
    except FileNotFoundError:
        pass
    return found


def killed_at(line: int, make: Callable[[], Any]) -> bool:
    """Make and close an object in a fork that is killed before the so manieth line; False where there are fewer."""
    child = os.fork()
    if not child:
        left = line

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(OURS):
                return None
            if event == "line":
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        make()
        sys.settrace(None)
        os._exit(PASSED)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (-signal.SIGKILL, PASSED), code
    return code != PASSED


def main(stride: int) -> None:
    for name, make in MAKERS.items():
        make() if name != "POSIX memory that has a name at once" else None  # imports, and what is made once
        before, line, leftovers = world(), 1, 0
        while killed_at(line, make):
            left = world() - before
            results = aioipc.remove_orphans()
            about = f"{name}, killed at line {line}, left {sorted(left)}; {results}"
            assert world() == before, f"there is {sorted(world() - before)}: {about}"
            assert all(result.outcome in ("removed", "gone") for result in results), about
            leftovers += any(result.outcome == "removed" for result in results)
            line += stride
        assert leftovers, name
        print(name, line - 1, leftovers)
    os.rmdir(FOLDER)


if __name__ == "__main__":
    main(int(sys.argv[1]))
