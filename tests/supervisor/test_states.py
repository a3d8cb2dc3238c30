"""What the reference says about states is what the code allows."""

from __future__ import annotations

import re
from collections import defaultdict

from aioipc.supervisor.states import TRANSITIONS

from ..harness.scripts import ROOT


def test_the_table_of_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "supervisor.md").read_text()
    found: dict[str, set[str]] = defaultdict(set)
    for old, new in re.findall(r"^\| ([A-Z]+) \| ([A-Z]+) \|", text, re.MULTILINE):
        found[old].add(new)
    assert found == TRANSITIONS
