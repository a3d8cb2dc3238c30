"""One measurement in a process of its own: ``python -m benchmarks.child PEER CASE SIZE FILE``.

The figure goes to the file, as JSON, so that a peer may print what it likes. Then the process ends at once.
Absolute imports, because some peers run this file again in their workers, by its path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import uvloop

from benchmarks.cases import CASES, Case
from benchmarks.peers import ENTRIES
from benchmarks.peers.base import Peer, Unable

SECONDS_TO_STOP = 5


async def measure(peer: Peer, case: Case, size: float) -> float:
    await peer.start(case.concurrency)
    return await case.measure(peer, size)


async def main(peer_name: str, case_name: str, size: float, path: Path) -> None:
    peer, case = ENTRIES[peer_name].make(), CASES[case_name]
    try:
        answer: dict[str, object] = {"value": await measure(peer, case, size)}
    except Unable as error:
        answer = {"unable": str(error)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    path.write_text(json.dumps(answer))  # noqa: ASYNC240 - nothing else runs any more
    if "value" in answer and case.name != "kill":
        with contextlib.suppress(Exception):
            await asyncio.wait_for(peer.stop(), SECONDS_TO_STOP)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])))
        os._exit(0)  # whatever a peer would still wait for is not measured
