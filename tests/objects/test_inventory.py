"""The inventory against the kernel's own tools, and against what is known to be there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

import aioipc
from tests.harness.c_programs import need
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.processes import eventually
from tests.harness.scripts import run_script, running_script


@pytest.fixture
def name() -> str:
    return f"/aioipc-test-inventory-{os.getpid()}"


@contextmanager
def child(source: str, *arguments: str) -> Iterator[int]:
    """A process that has run the source and waits to be killed; its pid."""
    with running_script(f"{source}\nprint('ready', flush=True)\nimport signal; signal.pause()", *arguments) as script:
        script.wait_output("ready")
        yield script.popen.pid


def one(
    kind: aioipc.ObjectKind, is_it: Callable[[aioipc.KernelObject], object], **options: object
) -> aioipc.KernelObject:
    found = [each for each in aioipc.inventory([kind], **options) if is_it(each)]  # type: ignore[arg-type]
    assert len(found) == 1, found
    assert found[0].kind == kind
    return found[0]


def test_system_v_objects() -> None:
    with ExitStack() as stack:
        queue = stack.enter_context(closing(aioipc.SysVMessageQueue.create()))
        bank = stack.enter_context(closing(aioipc.SysVSemaphoreSet.create(None, [100, 1], mode=0o640)))
        memory = stack.enter_context(aioipc.SysVSharedMemory.create(None, 5000))
        queue.send_nowait(b"hello world", type=123)

        found = one("sysv-queue", lambda each: each.id == queue.id)
        assert (found.key, found.messages, found.used, found.mode) == (0, 1, 11, 0o600)
        assert found.size == queue.statistics().max_bytes
        assert found.last_pids == (os.getpid(),)
        assert (found.in_use, found.orphan) == (True, False)  # its owner is alive

        found = one("sysv-semaphores", lambda each: each.id == bank.id)
        assert (found.values, found.count, found.waiting, found.mode) == ((100, 1), 2, 0, 0o640)

        found = one("sysv-memory", lambda each: each.id == memory.id)
        assert (found.size, found.attached, found.creator, found.uid) == (5000, 1, os.getpid(), os.geteuid())
        assert [(each.pid, each.access) for each in found.openers] == [(os.getpid(), "rwm")]
        assert (found.in_use, found.orphan, found.removed) == (True, False, False)


def test_posix_objects(name: str) -> None:
    with ExitStack() as stack:
        queue = stack.enter_context(
            closing(aioipc.PosixMessageQueue.create(name, max_messages=3, max_message_size=100))
        )
        slots = stack.enter_context(closing(aioipc.PosixSemaphore.create(name, 4)))
        memory = stack.enter_context(aioipc.SharedMemory.create(10_000, name=name))
        queue.send_nowait(b"x")
        memory.buffer[:5] = b"hello"

        found = one("posix-queue", lambda each: each.name == name)
        assert (found.messages, found.max_messages, found.max_message_size, found.size) == (1, 3, 100, 300)
        assert [(each.pid, each.access) for each in found.openers] == [(os.getpid(), "rw")]
        assert (found.uid, found.mode, found.in_use, found.orphan) == (os.geteuid(), 0o600, True, False)
        assert found.created is not None

        slots.acquire_nowait()
        found = one("posix-semaphore", lambda each: each.name == name)
        assert (found.values, found.waiting, found.in_use) == ((3,), 0, True)
        assert [each.access for each in found.openers] == ["rwm"]

        found = one("posix-memory", lambda each: each.name == name)
        assert (found.size, found.in_use, found.mode) == (10_000, True, 0o600)
        assert [each.pid for each in found.openers] == [os.getpid()]
    assert not [each for each in aioipc.inventory() if each.name == name]


def test_fifos_and_sockets(tmp_path: Path) -> None:
    fifo, stale, path = tmp_path / "fifo", tmp_path / "stale", tmp_path / "live"
    os.mkfifo(fifo, 0o600)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server, socket.socket(socket.AF_UNIX) as abstract:
        server.bind(str(path))
        server.listen()
        abstract.bind(f"\0aioipc-test-{os.getpid()}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(str(path))
            accepted, _ = server.accept()
            with accepted:
                found = one("unix-socket", lambda each: each.name == str(path))
        assert (found.socket_type, found.listening, found.connections, found.in_use) == ("seqpacket", True, 1, True)
        assert [each.pid for each in found.openers] == [os.getpid()]
        found = one("unix-socket", lambda each: each.name == f"@aioipc-test-{os.getpid()}")
        assert (found.uid, found.listening, found.connections) == (None, False, 0)

        found = one("unix-socket", lambda each: each.name == str(stale), folders=[tmp_path])
        assert (found.in_use, found.orphan, found.uid) == (False, True, os.geteuid())
        found = one("fifo", lambda each: each.name == str(fifo), folders=[tmp_path])
        assert (found.in_use, found.orphan, found.openers, found.mode) == (False, False, (), 0o600)
        assert found == one("fifo", lambda each: each.name == str(fifo), folders=[fifo])
        assert one("unix-socket", lambda each: each.name == str(stale), folders=[stale]).orphan

    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = one("fifo", lambda each: each.name == str(fifo), folders=[tmp_path])  # not twice
        assert ([each.access for each in found.openers], found.in_use) == (["r"], True)
        fifo.unlink()
        assert one("fifo", lambda each: each.name == str(fifo)).removed
    finally:
        os.close(descriptor)


def test_a_relative_socket_gets_its_whole_path(tmp_path: Path) -> None:
    source = "import os, socket, sys; os.chdir(sys.argv[1]); s = socket.socket(socket.AF_UNIX); s.bind('relative')"
    with child(source, str(tmp_path)) as pid:
        found = one("unix-socket", lambda each: each.name == str(tmp_path / "relative"), folders=[tmp_path])
        assert [each.pid for each in found.openers] == [pid]


def test_other_processes_and_their_end(name: str) -> None:
    source = """
