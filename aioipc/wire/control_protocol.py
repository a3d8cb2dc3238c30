"""The protocol of a master's control socket: frames of JSON, no I/O.

    0            4
    +------------+----------------------------+
    | length (N) | a JSON object in UTF-8, N bytes |
    +------------+----------------------------+

The length is a big-endian number of four bytes. A client sends a request, the master answers it; then the next. Each
request has a ``command``, what that needs, and may have an ``id``, a number that is in the answer again, and the
``version`` of the protocol that it is written in. Each answer has ``ok``, with a ``result``, or an ``error`` of a
``kind`` and a ``message``. The answer to ``logs`` with ``follow`` is the first of many: each frame behind it has an
``event``, until the client closes the connection. Fields that are not known are left out, on both sides, so that new
ones can be added in the same version.

Whoever writes to the socket may write anything: a length over the limit is refused before anything is allocated.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import msgspec

VERSION = 1
REQUEST_LIMIT = 64 * 1024
"""Bytes of a request."""
ANSWER_LIMIT = 16 * 1024 * 1024
"""Bytes of an answer."""
MOST_LOG_LINES = 1000

_LENGTH = struct.Struct(">I")
ErrorKind = Literal["protocol", "usage", "not-found", "state", "failed"]


class ControlProtocolError(ValueError):
    """The bytes are not the protocol."""


class FrameSplitter:
    """Bytes in, the bodies of whole frames out; ``limit`` is how many bytes a body may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame there are."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what was read; return the bodies that are whole now.

        Raises ControlProtocolError where a frame announces more than the limit, or nothing.
        """
        self._buffer += data
        bodies: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if not 0 < length <= self._limit:
                raise ControlProtocolError(f"a frame must have 1 to {self._limit} bytes, not {length}")
            end = at + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]
        return bodies


def encode_frame(message: object, limit: int = ANSWER_LIMIT) -> bytes:
    """Return a frame. Raises ValueError where it is longer than the limit, TypeError where it is no JSON.

    What is no Unicode in a text, as file names may have it, is written with backslashes.
    """
    try:
        body = msgspec.json.encode(message)
    except UnicodeEncodeError:
        body = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(message)))
    if len(body) > limit:
        raise ValueError(f"a message of {len(body)} bytes is too long: at most {limit}")
    return _LENGTH.pack(len(body)) + body


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return [_without_surrogates(each) for each in value] if isinstance(value, list) else value


# -- requests ----------------------------------------------------------------------------------------------


class Request(msgspec.Struct, tag_field="command", kw_only=True):
    """What all requests have; the class is the command."""

    id: int = 0
    version: int = VERSION


class Status(Request, tag="status"):
    """What the master and its children are doing."""


class Reload(Request, tag="reload"):
    """What SIGHUP does; answered when it is done."""


class Scale(Request, tag="scale"):
    """Have so many replicas."""

    name: str
    replicas: int


class Add(Request, tag="add"):
    """Add a child; answered when it is ready."""

    name: str
    spec: dict[str, Any]
    """The fields of a table [child.NAME] of the configuration file."""
    directory: str | None = None
    """What relative paths are relative to; none: the master's working directory."""


class Start(Request, tag="start"):
    """Start what is stopped or has failed."""

    name: str


class Stop(Request, tag="stop"):
    """Stop a child, which stays down."""

    name: str


class Restart(Request, tag="restart"):
    """Replace the processes of a child."""

    name: str


class Remove(Request, tag="remove"):
    """Stop a child and forget it."""

    name: str


class Drain(Request, tag="drain"):
    """Stop all children in reverse order; the master stays."""


class SignalChild(Request, tag="signal"):
    """Send a signal to the processes of a child."""

    name: str
    signal: str | int
    replica: int | None = None


class Logs(Request, tag="logs"):
    """The last log records, and with ``follow`` all that come."""

    lines: int = 100
    follow: bool = False


class Shutdown(Request, tag="shutdown"):
    """Stop everything, and the master; answered at once."""

    quick: bool = False


AnyRequest = (
    Status | Reload | Scale | Add | Start | Stop | Restart | Remove | Drain | SignalChild | Logs | Shutdown
)  # fmt: skip
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyRequest)


class _Envelope(msgspec.Struct):
    """As much of a wrong request as can be understood."""

    id: int = 0
    version: int = VERSION


def decode_request(body: bytes) -> AnyRequest:
    """Return the request. Raises ControlProtocolError where it is none, or one of another version."""
    envelope = envelope_of(body)
    if envelope.version != VERSION:
        raise ControlProtocolError(
            f"this master speaks version {VERSION} of the control protocol, not {envelope.version}"
        )
    try:
        request: AnyRequest = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ControlProtocolError(f"no request: {error}") from None
    return request


def envelope_of(body: bytes) -> _Envelope:
    """Return the id and version of a request, right or wrong."""
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _Envelope()


# -- answers -----------------------------------------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True):
    """Why a request was not done."""

    kind: ErrorKind
    """"protocol": no request; "usage": a wrong value; "not-found": no such child; "state": not now; "failed": tried in
    vain."""
    message: str


class Answer(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An answer, or one of the events that follow it."""

    id: int = 0
    version: int = VERSION
    ok: bool
    result: Any = None
    event: Any = None
    error: Failure | None = None


def decode_answer(body: bytes) -> Answer:
    """Return the answer. Raises ControlProtocolError where it is none."""
    try:
        return msgspec.json.decode(body, type=Answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ControlProtocolError(f"no answer: {error}") from None
