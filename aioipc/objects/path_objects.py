"""FIFOs and UNIX sockets. The kernel has no list of FIFOs: found are those in use and those in the folders named."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from aioipc._sys.open_files import OpenFiles, Uses
from aioipc._sys.unix_sockets import NamedSocket, named_sockets, type_name

from .file_objects import file_object, listed, look
from .kernel_object import KernelObject, openers

_DELETED = " (deleted)"


def candidates(folders: Collection[str]) -> list[str]:
    """Return the paths of everything in the folders, and those that are no folders; symbolic links are not followed."""
    inside = (os.path.join(folder, name) for folder in folders for name in listed(folder))
    return [*(path for path in folders if is_candidate(path)), *inside]


def is_candidate(path: str) -> bool:
    """Return whether that is the path of a FIFO or a socket."""
    return (found := look(path)) is not None and (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode))


def fifos(users: OpenFiles, paths: Iterable[str]) -> Iterator[KernelObject]:
    """Yield the FIFOs that somebody has open and those among the paths."""
    seen = set()
    for path, status in sorted(users.fifos.values(), key=lambda item: item[0]):
        here = look(path)
        if here is not None and os.path.samestat(here, status):
            seen.add((status.st_dev, status.st_ino))
            yield _fifo(path, status, users)
        else:  # its name is gone, or means something only to those who have it open: another root directory
            yield replace(_fifo(path.removesuffix(_DELETED), status, users), removed=True)
    for path in paths:
        here = look(path)
        if here is not None and stat.S_ISFIFO(here.st_mode) and (here.st_dev, here.st_ino) not in seen:
            seen.add((here.st_dev, here.st_ino))
            yield _fifo(path, here, users)


def _fifo(path: str, status: os.stat_result, users: OpenFiles) -> KernelObject:
    return replace(file_object("fifo", path, status, users), last_used=max(status.st_mtime, status.st_atime))


def sockets(users: OpenFiles, paths: Iterable[str]) -> Iterator[KernelObject]:
    """Yield the UNIX sockets with a name, and the files among the paths that no socket listens behind any more."""
    ends: defaultdict[tuple[str, int], list[NamedSocket]] = defaultdict(list)
    for end in named_sockets() or ():
        ends[_whole_name(end, users), end.type].append(end)
    for (name, _), group in sorted(ends.items()):
        yield _socket(name, group, users)
    live = {os.path.realpath(name) for name, _ in ends}
    for path in paths:
        status = look(path)
        if status is not None and stat.S_ISSOCK(status.st_mode) and os.path.realpath(path) not in live:
            live.add(os.path.realpath(path))
            yield file_object("unix-socket", path, status, users)


def _whole_name(end: NamedSocket, users: OpenFiles) -> str:
    """Put the working directory of its process before a relative path, if that leads to a socket."""
    if not end.name.startswith(("/", "@")):
        for pid in users.sockets.get(end.inode, ()):
            try:
                path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), end.name)
            except OSError:
                continue
            if (status := look(path)) is not None and stat.S_ISSOCK(status.st_mode):
                return path
    return end.name


def _socket(name: str, ends: list[NamedSocket], users: OpenFiles) -> KernelObject:
    listeners = [end for end in ends if end.listening]
    uses: Uses = {}
    for end in listeners or ends:
        uses.update(users.sockets.get(end.inode, {}))
    status = look(name) if name.startswith("/") else None
    if status is not None and stat.S_ISSOCK(status.st_mode):
        found = file_object("unix-socket", name, status, users)
    else:
        found = KernelObject(kind="unix-socket", name=name, removed=name.startswith("/"))
    return replace(
        found,
        inode=(listeners or ends)[0].inode,
        socket_type=type_name(ends[0].type),
        listening=bool(listeners),
        connections=len(ends) - len(listeners) if listeners else 0,
        openers=openers(uses),
        in_use=True,
    )
