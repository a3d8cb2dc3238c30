"""What a master and its services and commands say to each other, as frames.

    data     master → child   BOOT
             child → master   LAUNCHED | REFUSED   READY  STATUS  STOPPING
    control  master → child   STOP  DUMP  ASSUME_READY

A child may have given up rights that its master has, so what it says is never unpickled: plain text and numbers.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, NamedTuple

from .framing import Buffer, Frame, ProtocolError, encode_frame
from .sd_notify import printable

BOOT, STOP, DUMP, ASSUME_READY = 1, 2, 3, 4
LAUNCHED, REFUSED, READY, STATUS, STOPPING = 16, 17, 18, 19, 20

NAMES = {
    BOOT: "BOOT",
    STOP: "STOP",
    DUMP: "DUMP",
    ASSUME_READY: "ASSUME_READY",
    LAUNCHED: "LAUNCHED",
    REFUSED: "REFUSED",
    READY: "READY",
    STATUS: "STATUS",
    STOPPING: "STOPPING",
}

ENDED, SIGNALLED = "its function has ended", "it was sent SIGTERM"
"""Why a service stops without having been asked to."""
LONGEST_STATUS = 1024
"""Bytes of a status text; the rest is cut off."""
LONGEST_TEXT = 64 * 1024
"""Bytes of any other text."""
LIMIT = LONGEST_TEXT + 1024
"""Bytes of any frame that a child sends."""

_SECONDS = struct.Struct("<d")
_ERRNO = struct.Struct("<i")


class Refusal(NamedTuple):
    """Why a child was not launched."""

    field: str
    """What of its launch the kernel refused, as its options are called: ``cwd``, ``user``, ``target``, …"""
    errno: int | None
    text: str


def encode_boot(settings: dict[str, Any]) -> list[Buffer]:
    """Encode what a child needs before it can be launched."""
    return encode_frame(BOOT, pickle.dumps(settings, 5))


def decode_boot(frame: Frame) -> dict[str, Any]:
    """Decode BOOT; raises ProtocolError where the frame is something else."""
    try:
        settings = pickle.loads(frame.body) if frame.kind == BOOT else None
    except Exception as error:
        raise ProtocolError(f"malformed BOOT frame: {error}") from error
    if type(settings) is not dict:
        raise ProtocolError("a BOOT frame was expected")
    return settings


def encode_plain(kind: int) -> list[Buffer]:
    """Encode a kind that says all: DUMP, ASSUME_READY, LAUNCHED, READY."""
    return encode_frame(kind, b"")


def encode_stop(deadline: float) -> list[Buffer]:
    """Encode STOP; ``deadline`` is in seconds of the monotonic clock, which all processes of a machine share."""
    return encode_frame(STOP, _SECONDS.pack(deadline))


def decode_stop(frame: Frame) -> float:
    """Decode STOP; raises ProtocolError where the body is no time."""
    if len(frame.body) != _SECONDS.size:
        raise ProtocolError("malformed STOP frame: a time was expected")
    (deadline,) = _SECONDS.unpack(frame.body)
    if deadline != deadline:
        raise ProtocolError("malformed STOP frame: not a number")
    return float(deadline)


def encode_text(kind: int, text: str) -> list[Buffer]:
    """Encode STATUS or STOPPING (why it stops); too long a text is cut."""
    return encode_frame(kind, text.encode("utf-8", "replace")[:LONGEST_STATUS])


def decode_text(frame: Frame) -> str:
    """Decode what `encode_text` made; whatever the bytes are, they are a text."""
    return str(frame.body, "utf-8", "replace")


def decode_status(frame: Frame) -> str:
    """Decode STATUS: a text of one line, whatever the service has said."""
    return printable(decode_text(frame))


def encode_refusal(refusal: Refusal) -> list[Buffer]:
    """Encode REFUSED."""
    texts = f"{refusal.field}\0{refusal.text}".encode("utf-8", "replace")[:LONGEST_TEXT]
    return encode_frame(REFUSED, _ERRNO.pack(refusal.errno or 0) + texts)


def decode_refusal(frame: Frame) -> Refusal:
    """Decode REFUSED; raises ProtocolError where the body is something else."""
    if len(frame.body) < _ERRNO.size:
        raise ProtocolError("malformed REFUSED frame: it is too short")
    (number,) = _ERRNO.unpack_from(frame.body)
    field, zero, text = str(frame.body[_ERRNO.size :], "utf-8", "replace").partition("\0")
    if not zero:
        raise ProtocolError("malformed REFUSED frame: a field and a text were expected")
    return Refusal(field, number or None, text)
