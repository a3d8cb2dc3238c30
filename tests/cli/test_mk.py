"""``aioipc mk``: what it makes is there, as asked for, and stays."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import aioipc
from tests.cli.in_process import Command

KEY = 0x41494F11


@pytest.fixture
def names() -> Iterator[str]:
    """A prefix for POSIX names; what has it is removed."""
    prefix = f"/aioipc-mk-{os.getpid()}"
    yield prefix
    for kind in (aioipc.PosixMessageQueue, aioipc.PosixSemaphore, aioipc.SharedMemory):
        try:
            found = kind.open(prefix)
        except FileNotFoundError:
            continue
        found.remove()
        found.close()


def test_a_queue(aioipc_command: Command) -> None:
    private = aioipc_command("mk msg --max-bytes 4K --mode 640 --json").records[0]
    with closing(aioipc.SysVMessageQueue.open(id=private["id"])) as queue:
        found = queue.statistics()
        queue.remove()
    assert private == {"kind": "sysv-queue", "id": private["id"], "name": None, "key": 0, "created": True}
    assert (found.max_bytes, found.mode, queue.key) == (4096, 0o640, None)


def test_again_and_again(aioipc_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "queuekey"
    file.touch()
    words = ["--ftok", file, "--ftok-id", "1"]
    first = aioipc_command("mk sysv-queue --exist-ok --json", *words).records[0]
    again = aioipc_command("mk sysv-queue --exist-ok --json", *words).records[0]
    assert first["created"] is True
    assert again == first | {"created": False}
    assert aioipc_command.refused("mk msg", *words).endswith("already; --exist-ok takes it as it is")
    with closing(aioipc.SysVMessageQueue.open(aioipc.ftok(file, 1))) as queue:
        assert queue.id == first["id"]
        assert queue.key == first["key"]
        assert queue.statistics().mode == 0o600
        queue.remove()
    low = aioipc_command.refused("mk msg --ftok-id 1024 --ftok", file)
    assert "--allow-zero" in low
    id = int(aioipc_command.ok("mk msg --ftok-id 1024 --allow-zero --ftok", file))
    with closing(aioipc.SysVMessageQueue.open(aioipc.ftok(file, 1024, allow_zero=True))) as queue:
        assert queue.id == id
        queue.remove()


def test_semaphores(aioipc_command: Command) -> None:
    for words, values in (("--init 100,1", (100, 1)), ("--nsems 3", (0, 0, 0)), ("--nsems 2 --init 7", (7, 7))):
        id = int(aioipc_command.ok(f"mk sem -k {KEY:#x} {words}"))
        with closing(aioipc.SysVSemaphoreSet.open(KEY)) as semaphores:
            assert semaphores.id == id
            assert semaphores.values() == values
            semaphores.remove()


def test_shared_memory(aioipc_command: Command) -> None:
    id = int(aioipc_command.ok("mk shm --size 64K"))
    with aioipc.SysVSharedMemory.open(id=id) as segment:
        assert segment.size == 65536
        assert segment.statistics().attached == 1
        segment.remove()


def test_posix_objects(aioipc_command: Command, names: str) -> None:
    assert aioipc_command.ok("mk pmsg --max-messages 3 --max-message-size 1K", names) == names
    with closing(aioipc.PosixMessageQueue.open(names)) as queue:
        assert (queue.max_messages, queue.max_message_size) == (3, 1024)
    assert aioipc_command.ok("mk psem --init 4", names) == names
    with closing(aioipc.PosixSemaphore.open(names)) as semaphore:
        assert semaphore.value == 4
    assert aioipc_command.ok("mk pshm --size 1M -p 0644", names) == names
    with aioipc.SharedMemory.open(names) as memory:
        assert memory.size == 1 << 20
        assert stat.S_IMODE(os.fstat(memory.fileno()).st_mode) == 0o644
    assert (
        aioipc_command.refused("mk pshm --size 1", names)
        == f"aioipc mk: {names}: exists already; --exist-ok takes it as it is"
    )


def test_a_fifo(aioipc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "hello"
    old = os.umask(0o777)
    try:
        assert aioipc_command.ok("mk fifo", path) == str(path)
    finally:
        os.umask(old)
    found = path.stat()
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert "exists already" in aioipc_command.refused("mk fifo", path)
    assert aioipc_command("mk fifo --exist-ok --json", path).records[0]["created"] is False
    assert "no FIFO" in aioipc_command.refused("mk fifo --exist-ok", tmp_path)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("msg /name", "has no name"),
        ("pmsg", "needs a name such as /jobs"),
        ("pmsg jobs", "a slash and a word"),
        ("fifo", "needs a path"),
        ("fifo a -k 5", "has a name and no key"),
        ("shm", "needs a size"),
        ("shm --size 0", "size must be between"),
        ("shm --size 1 --nsems 2", "--nsems is not for sysv-memory"),
        ("sem", "how many semaphores"),
        ("sem --nsems 3 --init 1,2", "2 values for 3"),
        ("sem --init -1", "between 0 and"),
        ("psem /x --init 1,2", "with one value"),
        ("pmsg /x --max-messages 1000000000", "msg_max"),
        ("msg --ftok a", "needs --ftok-id"),
        ("msg --ftok-id 1", "goes with --ftok"),
        ("msg --ftok a --ftok-id 1 -k 1", "exclude each other"),
        ("msg --ftok /nowhere --ftok-id 1", "/nowhere: No such file"),
    ],
)
def test_what_cannot_be(aioipc_command: Command, words: str, why: str) -> None:
    line = aioipc_command.refused(f"mk {words}")
    assert line.startswith("aioipc mk: ")
    assert re.search(why, line), line


def test_a_wrong_option_is_told_with_what_would_be_right(aioipc_command: Command) -> None:
    ended = aioipc_command("mk pipe")
    assert ended.code == 2
    assert "fifo" in ended.stderr
    assert "4K" in aioipc_command("mk shm --size ten").stderr
