"""Set limits of System V objects for one test, where the test run has an IPC namespace of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aioipc.testing.plugin import ISOLATION


@pytest.fixture
def set_limit(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """Write a file of ``/proc/sys/kernel``; afterwards it is as before. Skips where others would notice."""
    if not request.config.stash[ISOLATION].private:
        pytest.skip("the limits of this machine's IPC namespace are not ours to change")
    before: dict[Path, str] = {}

    def write(name: str, text: str) -> None:
        path = Path("/proc/sys/kernel", name)
        before.setdefault(path, path.read_text())
        try:
            path.write_text(text)
        except OSError as error:
            pytest.skip(f"{path} cannot be written: {error}")

    yield write
    for path, text in before.items():
        path.write_text(text)
