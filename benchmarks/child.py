"""One measurement in a process of its own: ``python -m benchmarks.child SUITE PEER CASE SIZE FILE``.

The figure goes to the file, as JSON, so that a peer may print what it likes. Then the process ends at once.
Absolute imports, because some peers run this file again in their workers, by its path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.case import Case, Figures, Unable
from benchmarks.entry import Entry
from benchmarks.suites import SUITES

SECONDS_TO_STOP = 5


async def main(entry: Entry, case: Case, size: float, path: Path) -> None:
    peer = entry.make()
    try:
        found = await case.run(peer, size)
        answer: dict[str, object] = asdict(found) if isinstance(found, Figures) else {"values": {case.name: found}}
    except Unable as error:
        answer = {"unable": str(error)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    path.write_text(json.dumps(answer))  # noqa: ASYNC240 - nothing else runs any more
    if "values" in answer:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(case.end(peer), SECONDS_TO_STOP)


if __name__ == "__main__":
    _, suite_name, peer_name, case_name, size_text, path_text = sys.argv
    suite = SUITES[suite_name]
    with suite.entries[peer_name].runner() as runner:
        runner.run(main(suite.entries[peer_name], suite.cases[case_name], float(size_text), Path(path_text)))
        os._exit(0)  # whatever a peer would still wait for is not measured
