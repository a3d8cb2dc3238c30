"""What a pool's master and its workers say to each other, as frames.

Each worker has two private socket pairs. On the data socket go work and results; on the control socket goes
what must be heard while the worker's main thread is busy. Both come from our own master, so bodies are pickles
(of tuples, integers and bytes; what users send is a pickle of its own inside and is not opened here).

    data     master → worker   BOOT  TASKS  STOP
             worker → master   READY  RESULTS
    control  master → worker   CANCEL  NUDGE  CREDIT  DUMP
             worker → master   RESULTS  UNSTARTED  DRAINING

A stream's items and its end are results too; they bear their place in the stream, since some may overtake others on
the other socket.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from .framing import Buffer, Frame, ProtocolError, encode_frame

BOOT, TASKS, STOP, CANCEL, NUDGE, CREDIT, DUMP = 1, 2, 3, 4, 5, 6, 7
READY, RESULTS, UNSTARTED, DRAINING = 16, 17, 18, 19

NAMES = {
    BOOT: "BOOT",
    TASKS: "TASKS",
    STOP: "STOP",
    CANCEL: "CANCEL",
    NUDGE: "NUDGE",
    CREDIT: "CREDIT",
    DUMP: "DUMP",
    READY: "READY",
    RESULTS: "RESULTS",
    UNSTARTED: "UNSTARTED",
    DRAINING: "DRAINING",
}

# How a task ended in the worker; ITEM is one item of a stream, END the end of one.
OK, ERROR, CANCELLED, ITEM, END = 0, 1, 2, 3, 4

ATTACH_FROM = 32 * 1024
"""Payloads of at least so many bytes travel beside the body instead of inside it."""

# Flags of a task: it has a timeout, so its start is noted; it is to be run by the event loop; the loop runs it in a
# thread; its payload is a pickle of (values of context variables, payload); of (window, bytes, payload): a stream.
TIMED, ASYNC, THREAD, CONTEXT, STREAM = 1, 2, 4, 8, 16

# (number, slot, function id or 0 where the payload holds the function too, flags, payload)
TaskItem = tuple[int, int, int, int, Buffer]
# (slot, OK | ERROR | CANCELLED, microseconds, payload), (slot, ITEM, its index, payload),
# (slot, END, number of items, pickle of (OK | ERROR | CANCELLED, payload))
ResultItem = tuple[int, int, int, Buffer]


def encode_boot(settings: dict[str, Any]) -> list[Buffer]:
    """Encode what a worker needs before it can be ready."""
    return encode_frame(BOOT, pickle.dumps(settings, 5))


def encode_tasks(functions: Sequence[tuple[int, bytes]], tasks: Sequence[TaskItem]) -> list[Buffer]:
    """Encode functions the worker does not know yet, and tasks."""
    items, attachments = _detach(tasks, 4)
    return encode_frame(TASKS, pickle.dumps((functions, items), 5), attachments)


def encode_results(results: Sequence[ResultItem]) -> list[Buffer]:
    """Encode finished tasks."""
    items, attachments = _detach(results, 3)
    return encode_frame(RESULTS, pickle.dumps(items, 5), attachments)


def encode_plain(kind: int, value: Any = None) -> list[Buffer]:
    """Encode one of the other kinds: STOP, CANCEL (number), NUDGE, CREDIT (number, items), DUMP, READY (pid),
    UNSTARTED, DRAINING (slots).
    """
    return encode_frame(kind, pickle.dumps(value, 5))


def decode_tasks(frame: Frame) -> tuple[list[tuple[int, bytes]], list[TaskItem]]:
    """Decode TASKS; raises ProtocolError where the body is something else."""
    value = decode_plain(frame)
    try:
        functions, items = value
        return list(functions), _attach(items, frame.attachments, 4)
    except (TypeError, ValueError, IndexError) as error:
        raise ProtocolError(f"malformed {NAMES[frame.kind]} frame: {error}") from error


def decode_results(frame: Frame) -> list[ResultItem]:
    """Decode RESULTS; raises ProtocolError where the body is something else."""
    items = decode_plain(frame)
    try:
        return _attach(items, frame.attachments, 3)
    except (TypeError, ValueError, IndexError) as error:
        raise ProtocolError(f"malformed {NAMES[frame.kind]} frame: {error}") from error


def decode_slots(frame: Frame) -> list[int]:
    """Decode UNSTARTED or DRAINING; raises ProtocolError where the body is something else."""
    slots = decode_plain(frame)
    if type(slots) is not list or not all(type(slot) is int for slot in slots):
        raise ProtocolError(f"malformed {NAMES[frame.kind]} frame: a list of slots was expected")
    return slots


def decode_pid(frame: Frame) -> int:
    """Decode READY; raises ProtocolError where the body is no process id."""
    pid = decode_plain(frame)
    if type(pid) is not int or pid < 1:
        raise ProtocolError(f"malformed {NAMES[frame.kind]} frame: a process id was expected")
    return pid


def encode_end(slot: int, count: int, status: int, payload: Buffer) -> ResultItem:
    """Return what ends a stream of ``count`` items: how its task ended, as in any other result."""
    return (slot, END, count, pickle.dumps((status, bytes(payload)), 5))


def decode_end(payload: Buffer) -> tuple[int, bytes]:
    """Return the status and the payload of a stream's END; raises ProtocolError where it is something else."""
    try:
        status, inner = pickle.loads(payload)
    except Exception as error:
        raise ProtocolError(f"malformed end of a stream: {error}") from error
    if status not in (OK, ERROR, CANCELLED) or type(inner) is not bytes:
        raise ProtocolError("malformed end of a stream")
    return status, inner


def decode_plain(frame: Frame) -> Any:
    """Decode the value of any frame; raises ProtocolError for a kind or body that is none of ours."""
    if frame.kind not in NAMES:
        raise ProtocolError(f"there is no frame of kind {frame.kind}")
    try:
        return pickle.loads(frame.body)
    except Exception as error:
        raise ProtocolError(f"malformed {NAMES[frame.kind]} frame: {error}") from error


def _detach(items: Sequence[Any], at: int) -> tuple[Sequence[Any], list[Buffer]]:
    """Replace large payloads by their lengths and return them apart."""
    attachments: list[Buffer] = [item[at] for item in items if len(item[at]) >= ATTACH_FROM]
    if not attachments:
        return items, attachments
    return [(*item[:at], len(item[at])) if len(item[at]) >= ATTACH_FROM else item for item in items], attachments


def _attach(items: Any, attachments: memoryview, at: int) -> list[Any]:
    """Put the payloads back that `_detach` took out; raises TypeError or ValueError where these are no items."""
    if type(items) is not list or not all(type(item) is tuple and len(item) == at + 1 for item in items):
        raise TypeError("a list of items was expected")
    offset = 0
    if attachments or any(type(item[at]) is int for item in items):
        for i, item in enumerate(items):
            if type(length := item[at]) is int:
                items[i] = (*item[:at], attachments[offset : offset + length])
                offset += max(length, 0)
    if offset != len(attachments):
        raise ValueError(f"{len(attachments)} bytes of attachments where {offset} were announced")
    return items
