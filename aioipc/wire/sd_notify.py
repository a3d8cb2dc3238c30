"""The protocol of ``sd_notify(3)``: what a service tells its manager, as datagrams of lines ``NAME=value`` (pure).

Whoever reads may be told anything by anybody: what is not understood is left out, line by line, and never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LARGEST = 4096
"""Bytes of a datagram; systemd ignores larger ones."""
_LONGEST_STATUS = 1024
"""Characters; it is for one line of ``systemctl status``."""
_MOST_MICROSECONDS = (1 << 64) - 1  # usec_t; the most itself means "for ever"


@dataclass(frozen=True, slots=True)
class Notification:
    """What one datagram says. Times are seconds."""

    ready: bool = False
    """The service is up, or has finished a reload."""
    reloading: bool = False
    """It begins to reload; `ready` follows."""
    stopping: bool = False
    """It begins to stop."""
    status: str | None = None
    """What it is doing, for people."""
    watchdog: Literal["alive", "trigger"] | None = None
    """It is alive; or wants to be treated as if it were not."""
    extend_timeout: float | None = None
    """So long it may be until the next message, though its start, its reload or its stop takes more than it may."""
    main_pid: int | None = None
    """The process that is the service itself."""
    errno: int | None = None
    """The error that it failed with."""
    monotonic: float | None = None
    """When a reload began, by CLOCK_MONOTONIC."""
    barrier: bool = False
    """Its sender waits until the descriptor that came with it is closed."""

    def encode(self) -> bytes:
        """Return the datagram; line feeds in the status become spaces."""
        status = None if self.status is None else " ".join(self.status.split())[:_LONGEST_STATUS]
        fields = {
            "READY": "1" if self.ready else None,
            "RELOADING": "1" if self.reloading else None,
            "MONOTONIC_USEC": _microseconds(self.monotonic),
            "STOPPING": "1" if self.stopping else None,
            "EXTEND_TIMEOUT_USEC": _microseconds(self.extend_timeout),
            "STATUS": status,
            "ERRNO": self.errno,
            "MAINPID": self.main_pid,
            "WATCHDOG": {"alive": "1", "trigger": "trigger", None: None}[self.watchdog],
            "BARRIER": "1" if self.barrier else None,
        }
        lines = (f"{name}={value}\n" for name, value in fields.items() if value is not None)
        return "".join(lines).encode(errors="replace")


def decode(datagram: bytes) -> Notification:
    """Return what a datagram says, whatever it holds; of a name that comes twice the first one counts."""
    body = datagram.removesuffix(b"\0")
    if b"\0" in body or len(body) > LARGEST:
        return Notification()
    values: dict[bytes, bytes] = {}
    for line in body.split(b"\n"):
        name, separator, value = line.partition(b"=")
        if separator:
            values.setdefault(name, value)
    extend_timeout = _number(values.get(b"EXTEND_TIMEOUT_USEC"), _MOST_MICROSECONDS - 1)
    monotonic = _number(values.get(b"MONOTONIC_USEC"), _MOST_MICROSECONDS - 1)
    return Notification(
        ready=values.get(b"READY") == b"1",
        reloading=values.get(b"RELOADING") == b"1",
        stopping=values.get(b"STOPPING") == b"1",
        status=_text(values.get(b"STATUS")),
        watchdog=_watchdog(values.get(b"WATCHDOG")),
        extend_timeout=None if extend_timeout is None else extend_timeout / 1e6,
        main_pid=_number(values.get(b"MAINPID"), (1 << 31) - 1) or None,
        errno=_number(values.get(b"ERRNO"), 4095),
        monotonic=None if monotonic is None else monotonic / 1e6,
        barrier=values.get(b"BARRIER") == b"1",
    )


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _number(value: bytes | None, most: int) -> int | None:
    if value is None or not value.isdigit() or len(value) > 20:
        return None
    return number if (number := int(value)) <= most else None


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else printable(value.decode()[:_LONGEST_STATUS])
    except UnicodeDecodeError:
        return None


def printable(text: str) -> str:
    """Return a text that is one line wherever it is shown: without line ends and what a terminal would obey."""
    return "".join(each if each.isprintable() else "�" for each in text)


def _watchdog(value: bytes | None) -> Literal["alive", "trigger"] | None:
    if value == b"1":
        return "alive"
    return "trigger" if value == b"trigger" else None
