"""Everything of a kind, or of all kinds, in one list: System V and POSIX objects, FIFOs, UNIX sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from aioipc._sys import open_files, procfs, sysvipc, unix_sockets
from aioipc._sys.open_files import OpenFiles
from aioipc.kernel.free_descriptors import naming_the_limit

from . import path_objects, posix_objects, sysv_objects
from .arguments import check_folders, check_kinds
from .judgement import judge
from .kernel_object import KINDS, KernelObject, ObjectKind
from .owners import Owners, is_alive

_IN_FOLDERS = {"fifo", "unix-socket"}
_BY_DESCRIPTORS = {"posix-queue", "posix-memory", *_IN_FOLDERS}
_BY_MAPPINGS = {"sysv-memory", "posix-semaphore", "posix-memory"}


@dataclass(frozen=True, slots=True)
class Inventory:
    """What `inventory` found. It is iterable, and has the objects in the order of their kinds."""

    objects: tuple[KernelObject, ...]
    notes: tuple[str, ...]
    """What could not be seen and why, a sentence each, with what helps."""
    time: float
    """When it was made, in seconds since the epoch."""

    def __iter__(self) -> Iterator[KernelObject]:
        return iter(self.objects)

    def __len__(self) -> int:
        return len(self.objects)

    def find(self, text: str) -> tuple[KernelObject, ...]:
        """Return the objects that ``text`` names, none or several: a name, or the id or key of a System V object.

        A name is whole: ``/jobs``, ``/run/app.sock``, ``@abstract``; ``jobs`` finds ``/jobs``, too, and a relative path
        the FIFO or socket there. A number is decimal, or hexadecimal with ``0x``; as an id it comes before a key.
        Raises `TypeError` for anything but text.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, such as a name or {str(text)!r}, not {type(text).__name__}")
        names = {text, "/" + text, os.path.abspath(text)}
        if named := tuple(each for each in self.objects if each.name in names):
            return named
        try:
            number = int(text, 0)
        except ValueError:
            return ()
        by_id = tuple(each for each in self.objects if each.id == number)
        keys = {number, number - (1 << 32)} - {0}
        return by_id or tuple(each for each in self.objects if each.key in keys)


def inventory(
    kinds: Collection[ObjectKind] | None = None, *, folders: Collection[str | os.PathLike[str]] = ()
) -> Inventory:
    """List the kernel objects of these kinds, or of all, with who uses them.

    ``folders`` are searched for FIFOs and socket files, without what is below them; one may also be the path of a FIFO
    or socket itself. The kernel has no list of FIFOs: elsewhere only those are found that a process has open.

    It is a plain call that reads /proc once over: some milliseconds with a hundred processes, and more with thousands
    (`asyncio.to_thread` keeps that away from a loop). Nothing is changed, and no message is taken. What a user may
    not see is left out, and the notes of the result say so; an object that comes or goes meanwhile may be in it or not.

    Raises `ValueError` for a kind that there is not (`KINDS` has them), `TypeError` for a text instead of kinds, and
    `OSError`, as `FileNotFoundError` or `NotADirectoryError`, for a folder that cannot be read. Where descriptors or
    memory run out it raises the `OSError`, too: nothing is taken for unused because it could not be looked at.

    proc(5), sysvipc(7), mq_overview(7), shm_overview(7), sem_overview(7), fifo(7), unix(7).
    """
    wanted: set[str] = set(check_kinds(kinds))
    readable = _readable(folders)
    now = time.time()
    with naming_the_limit("the inventory"):
        owners = Owners([kind for kind in KINDS if kind in wanted])
        users = OpenFiles()
        if wanted & (_BY_DESCRIPTORS | _BY_MAPPINGS):
            users = open_files.scan(descriptors=bool(wanted & _BY_DESCRIPTORS), mappings=bool(wanted & _BY_MAPPINGS))
        found = [_with_owner(each, owners) for each in _found(wanted, users, owners, readable)]
        judged = tuple(judge(each, users.unreadable, procfs.is_running) for each in found)
        return Inventory(judged, tuple(_notes(wanted, users, owners)), now)


def _readable(folders: Collection[str | os.PathLike[str]]) -> list[str]:
    found = check_folders(folders)
    for path in found:
        if not path_objects.is_candidate(path):
            os.scandir(path).close()  # raises what is wrong with it
    return found


def _with_owner(found: KernelObject, owners: Owners) -> KernelObject:
    if (record := owners.of(found)) is None:
        return found
    return replace(
        found,
        owner=record,
        owner_alive=is_alive(record),
        creator=found.creator or (record.pid if record.pid_namespace == procfs.namespace("pid") else None),
        created=found.created or record.created,
    )


def _found(wanted: set[str], users: OpenFiles, owners: Owners, folders: list[str]) -> Iterator[KernelObject]:
    if "sysv-queue" in wanted:
        yield from sysv_objects.queues()
    if "sysv-semaphores" in wanted:
        yield from sysv_objects.semaphores()
    if "sysv-memory" in wanted:
        yield from sysv_objects.memory(users)
    if "posix-queue" in wanted:
        yield from posix_objects.queues(users, owners.names("posix-queue"))
    for kind in ("posix-semaphore", "posix-memory"):
        if kind in wanted:
            yield from (each for each in posix_objects.shared_files(users) if each.kind == kind)
    paths = path_objects.candidates(folders) if wanted & _IN_FOLDERS else []
    if "fifo" in wanted:
        yield from path_objects.fifos(users, [*paths, *owners.names("fifo")])
    if "unix-socket" in wanted:
        yield from path_objects.sockets(users, [*paths, *owners.names("unix-socket")])


def _notes(wanted: set[str], users: OpenFiles, owners: Owners) -> Iterator[str]:
    if any(kind.startswith("sysv") for kind in wanted) and sysvipc.table("msg") is None:
        yield "System V objects: there is no /proc/sysvipc here, so none can be listed"
    if "posix-queue" in wanted and posix_objects.queue_folder() is None:
        yield (
            "POSIX queues: /dev/mqueue is not mounted, so only those are listed that somebody has open "
            "or aioipc has made; as root: mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue"
        )
    if "unix-socket" in wanted and unix_sockets.named_sockets() is None:
        yield "UNIX sockets: there is no /proc/net/unix here, so only files in the folders named are listed"
    if owners.trouble is not None:
        yield f"owners: the records of who made what cannot be read: {owners.trouble}"
    hidden = users.unreadable.total()
    if users.unreadable[open_files.UNKNOWN_USER]:
        yield "openers: /proc hides the processes of other users (hidepid); root sees them"
    elif hidden:
        yield f"openers: {hidden} processes of other users do not show what they have open; root sees them"
