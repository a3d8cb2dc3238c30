"""Functions that the workers of a supervised pool run."""

from __future__ import annotations

import os
import time
from pathlib import Path


def write(path: str, text: str) -> int:
    """Add a line to a file; returns the worker's pid."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)
    return os.getpid()


def wait_for(path: str) -> int:
    """Go on when that file is there; another one tells that it has begun."""
    Path(f"{path}-begun").touch()
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


def fail_as_often(path: str) -> None:
    """As an initializer: fail as often as the file says."""
    file = Path(path)
    left = int(file.read_text()) if file.exists() else 0
    if left:
        file.write_text(str(left - 1))
        raise RuntimeError("this is why")
