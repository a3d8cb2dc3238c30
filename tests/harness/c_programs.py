"""Programs in C: strangers, who know the kernel's objects and nothing of Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_c(source: str, directory: Path) -> Path:
    """Compile a program and return its path; skip the test where there is no gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to compile a C program with")
    (directory / "program.c").write_text(source)
    program = directory / "program"
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-o", str(program), str(directory / "program.c"), "-lrt", "-pthread"],
        check=True,
        timeout=50,
    )
    return program


def run_c(program: Path, *arguments: str) -> str:
    """Run a program to its end; return what it wrote, without the newline at the end."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.removesuffix("\n")
