"""`aioipc ls` and `show`: one table for all kinds, filters, JSON with types, watching."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc.cli import screen
from tests.harness.processes import eventually
from tests.harness.scripts import ROOT
from tests.harness.terminal import CTRL_C, terminal

from .in_process import Command

NAME = f"/aioipc-test-ls-{os.getpid()}"
OURS = f"--pid {os.getpid()} -q"


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[dict[str, int]]:
    """One of each kind but a socket; what those of System V are found by."""
    with ExitStack() as stack:
        queue = stack.enter_context(closing(aioipc.SysVMessageQueue.create(0x7E570000 + os.getpid())))
        bank = stack.enter_context(closing(aioipc.SysVSemaphoreSet.create(None, [100, 1])))
        segment = stack.enter_context(aioipc.SysVSharedMemory.create(None, 5000))
        stack.enter_context(closing(aioipc.PosixMessageQueue.create(NAME, max_messages=3, max_message_size=100)))
        stack.enter_context(closing(aioipc.PosixSemaphore.create(NAME, 4)))
        stack.enter_context(aioipc.SharedMemory.create(10_240, name=NAME))
        os.mkfifo(tmp_path / "fifo", 0o600)
        queue.send_nowait(b"hello")
        assert queue.key is not None
        yield {"queue": queue.id, "bank": bank.id, "segment": segment.id, "key": queue.key}


def table(text: str) -> list[list[str]]:
    """The lines, split where there are two spaces."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_one_table(aioipc_command: Command, objects: dict[str, int], tmp_path: Path) -> None:
    text = aioipc_command.ok(f"ls -q --folder {tmp_path} --sort kind -o kind,name,id,size,content,status,mode")
    head, *rows = table(text)
    assert head == ["KIND", "NAME", "ID", "SIZE", "CONTENT", "STATUS", "MODE"]
    key = f"{objects['key']:#010x}"
    size = aioipc.limits()["kernel.msgmnb"].value or 0
    for row in (
        ["fifo", str(tmp_path / "fifo"), "-", "-", "-", "-", "0600"],
        ["posix-memory", NAME, "-", "10K", "-", "in use", "0600"],
        ["posix-queue", NAME, "-", "300B", "0 messages", "in use", "0600"],
        ["posix-semaphore", NAME, "-", "32B", "=4", "in use", "0600"],
        ["sysv-memory", "(private)", str(objects["segment"]), "4.9K", "1 attached", "in use", "0600"],
        ["sysv-queue", key, str(objects["queue"]), f"{size / 1024:.0f}K", "1 message", "in use", "0600"],
        ["sysv-semaphores", "(private)", str(objects["bank"]), "-", "=100,1", "in use", "0600"],
    ):
        assert row in rows
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def kinds(text: str) -> list[str]:
    return [row[0] for row in table(text)]


def test_kinds_patterns_and_filters(aioipc_command: Command, objects: dict[str, int], tmp_path: Path) -> None:
    ls = aioipc_command.ok
    word = NAME[1:]
    assert kinds(ls(f"ls -q --noheadings posix {word}")) == ["posix-queue", "posix-semaphore", "posix-memory"]
    assert kinds(ls(f"ls -q --noheadings queues pshm *{word[1:]}")) == ["posix-queue", "posix-memory"]
    assert kinds(ls(f"ls -q --noheadings sysv-queue {objects['queue']}")) == ["sysv-queue"]
    assert kinds(ls(f"ls -q --noheadings {objects['key']:#x}")) == ["sysv-queue"]
    assert kinds(ls(f"ls -q --noheadings FIFO --folder {tmp_path} {tmp_path}/f?fo")) == ["fifo"]
    assert set(kinds(ls(f"ls --noheadings memory {OURS}"))) == {"sysv-memory", "posix-memory"}
    where = ["--where", f"name~'*{word}' and size>1K and openers==1 and age<1h"]
    assert kinds(ls("ls -q --noheadings", *where)) == ["posix-memory"]
    assert NAME in ls("ls -q --mine")
    assert NAME not in ls("ls -q --user 4242")
    assert NAME not in ls("ls -q --orphans")
    assert ls("ls -q --noheadings no-such-name") == ""


