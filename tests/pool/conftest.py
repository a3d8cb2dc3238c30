"""What many tests of the pool need: a journal of what ran, a gate that holds tasks back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .fault_functions import Gate, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()
