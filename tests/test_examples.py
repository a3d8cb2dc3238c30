"""Every example runs as a reader would run it, with less work where it takes arguments."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .harness.scripts import ROOT, run_script

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALLER = {
    "word_index.py": [str(ROOT / "tests/harness"), "--limit", "10"],
    "asgi_prefork.py": ["--reloads", "2", "--no-wrk"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, tmp_path: Path) -> None:
    done = run_script(path, *SMALLER.get(path.name, ()), timeout=50, cwd=tmp_path).check()
    assert done.stdout, "an example shows something"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_says_what_it_shows(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_bytes()))
