"""What a process, and the slot it fills, can be: supervisord's words, and DRAINING (pure).

A slot has the state of its process; where it has none, one of the others:

    STARTING   its process has been asked for and is not ready yet; or it waits for its turn to have one
    RUNNING    ready
    DRAINING   was ready, has been asked to stop, finishes what it has accepted; killed at its deadline
    STOPPING   has been asked to stop before it was ready, or has been killed: nothing to be had from it any more
    BACKOFF    no process: the last one failed, the next one comes after a pause
    EXITED     no process, and none wanted: it has finished, or was stopped
    FATAL      no process: it has failed too often; only a command or a reload tries again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

State = Literal["STARTING", "RUNNING", "DRAINING", "STOPPING", "BACKOFF", "EXITED", "FATAL"]

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # ready; stopped, or killed since it did not get ready; died; stopped while it waited, or done before it was ready;
    # died too often
    "STARTING": frozenset({"RUNNING", "STOPPING", "BACKOFF", "EXITED", "FATAL"}),
    # asked to stop; killed; died; has finished; died too often; its successor, on its way, takes the slot
    "RUNNING": frozenset({"DRAINING", "STOPPING", "BACKOFF", "EXITED", "FATAL", "STARTING"}),
    # killed; gone; gone, and another one is wanted
    "DRAINING": frozenset({"STOPPING", "EXITED", "STARTING"}),
    # gone; gone, and another one is wanted; killed for a fault of its own: as after a death, or its successor is ready
    "STOPPING": frozenset({"EXITED", "STARTING", "BACKOFF", "FATAL", "RUNNING"}),
    # the pause is over; stopped
    "BACKOFF": frozenset({"STARTING", "EXITED"}),
    # wanted again
    "EXITED": frozenset({"STARTING"}),
    # wanted again; stopped
    "FATAL": frozenset({"STARTING", "EXITED"}),
}
"""What may follow what."""


def moved(old: State, new: State) -> State:
    """Return ``new``; raises AssertionError where it may not follow ``old``, which is a fault of this package."""
    assert new in TRANSITIONS[old], f"{old} -> {new}"
    return new
