"""Messages as the commands see them: what the kinds of objects have in common, and their form as JSON."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from .json_text import to_json


class Message(NamedTuple):
    """A body, and what its kind of object tells beside it; None where it does not."""

    body: bytes
    type: int | None = None  # System V
    priority: int | None = None  # POSIX
    sender: str | None = None  # datagrams: the path of the socket that it came from


def to_record(message: Message) -> bytes:
    """The message as one line of JSON, without its newline.

    ``body`` is the text where the bytes are UTF-8, and base64 where not; ``encoding`` says which.
    """
    record: dict[str, object] = {}
    for name in ("type", "priority", "sender"):
        if (value := getattr(message, name)) is not None:
            record[name] = value
    try:
        record |= {"body": message.body.decode(), "encoding": "text"}
    except UnicodeDecodeError:
        record |= {"body": base64.b64encode(message.body).decode(), "encoding": "base64"}
    return to_json(record)


def from_record(line: bytes) -> Message:
    """The message that a line of JSON describes, as `to_record` writes it; `ValueError` says what is wrong."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("body"), str):
        raise ValueError('a message is an object with a text "body"')
    if unknown := sorted(set(record) - {"body", "encoding", "type", "priority", "sender"}):
        raise ValueError(f"a message has no {unknown[0]!r}")
    return Message(_body(record), _number(record, "type"), _number(record, "priority"))


def _body(record: dict[str, object]) -> bytes:
    body, encoding = str(record["body"]), record.get("encoding", "text")
    if encoding == "text":
        return body.encode("utf-8", "surrogateescape")
    if encoding != "base64":
        raise ValueError(f'"encoding" is "text" or "base64", not {encoding!r}')
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f'"body" is no base64: {error}') from None


def _number(record: dict[str, object], name: str) -> int | None:
    value = record.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f'"{name}" is a number, not {value!r}')
    return value


def fits(type: int, wanted: int, except_type: int | None) -> bool:
    """Whether a System V message of this type is one that a receiver of ``wanted`` takes (``msgrcv(2)``)."""
    if except_type is not None:
        return type != except_type
    return wanted == 0 or type == wanted or 0 < type <= -wanted


def in_order_of_taking(messages: list[Message], wanted: int, except_type: int | None) -> list[Message]:
    """Those that fit, in the order in which a receiver would get them: with ``-n`` the lowest type first."""
    found = [message for message in messages if fits(message.type or 0, wanted, except_type)]
    return sorted(found, key=lambda message: message.type or 0) if wanted < 0 else found
