"""Take a leak out of the world. Only what is surely ours: verified descendants, objects in our namespaces."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Hashable
from pathlib import Path

import sysv_ipc

from .isolation import Isolation
from .probes import was_to_be_removed
from .processes import Process, process

_SYSV: dict[str, Callable[[int], None]] = {
    "msg": sysv_ipc.remove_message_queue,
    "sem": sysv_ipc.remove_semaphore,
    "shm": sysv_ipc.remove_shared_memory,
}


def kill_and_reap(leaked: Process) -> None:
    """SIGKILL to the very process that was found, not a later one of its number; reap our own child."""
    now = process(leaked.pid)
    if now is None or now.start != leaked.start:
        return
    if not now.is_zombie:
        os.kill(leaked.pid, signal.SIGKILL)
    if now.ppid == os.getpid():
        try:
            os.waitpid(leaked.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else's waitpid was quicker
            pass


def remove(kind: str, key: Hashable, isolation: Isolation) -> None:
    """Remove a leaked object or file; things of other kinds are left alone."""
    if kind == "temporary file":
        _remove_path(isolation.temporary / str(key))
    elif kind == "owner record":
        _remove_path(isolation.state / str(key))
    elif not isolation.private:
        return  # it may be another program's
    elif kind == "shared memory file":
        _remove_path(Path("/dev/shm", str(key)))
    elif kind == "POSIX queue":
        _remove_path(isolation.queues / str(key))
    elif kind == "System V object" and isinstance(key, tuple):
        _SYSV[key[0]](key[1])


def forget_what_stays(isolation: Isolation) -> None:
    """Take away the owner records of objects that are to stay: the next test knows nothing of them."""
    for name in os.listdir(isolation.state):
        if not was_to_be_removed(str(isolation.state / name)):
            _remove_path(isolation.state / name)


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
