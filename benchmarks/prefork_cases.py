"""The cases of HTTP servers: all workers are replaced again and again while clients ask, and what fails is counted."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from examples.http_load import Tally, load

from .case import Case, Figures
from .prefork_peers.base import HOST, WORKERS, Server, is_alive

SECONDS_TO_RELOAD = 40
RELOADS = 5
"""In a round."""
PAUSE = 1.0
"""Seconds between two reloads."""


async def reloads(server: Server, count: float) -> Figures:
    """Reload so many times under load."""
    await server.start()
    seconds: list[float] = []

    async def reload_again_and_again(tally: Tally) -> None:
        await _answered_by(tally, set())
        for _ in range(int(count)):
            old = {pid for pid in tally.processes if is_alive(int(pid))}
            started = time.monotonic()
            server.reload()
            await _answered_by(tally, old)
            seconds.append(time.monotonic() - started)
            await asyncio.sleep(PAUSE)

    tally, took = await load(HOST, server.port, reload_again_and_again)
    kinds = ", ".join(f"{kind} {count}" for kind, count in tally.failures.most_common())
    return Figures(
        {
            "failed": tally.failed,
            "sent-again": tally.sent_again,
            "reload": statistics.mean(seconds),
            "requests": tally.answered / took,
        },
        {"failed": kinds, "requests": f"{tally.answered} in all"},
    )


async def _answered_by(tally: Tally, old: set[str]) -> None:
    """Wait until two others have answered, and the old ones are gone."""
    new = tally.processes
    async with asyncio.timeout(SECONDS_TO_RELOAD):
        while len(new - old) < WORKERS or any(is_alive(int(pid)) for pid in old):  # noqa: ASYNC110 - /proc tells nobody
            await asyncio.sleep(0.02)


def _case(name: str, title: str, unit: str, target: float, **options: Any) -> Case:
    return Case(name, title, unit, reloads, RELOADS, 2, target, part_of="failed", cap=300, **options)


CASES = {
    case.name: case
    for case in (
        _case("failed", "failed", "requests", 0, absolute=True, is_sum=True),
        _case("sent-again", "sent again", "requests", 0, absolute=True, is_sum=True),
        _case("reload", "a reload", "s", 1, rivals=("uvicorn",)),
        _case("requests", "answered", "/s", 0.8, rivals=("uvicorn",), higher_is_better=True),
    )
}
