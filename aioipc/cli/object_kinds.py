"""The kinds of kernel objects, by the names that the commands know them by."""

from __future__ import annotations

KINDS = {
    "sysv-queue": "msg",
    "sysv-semaphores": "sem",
    "sysv-memory": "shm",
    "posix-queue": "pmsg",
    "posix-semaphore": "psem",
    "posix-memory": "pshm",
    "fifo": "fifo",
}
"""Kind -> its short name: that of ipcrm(1) where there is one."""

_LONG = {short: kind for kind, short in KINDS.items()}
SYSV = ("sysv-queue", "sysv-semaphores", "sysv-memory")
POSIX = ("posix-queue", "posix-semaphore", "posix-memory")


def parse_kind(text: str) -> str:
    """The kind that a long or short name stands for; `ValueError` lists them."""
    word = text.lower()
    if (kind := _LONG.get(word, word)) in KINDS:
        return kind
    words = ", ".join(kind if kind == short else f"{kind} ({short})" for kind, short in KINDS.items())
    raise ValueError(f"the kinds are {words}")