import mmap, sys, sysv_ipc, aioipc
queue = aioipc.PosixMessageQueue.open(sys.argv[1])
file = open("/dev/shm" + sys.argv[1], "w+b")
file.truncate(4096)
memory = mmap.mmap(file.fileno(), 4096)
segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=4096)
"""
    with closing(aioipc.PosixMessageQueue.create(name)), child(source, name) as pid:
        queue = one("posix-queue", lambda each: each.name == name)
        assert {each.pid for each in queue.openers} == {os.getpid(), pid}
        memory = one("posix-memory", lambda each: each.name == name)
        assert [(each.pid, each.command) for each in memory.openers] == [
            (pid, Path(f"/proc/{pid}/comm").read_text()[:-1])
        ]
        segment = one("sysv-memory", lambda each: each.creator == pid)
        assert (segment.attached, [each.pid for each in segment.openers]) == (1, [pid])
    try:
        memory = one("posix-memory", lambda each: each.name == name)
        assert (memory.openers, memory.in_use, memory.orphan) == ((), False, True)
        segment = one("sysv-memory", lambda each: each.creator == pid)
        assert (segment.attached, segment.in_use, segment.orphan) == (0, False, True)
    finally:
        os.unlink(f"/dev/shm{name}")
        subprocess.run(["ipcrm", "-m", str(segment.id)], check=True)


def made(*arguments: str) -> int:
    """Let ipcmk(1) make an object; its id."""
    text = subprocess.run(["ipcmk", *arguments], check=True, capture_output=True, text=True).stdout
    return int(text.rpartition(":")[2])


def listing(flag: str, columns: str) -> dict[int, dict[str, str]]:
    """What lsipc(1) says, by id."""
    command = ["lsipc", flag, "--json", "--bytes", "--output", f"ID,KEY,OWNER,{columns}"]
    (rows,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout).values()
    return {int(row["id"]): row for row in rows}


def test_as_the_programs_of_util_linux_say() -> None:
    need("ipcmk", "lsipc", "ipcrm")
    queue, bank, segment = made("-Q", "-p", "0640"), made("-S", "3"), made("-M", "12345", "-p", "0600")
    try:
        found = one("sysv-queue", lambda each: each.id == queue)
        row = listing("-q", "USEDBYTES,MSGS")[queue]
        assert (found.key, found.user) == (signed(row["key"]), row["owner"])
        assert (found.used, found.messages) == (int(row["usedbytes"]), int(row["msgs"]))
        assert found.mode == 0o640
        found = one("sysv-semaphores", lambda each: each.id == bank)
        row = listing("-s", "NSEMS")[bank]
        assert (found.key, found.count) == (signed(row["key"]), int(row["nsems"]))
        assert found.values == (0, 0, 0)
        found = one("sysv-memory", lambda each: each.id == segment)
        row = listing("-m", "SIZE,NATTCH,CPID")[segment]
        assert (found.key, found.size) == (signed(row["key"]), int(row["size"]))
        assert (found.attached, found.creator) == (int(row["nattch"]), int(row["cpid"]))
        assert found.orphan  # ipcmk has ended
    finally:
        subprocess.run(["ipcrm", "-q", str(queue), "-s", str(bank), "-m", str(segment)], check=True)


def signed(key: str) -> int:
    number = int(key, 0)
    return number - (1 << 32) if number >= 1 << 31 else number


def test_who_waits_is_a_user(name: str) -> None:
    waiter = "import sys, sysv_ipc; s = sysv_ipc.Semaphore(int(sys.argv[1])); print('ready', flush=True); s.acquire()"
    key = 0x10_0000 + os.getpid()
    with closing(aioipc.SysVSemaphoreSet.create(key, [0])) as bank, running_script(waiter, str(key)) as script:
        script.wait_output("ready")

        def waits() -> bool:
            found = one("sysv-semaphores", lambda each: each.id == bank.id)
            return found.waiting == 1 and found.in_use

        eventually(waits, 20, "a waiter that is seen")


def test_a_user_without_rights_sees_what_there_is(name: str) -> None:
    """Other users' processes hide what they have open: the inventory says so, and calls nothing an orphan wrongly."""
    source = """
        import sys, aioipc
        found = aioipc.inventory()
        for each in found:
            if each.name == sys.argv[1]:
                print(each.kind, each.mode, each.openers, each.values, each.messages, each.in_use, each.orphan)
        print(*found.notes, sep="\\n")
    """
    with (
        closing(aioipc.PosixMessageQueue.create(name)),
        closing(aioipc.PosixSemaphore.create(name, 4)),
        aioipc.SharedMemory.create(4096, name=name),
    ):
        lines = run_confined(NOBODY, source, name).check().stdout.splitlines()
    assert "posix-semaphore 384 () None None False False" in lines
    assert "posix-memory 384 () None None False False" in lines
    assert any(line.startswith("openers: ") and "of other users do not show" in line for line in lines)


