"""Where the control socket of a master is: in a directory of this user alone, named after the master's pid."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from ..kernel.state_directory import existing, usable

_NAME = re.compile(r"run-(\d+)\.sock")
_LONGEST = 107 - len("/.12345678")  # a socket has another name before it listens


def default_paths(pid: int) -> Iterator[str]:
    """Go through the paths that the socket of a master may have, the best first; their directories are there."""
    for directory in usable():
        path = os.path.join(directory, f"run-{pid}.sock")
        if len(os.fsencode(path)) <= 107 and len(os.fsencode(directory)) <= _LONGEST:
            yield path


def clear_links(pid: int) -> None:
    """Remove what a dead master with the same pid has left that `announce` had made."""
    for path in default_paths(pid):
        with contextlib.suppress(OSError):
            if os.path.islink(path):
                os.unlink(path)


def announce(pid: int, path: str) -> str | None:
    """Have a control socket found that is not in the state directory: by a link there, whose path is returned.

    ``None`` where there is none: it cannot be made, or the socket itself is there.
    """
    clear_links(pid)
    for place in default_paths(pid):
        with contextlib.suppress(OSError):  # one that is there is of a master in another PID namespace
            os.symlink(path, place)
            return place
    return None


def known_paths() -> dict[int, str]:
    """Return the control sockets that are there, or links to them, by the pid in the name; of dead masters, too."""
    found: dict[int, str] = {}
    with existing() as directories:
        for directory in directories:
            with contextlib.suppress(OSError):
                for name in os.listdir(directory.fd):
                    if match := _NAME.fullmatch(name):
                        found.setdefault(int(match[1]), os.path.join(directory.path, name))
    return found
