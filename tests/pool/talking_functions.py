"""What workers log and print in the tests of logs and of captured output."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

LOG_PIPE = 1 << 18


def log(name: str, level: int, message: str, *args: object, **options: Any) -> int:
    """Log one record; return the line number that it must have."""
    logging.getLogger(name).log(level, message, *args, **options)
    return sys._getframe().f_lineno - 1


def log_many(name: str, count: int, marker: str = "") -> None:
    logger = logging.getLogger(name)
    for number in range(count):
        logger.info("record %d", number)
    if marker:
        Path(marker).touch()


async def log_async(name: str, number: int) -> None:
    await asyncio.sleep(0.001)
    logging.getLogger(name).info("async %d", number)


def log_in_thread(name: str, thread_name: str) -> int:
    thread = threading.Thread(target=log, args=(name, logging.INFO, "from a thread"), name=thread_name)
    thread.start()
    thread.join()
    assert thread.ident is not None
    return thread.ident


def log_in_threads(name: str, threads: int, count: int, size: int) -> None:
    """Every record is long enough to need several writes."""
    logger = logging.getLogger(name)

    def talk(who: int) -> None:
        for number in range(count):
            logger.info("%d %d %s", who, number, "x" * size)
            barrier.wait()  # all at the same time, and no more than the pipe holds

    barrier = threading.Barrier(threads)
    workers = [threading.Thread(target=talk, args=(who,)) for who in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def log_exception(name: str) -> None:
    try:
        raise KeyError("what went wrong: é")
    except KeyError:
        logging.getLogger(name).exception("it failed")


def log_and_die(name: str, count: int) -> NoReturn:
    log_many(name, count)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def log_and_fork(name: str, forks: int) -> int:
    """Fork again and again while a thread logs; parent and children log as well. Returns how many it logged here."""
    logger = logging.getLogger(name)
    stop = threading.Event()
    count = 0

    def talk() -> None:
        nonlocal count
        while not stop.is_set():
            logger.info("thread %s", "y" * 6000)
            count += 1
            stop.wait(0.001)

    thread = threading.Thread(target=talk)
    thread.start()
    for number in range(forks):
        if (pid := os.fork()) == 0:
            logger.info("child %d", number)
            os._exit(0)
        logger.info("parent %d", number)
        os.waitpid(pid, 0)
    stop.set()
    thread.join()
    return count + forks


def enabled(*questions: tuple[str, int]) -> list[bool]:
    return [logging.getLogger(name).isEnabledFor(level) for name, level in questions]


def configure_and_log(name: str) -> None:
    """As a task does that knows nothing of pools."""
    logging.basicConfig(level=logging.INFO, format="own %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger(name).info("twice")


def log_to_the_root() -> int:
    """`logging.warning` gives a root logger without handlers one that prints."""
    logging.warning("by the module's function")
    return len(logging.getLogger().handlers)


def log_pipe() -> int:
    """The descriptor that log records are written to."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == LOG_PIPE:
                return fd
        except OSError:  # the one that listed the directory
            continue
    raise AssertionError("there is no such pipe")


def write_garbage(name: str, pieces: list[bytes]) -> None:
    for number, piece in enumerate(pieces):
        os.write(log_pipe(), piece)
        logging.getLogger(name).info("after %d", number)


def close_log_pipe(name: str) -> str:
    os.close(log_pipe())
    logging.getLogger(name).info("nobody hears this")
    return "done"


# -- printing --------------------------------------------------------------------------------------------------


def say(*texts: str) -> int:
    for text in texts:
        print(text)
    return os.getpid()


def say_loudly(text: str) -> None:
    print(text, file=sys.stderr)


def write(fd: int, data: bytes) -> int:
    os.write(fd, data)
    return os.getpid()


def shell(script: str) -> int:
    return subprocess.run(["sh", "-c", script], check=False).returncode


def write_and_die(fd: int, data: bytes) -> NoReturn:
    os.write(fd, data)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fork_and_print() -> int:
    if (pid := os.fork()) == 0:
        print("in the child")
        os._exit(0)
    os.waitpid(pid, 0)
    print("in the parent")
    return pid


def leave_a_grandchild() -> int:
    """A process in a session of its own that holds standard output open."""
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid


def standard_descriptors() -> dict[int, str]:
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)}


def close_output() -> str:
    os.close(1)
    os.close(2)
    return "done"
