"""`aioipc doctor` on this machine, and on worse ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aioipc import limits
from aioipc.cli import doctor
from aioipc.cli.checks import Check, checks
from tests.harness.hostile import NOBODY, SECCOMP_EPERM, TINY_SHM, run_confined

from .in_process import Command

SOURCE = "from aioipc.cli.main import main; main(['doctor'])"


def test_this_machine(aioipc_command: Command) -> None:
    ended = aioipc_command("doctor")
    assert (ended.code, ended.stderr) == (0, "")
    text = " ".join(ended.stdout.split())
    for words in (
        "OK kernel pidfd_open(2) works",
        "OK kernel memfd_create(2) works",
        "OK kernel System V objects are there",
        "OK mounts /dev/shm: ",
        f"pid 1 {Path('/proc/1/comm').read_text().strip()}",
        f"limits kernel.msgmni = {int(Path('/proc/sys/kernel/msgmni').read_text())}",
        "limits RLIMIT_NOFILE = ",
        " 0 FAIL",
    ):
        assert words in text
    quiet = aioipc_command.ok("doctor --quiet")
    assert "OK  " not in quiet


def test_json(aioipc_command: Command) -> None:
    document = json.loads(aioipc_command.ok("doctor --json"))
    assert document["schema"] == 1
    assert {check["verdict"] for check in document["checks"]} <= {"OK", "WARN", "FAIL"}
    assert all(isinstance(check[name], str) for check in document["checks"] for name in ("area", "text", "remedy"))
    found = {limit["name"]: limit for limit in document["limits"]}
    assert found["kernel.msgmni"]["value"] == int(Path("/proc/sys/kernel/msgmni").read_text())
    assert found["RLIMIT_NOFILE"]["unit"] == "count"
    assert isinstance(found["/dev/shm"]["used"], int)


def test_a_worse_machine() -> None:
    """No rights, no pidfd, hardly any shared memory: it says so, with what to set, and fails nothing that works."""
    done = run_confined((NOBODY, SECCOMP_EPERM, TINY_SHM), SOURCE)
    assert (done.returncode, done.stderr) == (0, ""), str(done)
    text = " ".join(done.stdout.split())
    for words in (
        "WARN kernel pidfd_open(2): it is refused (seccomp, as in a container); processes are watched by threads",
        "WARN kernel memfd_create(2): it is refused",
        "WARN limits /dev/shm = 1.0M, 0B used (POSIX shared memory and semaphores): it is less than 64 MiB: who",
        "-> mount -o remount,size=N /dev/shm; docker run --shm-size N",
    ):
        assert words in text, text


def test_what_cannot_work_fails(aioipc_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    known = limits()
    del known["/dev/shm"]
    found = checks(known)
    text = "/dev/shm is not there, or not writable: no POSIX semaphores, no shared memory with a name"
    assert Check("mounts", "FAIL", text, "mount -t tmpfs -o mode=1777 tmpfs /dev/shm") in found
    monkeypatch.setattr(doctor, "limits", lambda: known)
    ended = aioipc_command("doctor -q")
    assert ended.code == 1
    assert f"FAIL  mounts    {text}" in ended.stdout.splitlines()
