"""The kinds of kernel objects, by the names that the commands know them by."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from aioipc import ObjectKind

KINDS: dict[ObjectKind, str] = {
    "sysv-queue": "msg",
    "sysv-semaphores": "sem",
    "sysv-memory": "shm",
    "posix-queue": "pmsg",
    "posix-semaphore": "psem",
    "posix-memory": "pshm",
    "fifo": "fifo",
}
"""What mk makes -> its short name: that of ipcrm(1) where there is one."""

SYSV: tuple[ObjectKind, ...] = ("sysv-queue", "sysv-semaphores", "sysv-memory")
ALL_KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
_BY_WORD: dict[str, ObjectKind] = {
    **{kind: kind for kind in ALL_KINDS},
    **{short: kind for kind, short in KINDS.items()},
}


def parse_kind(text: str, kinds: Collection[ObjectKind] = ALL_KINDS) -> ObjectKind:
    """The kind that a long or short name stands for; `ValueError` lists those of ``kinds``."""
    if (kind := _BY_WORD.get(text.lower())) is not None:
        return kind
    words = [f"{kind} ({KINDS[kind]})" if KINDS.get(kind, kind) != kind else kind for kind in kinds]
    raise ValueError(f"the kinds are {', '.join(words)}")


def parse_kind_to_make(text: str) -> ObjectKind:
    """A kind that mk can make."""
    kind = parse_kind(text, KINDS)
    if kind not in KINDS:
        raise ValueError(f"a {kind} goes with its process: aioipc recv --listen makes one")
    return kind
