"""Run scripts in hostile surroundings; a test skips, with the reason, where the machine cannot make them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Unpack

import pytest

from .scripts import Finished, Options, run_script

NOBODY = "nobody"
"""Uid and gid 65534, no capabilities."""
READ_ONLY_ROOT = "read-only-root"
"""Every file system but /proc, /sys and /dev can only be read, as with ``docker run --read-only``."""
TINY_SHM = "tiny-shm"
"""A /dev/shm of 1 MB."""
SECCOMP_EPERM = "seccomp-eperm"
"""pidfd_open and memfd_create fail with EPERM, as under an old container runtime."""
SECCOMP_ENOSYS = "seccomp-enosys"
"""pidfd_open and memfd_create fail with ENOSYS, as on an old kernel."""

ALL = (NOBODY, READ_ONLY_ROOT, TINY_SHM, SECCOMP_EPERM, SECCOMP_ENOSYS)


def launcher(*confinements: str) -> list[str]:
    """The command to put before another, as the ``launcher`` of `running_script`."""
    return [sys.executable, "-m", "tests.harness.confine", ",".join(confinements), "--"]


@cache
def why_not(*confinements: str) -> str | None:
    """None where this machine can do it, else the reason; tried once, for real."""
    tried = run_script("import ssl, ctypes, aioipc", launcher=launcher(*confinements))
    if tried.returncode == 0:
        return None
    last = (tried.stderr.strip() or f"exit status {tried.returncode}").splitlines()[-1]
    return f"this machine cannot run a script with {' and '.join(confinements)}: {last}"


def can_do(*confinements: str) -> bool:
    """Whether this machine can do it."""
    return why_not(*confinements) is None


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A directory in which other users find files; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="open-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def run_confined(
    confinements: tuple[str, ...] | str,
    source: str | Path,
    *arguments: str,
    timeout: float = 20,
    **options: Unpack[Options],
) -> Finished:
    """`run_script` under the confinements; skips the test where that is impossible."""
    names = (confinements,) if isinstance(confinements, str) else confinements
    if reason := why_not(*names):
        pytest.skip(reason)
    options["launcher"] = launcher(*names)
    return run_script(source, *arguments, timeout=timeout, **options)
