"""One kernel object as `inventory` finds it: a frozen record with the same fields for every kind."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from functools import lru_cache

from aioipc._sys.open_files import Access, Uses, command
from aioipc.kernel.owner_records import KINDS as KINDS
from aioipc.kernel.owner_records import ObjectKind as ObjectKind
from aioipc.kernel.owner_records import OwnerRecord


@dataclass(frozen=True, slots=True)
class ObjectOpener:
    """A process that has an object open, mapped or attached."""

    pid: int
    command: str
    """The name of the process as ps(1) shows it (comm)."""
    access: str
    """``r``, ``w`` or ``rw``, and ``m`` where it is mapped or attached: ``rwm``."""


@dataclass(frozen=True, slots=True)
class SemaphoreState:
    """One semaphore: its value and who waits for it."""

    value: int
    waiting: int
    """How many wait for it to grow."""
    waiting_for_zero: int = 0
    """How many wait for it to become 0 (System V)."""
    last_pid: int = 0
    """The process that used it last (System V), 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelObject:
    """One object. Of fields that its kind does not have, or that could not be read, the value is ``None``.

    Sizes are bytes, times seconds since the epoch.
    """

    kind: ObjectKind
    name: str | None = None
    """A POSIX name with its slash, a path, an abstract socket's name with its ``@``; None for System V."""
    id: int | None = None
    """System V: what the calls take, and ``ipcs`` shows."""
    key: int | None = None
    """System V: signed, as in C; 0 for a private object."""
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    """The permissions."""
    size: int | None = None
    """How much fits in: of memory its size, of a queue the most bytes it holds."""
    used: int | None = None
    """How much is in it now; of memory, how much is in RAM or swap."""
    messages: int | None = None
    max_messages: int | None = None
    max_message_size: int | None = None
    count: int | None = None
    """How many semaphores a set has."""
    semaphores: tuple[SemaphoreState, ...] | None = None
    """Their values and waiters; None without permission to read them."""
    attached: int | None = None
    """System V memory: how often it is attached, in all processes."""
    socket_type: str | None = None
    """``stream``, ``seqpacket`` or ``dgram``; None where only the file of a socket is left."""
    listening: bool | None = None
    connections: int | None = None
    """How many accepted connections of this name are open."""
    openers: tuple[ObjectOpener, ...] = ()
    """The processes that have it open or attached, as far as they let us look. System V queues and semaphores have
    none: the kernel keeps no list of who uses them."""
    inode: int | None = None
    creator: int | None = None
    """The process that made it, where the kernel knows it or a record of its owner was left."""
    last_pids: tuple[int, ...] = ()
    """System V: who sent and received last, attached or detached last."""
    created: float | None = None
    """When it was made, where a record of its owner was left."""
    changed: float | None = None
    """When it was made, or its owner or permissions were changed since (``ctime``)."""
    last_used: float | None = None
    """The last operation that the kernel noted."""
    removed: bool = False
    """It has lost its name and goes when its last user does."""
    owner: OwnerRecord | None = None
    """What its maker has written about it, if that was aioipc, run by this user."""
    owner_alive: bool | None = None
    """Whether somebody alive has it open through aioipc; ``None`` without a record."""
    in_use: bool = False
    """Somebody alive has it open or attached, waits for it, listens on it or owns it."""
    orphan: bool = False
    """Nobody alive uses it, and its owner is dead, or who made and used it, or nobody could have it open unseen. What a
    record says is to stay is none."""

    @property
    def user(self) -> str | None:
        """The owner's name; the number as text where it has none."""
        return None if self.uid is None else user_name(self.uid)

    @property
    def values(self) -> tuple[int, ...] | None:
        """The values of the semaphores."""
        return None if self.semaphores is None else tuple(each.value for each in self.semaphores)

    @property
    def waiting(self) -> int | None:
        """How many processes or threads wait for any of the semaphores."""
        if self.semaphores is None:
            return None
        return sum(each.waiting + each.waiting_for_zero for each in self.semaphores)

    @property
    def label(self) -> str:
        """What to call it in a sentence: its name, or "id 5" with the key if it has one."""
        if self.name is not None:
            return self.name
        return f"id {self.id}" + (f" (key {self.key & 0xFFFFFFFF:#010x})" if self.key else "")


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """Return the name of a user, or the number as text."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def openers(uses: Uses | None) -> tuple[ObjectOpener, ...]:
    """Name the processes of a scan."""
    return tuple(ObjectOpener(pid, command(pid), _access(how)) for pid, how in sorted((uses or {}).items()))


def _access(how: Access) -> str:
    letters = {Access.READ: "r", Access.WRITE: "w", Access.MAPPED: "m"}
    return "".join(letter for flag, letter in letters.items() if flag in how)
