"""C programs of the kind that aioipc has to talk to, compiled once a session; skips where there is no compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_c(source: str, directory: Path, name: str = "program", *, shared: bool = False) -> Path:
    """Compile a program, or a shared library, and return its path; skip the test where there is no gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc to compile a C program with")
    program = directory / name
    program.with_suffix(".c").write_text(source)
    command = ["gcc", "-Wall", "-Werror", "-O1", "-o", str(program), str(program.with_suffix(".c")), "-lrt", "-pthread"]
    if shared:
        command += ["-shared", "-fPIC"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return program


def run_c(program: Path, *arguments: str) -> str:
    """Run a program to its end; return what it wrote, without the newline at the end."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.removesuffix("\n")


def need(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