def test_orphans(aioipc_command: Command) -> None:
    path = f"/dev/shm{NAME}-left"
    Path(path).write_bytes(b"x")
    try:
        assert kinds(aioipc_command.ok(f"ls -q --noheadings --orphans posix {NAME}-left")) == ["posix-memory"]
    finally:
        os.unlink(path)


def test_columns_and_order(aioipc_command: Command, objects: dict[str, int]) -> None:
    ls = aioipc_command.ok
    text = ls(f"ls -q --noheadings posix {NAME} -o size,KIND --sort=-size -b")
    assert table(text) == [["10240", "posix-memory"], ["300", "posix-queue"], ["32", "posix-semaphore"]]
    text = ls(f"ls -q --noheadings posix {NAME} -o kind --sort max-messages,-kind")  # what has none comes last
    assert text.split() == ["posix-queue", "posix-semaphore", "posix-memory"]
    head = ls(f"ls -q {NAME} -o +inode,uid").splitlines()[0]
    assert head.split()[-3:] == ["OPENERS", "INODE", "UID"]


TYPES: dict[str, Any] = {
    "kind": str,
    "name": str | None,
    "id": int | None,
    "key": int | None,
    "key_hex": str | None,
    "uid": int,
    "user": str,
    "gid": int,
    "mode": int,
    "mode_octal": str,
    "size": int | None,
    "used": int | None,
    "messages": int | None,
    "values": list | None,
    "waiting": int | None,
    "attached": int | None,
    "openers": list,
    "last_pids": list,
    "changed": float,
    "changed_iso": str,
    "age": float,
    "owner": dict | None,
    "owner_alive": bool | None,
    "in_use": bool,
    "orphan": bool,
}


def test_json_has_types(aioipc_command: Command, objects: dict[str, int], tmp_path: Path) -> None:
    document = json.loads(aioipc_command.ok(f"ls sysv posix fifo --json --folder {tmp_path}"))
    assert document["schema"] == 1
    assert isinstance(document["time"], float)
    assert isinstance(document["notes"], list)
    for record in document["objects"]:
        assert not [name for name, type_ in TYPES.items() if not isinstance(record[name], type_)], record
    (memory,) = [each for each in document["objects"] if each["kind"] == "posix-memory" and each["name"] == NAME]
    assert (memory["size"], memory["mode"], memory["mode_octal"]) == (10_240, 0o600, "0600")
    assert (memory["owner"]["pid"], memory["owner"]["remove"], memory["owner_alive"]) == (os.getpid(), True, True)
    (opener,) = memory["openers"]
    assert (opener["pid"], opener["access"]) == (os.getpid(), "rwm")
    lines = aioipc_command.ok(f"ls -q --jsonl posix {NAME}").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["posix-queue", "posix-semaphore", "posix-memory"]


def test_usage_of_the_limits(aioipc_command: Command, objects: dict[str, int]) -> None:
    rows = {row[0]: row for row in table(aioipc_command.ok("ls --global --noheadings -b"))}
    assert int(rows["kernel.shmmni"][2]) >= 1
    assert rows["kernel.shmmni"][-1] == "System V segments"
    document = json.loads(aioipc_command.ok("ls --global --json"))
    assert {"kernel.msgmni", "/dev/shm"} <= {limit["name"] for limit in document["limits"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "kind,colour"], "aioipc ls: --output: there is no column 'colour'; there are kind, name, "),
        (["--sort", "-x"], "aioipc ls: --sort: there is no column 'x'"),
        (["--mine", "--user", "root"], "aioipc ls: --mine and --user exclude each other"),
        (["--user", "no-such-user"], "aioipc ls: there is no user 'no-such-user'"),
        (["--json", "--jsonl"], "aioipc ls: --json and --jsonl exclude each other"),
        (["--global", "fifo"], "aioipc ls: --global shows the limits of all kinds"),
    ],
)
def test_wrong_usage(aioipc_command: Command, words: list[str], message: str) -> None:
    assert aioipc_command.refused("ls", *words).startswith(message)


