"""C programs of the kind that aioipc has to talk to, compiled once a session; skips where there is no compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_c(source: str, directory: Path, name: str = "program") -> Path:
    """Compile a program with gcc, warnings as errors; skips the test without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc on this machine")
    path = directory / name
    path.with_suffix(".c").write_text(source)
    command = ["gcc", "-Wall", "-Werror", "-O1", "-o", str(path), str(path.with_suffix(".c"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return path


def need(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