def test_find(name: str, tmp_path: Path) -> None:
    key = -5 - os.getpid()
    with closing(aioipc.SysVMessageQueue.create(key)) as queue, aioipc.SharedMemory.create(1, name=name) as memory:
        found = aioipc.inventory()
        assert memory.name == name
        for text in (name, name[1:]):
            assert [each.kind for each in found.find(text)] == ["posix-memory"]
        for text in (str(key), hex(key & 0xFFFFFFFF)):
            assert [(each.kind, each.id) for each in found.find(text)] == [("sysv-queue", queue.id)]
        assert queue.id in {each.id for each in found.find(str(queue.id))}
        assert found.find("nothing of the kind") == found.find("0x7ffffff1") == ()
        assert len(list(found)) == len(found)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no kind 'queue'; there are sysv-queue, "):
        aioipc.inventory(["queue"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"kinds must be a collection such as \['fifo'\]"):
        aioipc.inventory("fifo")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="folders must be a collection"):
        aioipc.inventory(folders="/tmp")
    with pytest.raises(FileNotFoundError):
        aioipc.inventory(folders=[tmp_path / "missing"])
    wrong: list[tuple[Any, Any, type[Exception], str]] = [
        (5, (), TypeError, "kinds must be a collection of str, not int"),
        ([[]], (), ValueError, r"there is no kind \[\]; there are"),
        (None, b"x", TypeError, r"folders must be a collection such as \[b'x'\]"),
        (None, tmp_path, TypeError, "folders must be a collection such as"),
        (None, 5, TypeError, "folders must be a collection of paths, not int"),
        (None, [b"x"], TypeError, "folders must have str or os.PathLike"),
    ]
    for kinds, folders, error, text in wrong:
        with pytest.raises(error, match=text):
            aioipc.inventory(kinds, folders=folders)
    with pytest.raises(TypeError, match="text must be a str, such as a name or '5', not int"):
        aioipc.inventory([]).find(5)  # type: ignore[arg-type]


def test_every_kind_can_be_asked_for_alone() -> None:
    assert aioipc.inventory([]).objects == ()
    for kind in get_args(aioipc.ObjectKind):
        assert {each.kind for each in aioipc.inventory([kind])} <= {kind}