def test_a_wrong_condition_is_pointed_at(aioipc_command: Command) -> None:
    ended = aioipc_command("ls --where", "age>1h and opener==0")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "aioipc ls: --where: there is no field 'opener'; did you mean 'openers'?",
        "  age>1h and opener==0",
        "             ^",
    ]


def test_show(aioipc_command: Command, objects: dict[str, int]) -> None:
    shown = {row[0]: row[1:] for row in table(aioipc_command.ok(f"show -k memory {NAME[1:]} -b")) if row}
    assert shown["name"] == [NAME]
    assert shown["size"] == ["10240"]
    assert shown["made by"] == [f"process {os.getpid()}, alive; to be removed with it"]
    assert shown[str(os.getpid())][-1] == "reads, writes, mapped"
    assert shown["/dev/shm"][-1] == "POSIX shared memory and semaphores"
    text = aioipc_command.ok(f"show -k semaphores {objects['bank']}")
    assert ["0", "100", "0", "0", str(os.getpid())] in table(text)
    document = json.loads(aioipc_command.ok(f"show {objects['key']} --json"))
    assert (document["object"]["id"], document["object"]["messages"]) == (objects["queue"], 1)
    assert [limit["name"] for limit in document["limits"]] == ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"]


def test_show_asks_which(aioipc_command: Command, objects: dict[str, int], tmp_path: Path) -> None:
    ended = aioipc_command(f"show {NAME}")
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        f"aioipc show: 3 objects are called {NAME!r}:",
        *(f"  --kind {kind}: {NAME}" for kind in ("posix-queue", "posix-semaphore", "posix-memory")),
    ]
    assert "fifo" in aioipc_command.ok(f"show {tmp_path}/fifo")
    assert "there is no object 'nothing'" in aioipc_command.refused("show nothing", code=1)
    assert "there is no kind 'x'; there are sysv-queue, " in aioipc_command.refused("show nothing -k x")


def test_watching_ends_as_soon_as_the_reader_has_left() -> None:
    command = [sys.executable, "-W", "error", "-m", "aioipc", "ls", "--watch=3000", "--jsonl", "--global"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("command", ["ls --json", "doctor", "mk fifo fifo", "rm --orphans --json"])
def test_a_reader_that_has_left_before(command: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        arguments = [sys.executable, "-W", "error", "-m", "aioipc", *command.split()]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, env=env, timeout=50)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_watching_on_a_narrow_terminal(tmp_path: Path) -> None:
    source = """
        import os
        os.environ.update(COLUMNS="40", LINES="10", NO_COLOR="1")
        from aioipc.cli.main import main
        main(["ls", "-q", "-w0.1", "shm"])
    """
    with aioipc.SharedMemory.create(1, name=NAME), terminal(source, tmp_path) as shown:
        shown.wait_shown("KIND ")
        shown.wait_shown("\x1b[H\x1b[J")
        first = shown.shown().count("KIND ")
        eventually(lambda: shown.shown().count("KIND ") > first, 20, "a second look")
        shown.press(CTRL_C)
        assert shown.popen.wait(20) == 130
        frames = shown.shown().split("\x1b[H\x1b[J")
        lines = [line for frame in frames[:-1] for line in frame.splitlines()]
    assert max(map(len, lines)) <= 40
    assert max(len(frame.splitlines()) for frame in frames) <= 10
    assert "Traceback" not in shown.shown()
    assert "\x1b[3" not in "".join(frames)


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not screen.colours()
    monkeypatch.setattr(screen, "on_terminal", lambda: True)
    assert screen.colours()
    assert screen.style("x", fg="red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen.style("x", fg="red") == "x"


@pytest.mark.parametrize(
    ("output", "message"), [(">&-", "standard output is closed"), (">/dev/full", "No space left on device")]
)
def test_output_that_cannot_be_written(output: str, message: str) -> None:
    script = f"exec {sys.executable} -W error -m aioipc ls -q --jsonl --global {output}"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=50)
    assert (done.returncode, done.stderr) == (2, f"aioipc ls: {message}\n")
