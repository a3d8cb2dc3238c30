"""What can be measured: each suite is a set of cases and of peers that can do them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import channel_cases, channel_peers, peers, pool_cases, prefork_cases, prefork_peers
from .case import Case
from .entry import Entry


@dataclass(frozen=True)
class Suite:
    """Cases and peers by their names, in the order in which they are shown."""

    name: str
    title: str
    cases: Mapping[str, Case]
    entries: Mapping[str, Entry]
    rounds: int = 5


POOL = Suite("pool", "process pools, two workers each", pool_cases.CASES, peers.ENTRIES)
CHANNELS = Suite(
    "channels", "pipes, sockets, queues, semaphores and memory", channel_cases.CASES, channel_peers.ENTRIES
)
PREFORK = Suite("prefork", "HTTP servers, reloaded under load", prefork_cases.CASES, prefork_peers.ENTRIES, rounds=4)

SUITES = {suite.name: suite for suite in (POOL, CHANNELS, PREFORK)}
