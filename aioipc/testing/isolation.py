"""Surroundings of our own, so that everything new in them is ours and can be judged as a leak.

Always: a temporary directory (TMPDIR) and a state directory (AIOIPC_STATE_DIR) of this test session. Where
the machine allows it (root, or CAP_SYS_ADMIN): an IPC namespace, so that System V objects and POSIX queues of
other programs are neither seen nor disturbed, and a tmpfs on /dev/shm. Elsewhere those are shared, and only
names that begin with ``aioipc`` count as ours.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .namespaces import CLONE_NEWIPC, mount, private_mounts, umount, unshare


@dataclass(frozen=True)
class Isolation:
    """What was set up: the directories of this session, and whether IPC objects are private to it."""

    directory: Path
    private: bool

    @property
    def temporary(self) -> Path:
        """What TMPDIR is set to."""
        return self.directory / "tmp"

    @property
    def state(self) -> Path:
        """What AIOIPC_STATE_DIR is set to: where aioipc keeps its owner records."""
        return self.directory / "state"

    @property
    def queues(self) -> Path:
        """A mount of the POSIX queue file system, made where /dev/mqueue need not exist."""
        return self.directory / "mqueue"


def new_directory() -> Path:
    """The directory of this session; remove it with `remove_directory`."""
    directory = Path(tempfile.mkdtemp(prefix="aioipc-testing-"))
    directory.chmod(0o755)
    return directory


def remove_directory(directory: Path) -> None:
    """Remove the session's directory with all that is in it."""
    shutil.rmtree(directory, ignore_errors=True)


def isolate(directory: Path, private: bool = True) -> Isolation:
    """Set it all up; call it once, while the process has a single thread.

    ``private``: in namespaces of our own, if the machine allows it.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(directory.parent))  # tmp_path stays where people look
    result = Isolation(directory, private=private and _private_namespaces())
    result.temporary.mkdir()
    result.temporary.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(result.temporary)
    result.state.mkdir(mode=0o700)
    os.environ["AIOIPC_STATE_DIR"] = str(result.state)
    result.queues.mkdir()
    if result.private:
        _try_mount("mqueue", str(result.queues), "mqueue")
    return result


def dismantle(isolation: Isolation) -> None:
    """Leave the session's directory and remove it."""
    tempfile.tempdir = None
    os.environ.pop("AIOIPC_STATE_DIR", None)
    os.environ["TMPDIR"] = str(isolation.directory.parent)
    if isolation.queues.is_mount():
        umount(str(isolation.queues))
    remove_directory(isolation.directory)


def _private_namespaces() -> bool:
    try:
        private_mounts()
        unshare(CLONE_NEWIPC)
        mount("aioipc-testing", "/dev/shm", "tmpfs", options="mode=1777")
    except OSError:
        return False
    return True


def _try_mount(source: str, target: str, kind: str) -> None:
    try:
        mount(source, target, kind)
    except OSError:  # a kernel without POSIX queues
        pass
