"""A launcher: take rights away from this process, then become the command.

    python -m tests.harness.confine nobody,tiny-shm -- COMMAND...

It is a program of its own because a fork of pytest, which may have threads, must not run Python code.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from aioipc.testing import namespaces

from . import seccomp

NOBODY = 65534
_ROOT = Path(__file__).resolve().parents[2]


def become_nobody() -> None:
    """Uid and gid 65534 without groups or capabilities; the interpreter and the checkout stay readable."""
    for path in _needed_paths():
        _open_way_to(path)
    os.environ["HOME"] = "/nonexistent"
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _needed_paths() -> list[Path]:
    """The directories of the interpreter (followed through its links), its environment and the checkout."""
    prefixes = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), str(_ROOT)}
    return [Path(prefix) for prefix in sorted(prefixes)]


def _open_way_to(path: Path) -> None:
    """Where a directory above the path is closed to others, put one that lets through in its place.

    Only in a mount namespace of our own; the path itself is bound to where it was.
    """
    closed = next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
    if closed is None:
        return
    namespaces.private_mounts()
    held = os.open(path, os.O_PATH)
    namespaces.mount("way", str(closed), "tmpfs", options="mode=755")
    path.mkdir(parents=True)
    namespaces.mount(f"/proc/self/fd/{held}", str(path), flags=namespaces.MS_BIND | namespaces.MS_REC)
    os.close(held)


def make_root_read_only() -> None:
    """All that is mounted, except the kernel's own trees and /dev, can only be read."""
    namespaces.private_mounts()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4].encode().decode("unicode_escape")
        if Path(target).parts[1:2] not in (("proc",), ("sys",), ("dev",)):
            namespaces.mount("none", target, flags=namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY)


def shrink_shared_memory() -> None:
    """/dev/shm of 1 MB."""
    namespaces.private_mounts()
    namespaces.mount("tiny", "/dev/shm", "tmpfs", options="size=1m,mode=1777")


CONFINEMENTS: dict[str, Callable[[], None]] = {
    "read-only-root": make_root_read_only,
    "tiny-shm": shrink_shared_memory,
    "nobody": become_nobody,
    "seccomp-eperm": lambda: seccomp.refuse_pidfd_and_memfd(errno.EPERM),
    "seccomp-enosys": lambda: seccomp.refuse_pidfd_and_memfd(errno.ENOSYS),
}


def main(arguments: list[str]) -> None:
    """Apply the confinements in the order above, whatever the order given, and exec."""
    wanted, separator, *command = arguments
    assert separator == "--"
    unknown = set(wanted.split(",")) - set(CONFINEMENTS)
    assert not unknown, f"no such confinement: {unknown}"
    for name, confine in CONFINEMENTS.items():
        if name in wanted.split(","):
            confine()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
