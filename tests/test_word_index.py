"""The main example, on a small directory: what it counts, and that a killed worker costs nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .harness.scripts import ROOT, Finished, run_script

SCRIPT = ROOT / "examples" / "word_index.py"
MODULE = '''"""Words of a docstring."""

# a comment, and another one:
def long_one(argument):
    x = 1  # more
    return argument + x

async def short_one():
    pass
'''


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Forty good files, one that is not UTF-8, one that is no Python, and one that does not count."""
    for number in range(40):
        (tmp_path / f"module_{number:02}.py").write_text(MODULE)
    (tmp_path / "latin.py").write_bytes(b"name = 'caf\xe9'\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "escape.py").write_text("text = '\\d'\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "other.py").write_text("other = 1\n")
    return tmp_path


def index(*arguments: str, **env: str) -> Finished:
    return run_script(SCRIPT, *arguments, timeout=50, env={"COLUMNS": "200", **env})


def row(done: Finished, label: str) -> str:
    found = re.search(rf"│ {label} +│ (.*?) +│", done.stdout)
    assert found, str(done)
    return found[1]


def test_what_it_counts(directory: Path) -> None:
    done = index(str(directory), "--workers", "2", "--no-kill").check()

    assert row(done, "files") == "43, 2 of them broken"
    assert row(done, "functions") == "80"
    assert row(done, "comment lines") == "80"
    assert row(done, "longest function").startswith("long_one, 3 lines, in ")
    assert row(done, "workers replaced") == "0"
    assert "both results are equal" in done.stdout
    assert done.stderr == ""


def test_a_killed_worker_costs_nothing(directory: Path) -> None:
    done = index(str(directory), "--workers", "2").check()

    assert re.search(r"killing worker \d, process \d+, with SIGKILL", done.stdout)
    assert row(done, "files") == "43, 2 of them broken"
    assert "both results are equal" in done.stdout


def test_a_limit_and_one_worker(directory: Path) -> None:
    done = index(str(directory), "--workers", "1", "--limit", "5").check()

    assert row(done, "files").startswith("5,")


def test_an_empty_directory(tmp_path: Path) -> None:
    done = index(str(tmp_path))

    assert done.returncode == 1
    assert done.stdout == f"no Python files in {tmp_path}\n"
