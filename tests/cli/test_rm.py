"""``aioipc rm``: what nobody uses goes, what somebody uses stays, and each object is told of."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import aioipc
from aioipc import KernelObject, ObjectOpener
from aioipc.cli import removal
from aioipc.cli.removal import why_in_use
from aioipc.testing.plugin import ISOLATION
from tests.cli.command import DEADLINE, environment
from tests.cli.in_process import Command
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.processes import eventually_async
from tests.harness.scripts import run_script

KINDS: tuple[aioipc.ObjectKind, ...] = ("sysv-queue", "posix-memory", "posix-semaphore")
GONE = {(kind, "gone") for kind in KINDS}  # of earlier tests only the records are left
NAME = f"/aioipc-rm-{os.getpid()}"
KEY = 0x41494F21


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def made(command: Command, words: str, *more: object) -> str:
    return command.ok(f"mk {words}", *more)


def test_system_v_objects(aioipc_command: Command) -> None:
    queue = made(aioipc_command, f"msg -k {KEY:#x}")
    semaphores = made(aioipc_command, "sem --nsems 2")
    memory = made(aioipc_command, "shm --size 4K")
    assert aioipc_command.ok(f"rm -n -k {KEY}") == f"would remove sysv-queue {queue}"
    if queue == memory:
        line = aioipc_command.refused(f"rm -i {queue} -K msg -K shm")
        assert line.startswith(f"aioipc rm: id {queue} is a sysv-queue and a sysv-memory: say which one with --kind")
    assert aioipc_command.ok(f"rm -k {KEY:#x}") == f"removed sysv-queue {queue}"
    assert aioipc_command.ok(f"rm -K sem -i {semaphores}") == f"removed sysv-semaphores {semaphores}"
    assert aioipc_command.ok(f"rm -K sysv-memory -i {memory}") == f"removed sysv-memory {memory}"
    again = aioipc_command(f"rm -K shm -i {memory} --json")
    assert again.code == 1
    (record,) = json.loads(again.stdout)["objects"]
    assert (record["status"], record["reason"]) == ("failed", "there is none")
    assert aioipc_command.refused(f"rm -k {KEY:#x}", code=1) == f"failed key {KEY:#x}: there is none"


def test_posix_objects_and_files(aioipc_command: Command, tmp_path: Path) -> None:
    for words in ("pmsg", "psem", "pshm --size 1"):
        made(aioipc_command, words, NAME)
    line = aioipc_command.refused("rm", NAME)
    assert line.startswith(f"aioipc rm: {NAME} is a ")
    assert "posix-queue" in line
    assert line.endswith("say which one with --kind; nothing was removed")
    for kind, word in (("posix-semaphore", "psem"), ("posix-memory", "pshm")):
        assert aioipc_command.ok(f"rm -K {word}", NAME) == f"removed {kind} {NAME}"
    fifo, left = tmp_path / "fifo", tmp_path / "left"
    made(aioipc_command, "fifo", fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left))
    removed = aioipc_command.ok("rm", NAME, fifo, left, fifo)
    assert removed == f"removed posix-queue {NAME}\nremoved fifo {fifo}\nremoved unix-socket {left}"
    assert list(tmp_path.iterdir()) == []
    assert aioipc_command.refused("rm", NAME, code=1) == f"failed {NAME}: there is none"
    assert "neither a FIFO nor a socket" in aioipc_command.refused("rm", tmp_path, code=1)


def test_what_is_broken_goes_too(aioipc_command: Command) -> None:
    """A maker that died before it gave its memory a size; a semaphore that cannot be opened."""
    for file in (NAME, NAME + "-2"):
        os.close(os.open(f"/dev/shm{file}", os.O_CREAT | os.O_WRONLY, 0))
    assert aioipc_command.ok("rm", NAME, NAME + "-2") == f"removed posix-memory {NAME}\nremoved posix-memory {NAME}-2"


def test_what_is_in_use_stays(aioipc_command: Command, stack: ExitStack, tmp_path: Path) -> None:
    me = f"open in process {os.getpid()} ("
    segment = stack.enter_context(aioipc.SysVSharedMemory.create(None, 4096))
    stack.enter_context(closing(aioipc.PosixMessageQueue.create(NAME)))
    stack.enter_context(closing(aioipc.PosixSemaphore.create(NAME)))
    stack.enter_context(aioipc.SharedMemory.create(1, name=NAME))
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    stack.callback(os.close, os.open(path, os.O_RDWR))
    inbox = tmp_path / "inbox"
    stack.enter_context(closing(aioipc.open_datagram_socket(inbox)))
    targets = [("-K pmsg", NAME), ("-K psem", NAME), ("-K pshm", NAME), ("", path), ("", inbox)]
    for words, target in targets:
        line = aioipc_command.refused(f"rm {words}", target, code=1)
        assert line.startswith("kept "), line
        assert me in line, line
        assert line.endswith("--force removes it all the same")
        assert aioipc_command.ok(f"rm --force --dry-run {words}", target).startswith("would remove ")
        assert aioipc_command.ok(f"rm --force {words}", target).startswith("removed ")
    line = aioipc_command.refused(f"rm -K shm -i {segment.id}", code=1)
    assert line.startswith(f"kept sysv-memory {segment.id}: attached")
    assert aioipc_command.ok(f"rm -f -K shm -i {segment.id}") == f"removed sysv-memory {segment.id}"
    assert "goes with its last user" in aioipc_command.refused(f"rm -K shm -i {segment.id}", code=1)
    queue = stack.enter_context(closing(aioipc.SysVMessageQueue.create()))
    assert "a living program has it open" in aioipc_command.refused(f"rm -K msg -i {queue.id}", code=1)
    assert not os.path.exists(path)
    assert not inbox.exists()


def opened(*pids: int) -> KernelObject:
    openers = tuple(ObjectOpener(pid, "python", "rw") for pid in pids)
    return KernelObject(kind="posix-queue", name="/jobs", openers=openers, in_use=bool(pids))


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (opened(), None),
        (opened(7), "open in process 7 (python)"),
        (opened(1, 2, 3, 4, 5), "open in processes 1 (python), 2 (python), 3 (python), 2 more"),
        (KernelObject(kind="sysv-memory", attached=2, in_use=True), "attached 2 times"),
        (KernelObject(kind="sysv-queue", in_use=True, owner_alive=True), "a living program has it open, by aioipc"),
        (KernelObject(kind="unix-socket", in_use=True, listening=True), "somebody listens"),
    ],
)
def test_why_it_is_kept(found: KernelObject, why: str | None) -> None:
    assert why_in_use(found) == why


async def test_semaphores_that_somebody_waits_for() -> None:
    async with aioipc.SysVSemaphoreSet.create(None, [1]) as semaphores:
        waiting = asyncio.create_task(semaphores.acquire(2))
        await eventually_async(lambda: semaphores.statistics().waiting[0] == 1, 30)
        outcome = removal.remove(the_set(semaphores.id), force=False, dry_run=False)
        assert outcome.line == f"kept sysv-semaphores {semaphores.id}: 1 wait for it; --force removes it all the same"
        assert removal.remove(the_set(semaphores.id), force=True, dry_run=False).status == "removed"
        with pytest.raises(aioipc.ObjectRemovedError):
            await asyncio.wait_for(waiting, 30)


async def test_one_that_vanishes_meanwhile() -> None:
    async with aioipc.SysVSemaphoreSet.create(None, [1]) as semaphores:
        found = the_set(semaphores.id)
    outcome = removal.remove(found, force=True, dry_run=False)
    assert (outcome.status, outcome.reason) == ("failed", f"there is no System V semaphore set with the id {found.id}")


def the_set(id: int) -> KernelObject:
    (found,) = [each for each in aioipc.inventory(["sysv-semaphores"]) if each.id == id]
    return found


def test_one_that_took_the_name_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    found = KernelObject(kind="fifo", name=str(path), inode=1)
    os.mkfifo(path)
    outcome = removal.remove(found, force=False, dry_run=False)
    assert (outcome.status, outcome.reason) == ("failed", "another one has taken its name meanwhile")
    assert path.exists()
    with closing(aioipc.PosixMessageQueue.create(NAME)):
        outcome = removal.remove(KernelObject(kind="posix-queue", name=NAME, inode=1), force=False, dry_run=False)
        assert outcome.reason == "another one has taken its name meanwhile"
        aioipc.PosixMessageQueue.open(NAME).close()


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> None:
    """Skip where the objects of this machine are not ours alone."""
    if not request.config.stash[ISOLATION].private:
        pytest.skip("the objects of this machine are not ours alone")


@pytest.mark.usefixtures("alone")
def test_all_of_a_kind(aioipc_command: Command) -> None:
    ids = [made(aioipc_command, "sem --init 1") for _ in range(3)]
    line = aioipc_command.refused("rm --all sem")
    assert line == "aioipc rm: --all would remove 3 objects: agree with --yes; nothing was removed"
    planned = aioipc_command.ok("rm --all sem --dry-run").splitlines()
    assert planned == [f"would remove sysv-semaphores {id}" for id in ids]
    assert len(aioipc_command.ok("rm --all sem --yes").splitlines()) == 3
    assert aioipc_command.ok("rm --all sem --yes") == ""


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("answer", ["n", "y"])
def test_it_asks_on_a_terminal(answer: str) -> None:
    with closing(aioipc.PosixSemaphore.create(NAME, remove=False)):
        pass
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        command = [sys.executable, "-m", "aioipc", "rm", "--all", "psem"]
        done = subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=DEADLINE, env=environment()
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"  posix-semaphore {NAME} of " in done.stderr
    assert "Remove 1 object? [y/N]" in done.stderr
    if answer == "y":
        assert (done.returncode, done.stdout) == (0, f"removed posix-semaphore {NAME}\n")
    else:
        assert (done.returncode, done.stdout) == (2, "")
        with closing(aioipc.PosixSemaphore.open(NAME)) as semaphore:
            semaphore.remove()


def test_what_killed_processes_left(aioipc_command: Command) -> None:
    script = """
        import os, signal, sys, aioipc
        queue = aioipc.SysVMessageQueue.create()
        memory = aioipc.SharedMemory.create(1, name=sys.argv[1])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with closing(aioipc.PosixSemaphore.create(NAME)):
        assert run_script(script, NAME).returncode == -signal.SIGKILL
        assert aioipc_command.ok("rm --orphans --older-than 1h") == ""
        planned = aioipc_command.ok("rm --orphans --dry-run")
        assert f"would remove posix-memory {NAME}" in planned.splitlines()
        records = json.loads(aioipc_command.ok("rm --orphans --dry-run --json"))["objects"]
        assert {(record["kind"], record["status"]) for record in records} - GONE == {
            ("sysv-queue", "would_remove"),
            ("posix-memory", "would_remove"),
            ("posix-semaphore", "kept"),
        }
        assert aioipc_command.ok("rm --orphans -K pshm") == f"removed posix-memory {NAME}"
        verbose = aioipc_command("rm --orphans -v")
        assert (verbose.code, verbose.stdout[:19]) == (0, "removed sysv-queue ")
        assert verbose.stderr == f"kept posix-semaphore {NAME}: a living process has it\n"
        assert not [found for found in aioipc.inventory(KINDS) if found.orphan]
        assert aioipc_command.ok("rm --orphans") == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "say what to remove"),
        ("--all sem -i 5", "only one of these at a time"),
        ("/x --orphans", "only one of these at a time"),
        ("--older-than 1h", "--older-than goes with --orphans"),
        ("/x --older-than 1h", "--older-than goes with --orphans"),
        ("--orphans --force", "never removes what is in use"),
        ("--all fifo --yes", "--all is not for fifo"),
    ],
)
def test_what_cannot_be(aioipc_command: Command, words: str, why: str) -> None:
    assert why in aioipc_command.refused(f"rm {words}")


def test_as_somebody_without_permission() -> None:
    script = """
        import sys
        from aioipc.cli.main import main
        main(sys.argv[1:])
    """
    with closing(aioipc.SysVMessageQueue.create()) as queue, aioipc.SharedMemory.create(1, name=NAME):
        done = run_confined(NOBODY, script, "rm", "-f", "-K", "msg", "-K", "pshm", "-i", str(queue.id), NAME)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"failed sysv-queue {queue.id}: System V message queue {queue.id}: only its owner may do this to uid 65534",
            f"failed posix-memory {NAME}: /dev/shm{NAME}: Operation not permitted",
        ]
