"""What every object has that is a file: owner, permissions, times, who has it open."""

from __future__ import annotations

import os
import stat

from aioipc._sys.exhaustion import raise_if_exhausted
from aioipc._sys.open_files import OpenFiles

from .kernel_object import KernelObject, ObjectKind, openers


def file_object(kind: ObjectKind, name: str, status: os.stat_result, users: OpenFiles) -> KernelObject:
    """Return the object of that file, to which its kind adds the rest."""
    found = openers(users.files.get((status.st_dev, status.st_ino)))
    return KernelObject(
        kind=kind,
        name=name,
        uid=status.st_uid,
        gid=status.st_gid,
        mode=stat.S_IMODE(status.st_mode),
        inode=status.st_ino,
        openers=found,
        in_use=bool(found),
        changed=status.st_ctime,
        last_used=status.st_mtime,
    )


def look(path: str) -> os.stat_result | None:
    """Return what the name itself is, not where a symbolic link leads to; None where there is nothing to see."""
    try:
        return os.lstat(path)
    except (OSError, ValueError):
        return None


def listed(folder: str) -> list[str]:
    """Return the names in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise_if_exhausted(error)
        return []