OWNER = """
import asyncio, sys, aioipc

async def main():
    name, fifo = sys.argv[1:]
    queue = aioipc.SysVMessageQueue.create()
    queue.send_nowait(b"x")
    slots = aioipc.PosixSemaphore.create(name, 4)
    kept = aioipc.SharedMemory.create(4096, name=name, remove=False)
    async with await aioipc.open_fifo_reader(fifo, create=True, remove=True, persistent=True):
        print(queue.id, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_owners_and_their_death(name: str, tmp_path: Path) -> None:
    """A record tells whose it is; that a process of its maker's number is alive says nothing."""
    fifo = str(tmp_path / "fifo")

    def look(id: int) -> dict[str, aioipc.KernelObject]:
        wanted = {("sysv-queue", id), *((kind, name) for kind in get_args(aioipc.ObjectKind)), ("fifo", fifo)}
        mine = [each for each in aioipc.inventory() if (each.kind, each.id or each.name) in wanted]
        return {each.kind: each for each in mine}

    with running_script(OWNER, name, fifo) as script:
        eventually(lambda: script.stdout.endswith("\n"), 20, "an owner")
        number = int(script.stdout)
        found = look(number)
        assert set(found) == {"sysv-queue", "posix-semaphore", "posix-memory", "fifo"}
        for each in found.values():
            assert each.owner is not None
            assert (each.owner.pid, each.owner_alive, each.creator) == (script.popen.pid, True, script.popen.pid)
            assert (each.in_use, each.orphan, each.created) == (True, False, each.owner.created)
    try:
        dead = look(number)
        assert set(dead) == set(found)  # the FIFO without its folder, too
        assert all(each.owner == found[kind].owner for kind, each in dead.items())
        assert [each.owner_alive for each in dead.values()] == [False] * 4
        orphans = {kind for kind, each in dead.items() if each.orphan}
        assert orphans == {"sysv-queue", "posix-semaphore", "fifo"}  # the memory was to stay
    finally:
        subprocess.run(["ipcrm", "-q", str(number)], check=True)
        for path in (fifo, f"/dev/shm{name}", f"/dev/shm/sem.{name[1:]}"):
            os.unlink(path)
        for each in found.values():
            assert each.owner is not None
            os.unlink(each.owner.path)


def test_an_object_of_the_same_name_is_not_the_owners(name: str) -> None:
    path = f"/dev/shm{name}"
    with aioipc.SharedMemory.create(4096, name=name):
        assert one("posix-memory", lambda each: each.name == name).owner is not None
        os.unlink(path)
        Path(path).write_bytes(b"somebody else's")
        found = one("posix-memory", lambda each: each.name == name)
        assert (found.owner, found.creator, found.in_use) == (None, None, False)
    os.unlink(path)


def test_records_that_cannot_be_read_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(tmp_path / "file"))
    notes = aioipc.inventory(["fifo"]).notes
    assert any(note.startswith("owners: the records of who made what cannot be read: ") for note in notes)


def test_hidden_processes(name: str) -> None:
    """Where /proc does not list other users' processes, nobody is taken for the only one."""
    source = """
        import os, sys
        from aioipc.objects.inventory import inventory
        from aioipc.testing.namespaces import mount, private_mounts
        private_mounts()
        mount("proc", "/proc", "proc", options="hidepid=2")
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        found = inventory(["posix-memory"])
        print([(each.in_use, each.orphan) for each in found if each.name == sys.argv[1]], *found.notes)
    """
    with aioipc.SharedMemory.create(4096, name=name):
        done = run_script(source, name, env={"AIOIPC_STATE_DIR": None})
    if "PermissionError" in done.stderr:
        pytest.skip("this machine lets nobody mount")
    assert done.check().stdout == (
        "[(False, False)] openers: /proc hides the processes of other users (hidepid); root sees them\n"
    )


def test_without_descriptors_nothing_is_taken_for_unused() -> None:
    source = """
        import os, resource, aioipc
        aioipc.inventory()
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
        for kind in (None, ["sysv-queue"], ["unix-socket"], ["posix-memory"]):
            try:
                print(len(aioipc.inventory(kind)))
            except OSError as error:
                print(error.strerror.partition(":")[0])
    """
    assert run_script(source).check().stdout.splitlines() == ["no descriptor is free for the inventory"] * 4
