"""What tests of services need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def loop_of_services(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Have services run on the kind of loop that the test runs on: "asyncio" or "uvloop"."""
    node: Any = request.node
    if "uvloop" in node.name:
        return "uvloop"
    hidden = tmp_path / "without"
    hidden.mkdir()
    (hidden / "uvloop.py").write_text("raise ImportError('hidden by a test')")
    monkeypatch.syspath_prepend(str(hidden))
    return "asyncio"
