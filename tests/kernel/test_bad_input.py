"""Bad input to every mechanism, strangers, removal, limits: each time a clear error, and the object goes on."""

from __future__ import annotations

import asyncio
import errno
import inspect
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aioipc import (
    FileLock,
    MappedFile,
    PosixMessageQueue,
    PosixSemaphore,
    RecordLog,
    SharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    create_pipe,
    create_socketpair,
    listen_unix,
    open_datagram_socket,
    open_fifo_reader,
    open_fifo_writer,
)
from aioipc._sys import posix_mq, sysv_messages, sysv_semaphores, sysv_shm
from tests.harness.hostile import NOBODY, run_confined
from tests.harness.kernel_limits import set_limit as set_limit
from tests.harness.scripts import run_script

from .bad_input import KEY, NAME, TABLE, Rows


class TwoEnds:
    """A stream with one end for each direction, as one object that sends and receives."""

    def __init__(self, receiver: Any, sender: Any) -> None:
        self.receive, self.receive_nowait = receiver.receive, receiver.receive_nowait
        self.receive_into, self.lines = receiver.receive_into, receiver.lines
        self.send, self.send_nowait = sender.send, sender.send_nowait


@asynccontextmanager
async def opened(mechanism: str) -> AsyncIterator[Any]:
    """An object of the mechanism, in a state in which it can do its work."""
    match mechanism:
        case "pipe":
            reader, writer = create_pipe()
            async with reader, writer:
                yield TwoEnds(reader, writer)
        case "FIFO":
            async with await open_fifo_reader("fifo", create=True) as fifo, await open_fifo_writer("fifo") as sender:
                yield TwoEnds(fifo, sender)
        case "socket stream":
            left, right = create_socketpair()
            async with left, right:
                yield TwoEnds(left, right)
        case "packet socket":
            sending, receiving = create_socketpair("packets")
            async with sending, receiving:
                yield sending
        case "TCP":
            yield None
        case _:
            async with MADE[mechanism]() as made:
                yield made


MADE: dict[str, Callable[[], Any]] = {
    "datagram socket": lambda: open_datagram_socket("inbox"),
    "System V queue": lambda: SysVMessageQueue.create(KEY),
    "System V semaphores": lambda: SysVSemaphoreSet.create(KEY, [3, 2]),
    "System V shared memory": lambda: SysVSharedMemory.create(KEY, 1000),
    "POSIX queue": lambda: PosixMessageQueue.create(NAME, max_messages=4, max_message_size=100),
    "POSIX semaphore": lambda: PosixSemaphore.create(NAME, 2),
    "shared memory": lambda: SharedMemory.create(1000, name=NAME),
    "file lock": lambda: FileLock.open("lock"),
    "mapped file": lambda: MappedFile.create("map", 1000),
    "record log": lambda: RecordLog.open("log"),
}


async def what_is_wrong(rows: Rows, made: Any) -> list[str]:
    """Do what the rows say; tell of those that do not end as they say."""
    wrong = []
    for kind in rows:
        for number, (use, error, text) in enumerate(rows[kind]):
            outcome = await outcome_of(use, made)
            if not isinstance(outcome, error) or not re.search(text, str(outcome)):
                wrong.append(f"{kind} {number}: {error.__name__} with {text!r} was expected, not {outcome!r}")
    return wrong


async def outcome_of(use: Callable[[Any], object], made: Any) -> object:
    try:
        result = use(made)
        if inspect.isawaitable(result):
            async with asyncio.timeout(20):
                result = await result
    except Exception as error:
        return error
    with suppress(Exception):
        result.close()  # type: ignore[attr-defined]
    return result


@pytest.mark.parametrize("mechanism", TABLE)
async def test_wrong_types_values_and_lengths(mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with opened(mechanism) as made:
        assert await what_is_wrong(TABLE[mechanism], made) == []
        await still_works(made)


async def still_works(made: Any) -> None:
    match made:
        case SysVSemaphoreSet():
            assert made.values() == (3, 2)
        case PosixSemaphore():
            assert made.value == 2
        case SysVMessageQueue() | PosixMessageQueue():
            assert made.statistics().messages == 0
            await made.send(b"well")
            assert (await made.receive()).body == b"well"
        case TwoEnds():
            await made.send(b"well")
            assert await made.receive() == b"well"
        case SharedMemory() | SysVSharedMemory() | MappedFile():
            assert made.buffer[999] == 0
        case FileLock():
            async with made.held():
                pass
        case RecordLog():
            assert await made.append(b"well") == 0


@pytest.mark.parametrize("mechanism", TABLE)
def test_the_table_has_every_kind(mechanism: str) -> None:
    assert set(TABLE[mechanism]) == {"type", "value", "length"}
    assert all(TABLE[mechanism].values())


STRANGER: dict[str, tuple[str, str]] = {
    "FIFO": (
        "aioipc.open_fifo_reader('/dev/shm/fifo')",
        r"its permissions forbid it \(owner 0, mode 0o600\): '/dev/shm/fifo'",
    ),
    "socket stream": ("aioipc.connect_unix('/dev/shm/socket')", "Permission denied: '/dev/shm/socket'"),
    "packet socket": ("aioipc.listen_unix('/dev/shm/locked/x', 'packets')", "Permission denied: '/dev/shm/locked/x'"),
    "datagram socket": (
        "aioipc.open_datagram_socket().send(b'x', '/dev/shm/inbox')",
        "Permission denied: '/dev/shm/inbox'",
    ),
    "TCP": ("aioipc.listen_tcp('127.0.0.1', 1)", "Permission denied: 127.0.0.1 port 1"),
    "System V queue": (
        f"aioipc.SysVMessageQueue.open({KEY}).receive()",
        rf"System V message queue \d+ \(key {KEY:#010x}\): its permissions forbid this to uid 65534",
    ),
    "System V semaphores": (
        f"aioipc.SysVSemaphoreSet.open({KEY})",
        r"System V semaphore set \d+: its permissions forbid uid 65534 to read it",
    ),
    "System V shared memory": (f"aioipc.SysVSharedMemory.open({KEY})", "shared memory forbid it: 'key 0x41494f70'"),
    "POSIX queue": (f"aioipc.PosixMessageQueue.open({NAME!r})", f"of this POSIX queue forbid it: '{NAME}'"),
    "POSIX semaphore": (f"aioipc.PosixSemaphore.open({NAME!r})", f"of this POSIX semaphore forbid it: '{NAME}'"),
    "file lock": ("aioipc.FileLock.open('/dev/shm/locked/x')", "Permission denied: '/dev/shm/locked/x'"),
    "mapped file": ("aioipc.MappedFile.open('/dev/shm/locked/x')", "Permission denied: '/dev/shm/locked/x'"),
    "record log": ("aioipc.RecordLog.open('/dev/shm/locked/x')", "Permission denied: '/dev/shm/locked/x'"),
    "shared memory": (f"aioipc.SharedMemory.open({NAME!r})", f"of this shared memory forbid it: '{NAME}'"),
}
ASK = """
    import asyncio, inspect, aioipc
    async def main():
        for use in [{uses}]:
            try:
                result = use()
                if inspect.isawaitable(result):
                    await asyncio.wait_for(result, 10)
                print("done", result)
            except Exception as error:
                print(type(error).__name__, error)
    asyncio.run(main())
"""


async def test_a_stranger_learns_what_forbids_it() -> None:
    """Another user, without any privilege; anonymous things have nothing to be forbidden."""
    assert set(STRANGER) == set(TABLE) - {"pipe"}
    shm = Path("/dev/shm")
    (shm / "locked").mkdir(0o700)
    try:
        async with (
            await open_fifo_reader(shm / "fifo", create=True, remove=True),
            listen_unix(shm / "socket"),
            open_datagram_socket(shm / "inbox"),
            MADE["System V queue"](),
            MADE["System V semaphores"](),
            MADE["System V shared memory"](),
            MADE["POSIX queue"](),
            MADE["POSIX semaphore"](),
            MADE["shared memory"](),
        ):
            uses = ", ".join(f"lambda: {use}" for use, _ in STRANGER.values())
            done = run_confined(NOBODY, ASK.format(uses=uses), python=("-W", "ignore"))
    finally:
        (shm / "locked").rmdir()
    lines = done.check().stdout.splitlines()
    assert len(lines) == len(STRANGER)
    for line, (mechanism, (_, text)) in zip(lines, STRANGER.items(), strict=True):
        if mechanism == "TCP" and everybody_may_use_port_1():
            continue
        assert line.startswith("PermissionError "), (mechanism, line)
        assert re.search(text, line), (mechanism, line)


def everybody_may_use_port_1() -> bool:
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2


REMOVED: dict[str, tuple[Callable[[Any], object], list[tuple[Callable[[Any], object], object]]]] = {
    "FIFO": (
        lambda e: Path("fifo").unlink(),
        [(lambda e: open_fifo_writer("fifo"), r"there is no FIFO \(any more\).*/fifo'")],
    ),
    "datagram socket": (
        lambda e: Path("inbox").unlink(),
        [(lambda e: e.send(b"x", "inbox"), "No such file or directory: 'inbox'")],
    ),
    "System V queue": (
        lambda e: sysv_messages.remove(e.id),
        [
            (lambda e: e.send(b"x"), "message queue .* was removed"),
            (lambda e: e.receive(), "message queue .* was removed"),
            (lambda e: e.statistics(), "message queue .* was removed"),
            (lambda e: SysVMessageQueue.open(KEY), "no System V message queue"),
        ],
    ),
    "System V semaphores": (
        lambda e: sysv_semaphores.remove(e.id),
        [
            (lambda e: e.acquire(), "semaphore set .* was removed"),
            (lambda e: e.release(), "semaphore set .* was removed"),
            (lambda e: e.values(), "semaphore set .* was removed"),
        ],
    ),
    "System V shared memory": (
        lambda e: sysv_shm.remove(e.id),
        [(lambda e: e.is_removed(), True), (lambda e: SysVSharedMemory.open(KEY), "with this key")],
    ),
    "POSIX queue": (
        lambda e: posix_mq.unlink_queue(NAME),
        [(lambda e: e.is_removed(), True), (lambda e: PosixMessageQueue.open(NAME), "no POSIX queue of this name")],
    ),
    "POSIX semaphore": (
        lambda e: Path(f"/dev/shm/sem.{NAME[1:]}").unlink(),
        [(lambda e: e.is_removed(), True), (lambda e: PosixSemaphore.open(NAME), "no POSIX semaphore of this name")],
    ),
    "shared memory": (
        lambda e: Path(f"/dev/shm{NAME}").unlink(),
        [(lambda e: e.is_removed(), True), (lambda e: SharedMemory.open(NAME), "no shared memory of this name")],
    ),
}


@pytest.mark.parametrize("mechanism", REMOVED)
async def test_removed_under_our_feet(mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be used without its name goes on; what cannot says that it was removed. Closing is no error."""
    monkeypatch.chdir(tmp_path)
    async with opened(mechanism) as made:
        remove, uses = REMOVED[mechanism]
        remove(made)
        for use, expected in uses:
            outcome = await outcome_of(use, made)
            if isinstance(expected, str):
                assert isinstance(outcome, OSError), outcome
                assert re.search(expected, str(outcome)), outcome
            else:
                assert outcome == expected
        if not isinstance(made, SysVMessageQueue | SysVSemaphoreSet):
            await still_works(made)


def test_without_free_descriptors(tmp_path: Path) -> None:
    """RLIMIT_NOFILE is named, and who accepts can do so when one is free again."""
    script = """
        import asyncio, os, resource, aioipc, encodings.idna
        for name in aioipc.__all__:
            getattr(aioipc, name)  # imported while there are descriptors
        async def main():
            listener = aioipc.listen_unix("socket")
            client = await aioipc.connect_unix("socket")
            await aioipc.open_fifo_reader("fifo", create=True)
            aioipc.PosixMessageQueue.create("/aioipc-none-free", remove=False).close()
            aioipc.SharedMemory.create(10, name="/aioipc-none-free", remove=False).close()
            await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            spare = os.dup(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, spare + 1))
            for use in [
                aioipc.create_socketpair, lambda: aioipc.create_socketpair("packets"),
                lambda: aioipc.connect_unix("socket"), lambda: aioipc.listen_unix("other"),
                lambda: aioipc.listen_tcp("127.0.0.1", 0), lambda: aioipc.connect_tcp("127.0.0.1", 80),
                aioipc.open_datagram_socket, listener.accept, lambda: aioipc.SharedMemory.create(10),
                lambda: aioipc.SharedMemory.create(10, name="/x"),
                lambda: aioipc.SharedMemory.open("/aioipc-none-free"),
                lambda: aioipc.PosixMessageQueue.open("/aioipc-none-free"),
                aioipc.create_pipe, lambda: aioipc.open_fifo_reader("fifo"),
            ]:
                try:
                    result = use()
                    await result
                    print("done")
                except OSError as error:
                    print(error.errno, error)
            os.close(spare)
            (await listener.accept()).close()
            listener.close()
            aioipc.PosixMessageQueue.open("/aioipc-none-free").remove()
            aioipc.SharedMemory.open("/aioipc-none-free").remove()
        asyncio.run(main())
        """
    done = run_script(script, python=("-W", "ignore"), cwd=tmp_path).check()
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    for line in lines:
        assert line.startswith(f"{errno.EMFILE} "), line
        assert re.search(r"RLIMIT_NOFILE", line), line


LIMITS: list[tuple[str, str, Callable[[], Any], str]] = [
    ("msgmni", "1", lambda: SysVMessageQueue.create(), r"as many as there may be \(kernel\.msgmni\)"),
    ("sem", "32000 1024000000 500 1", lambda: SysVSemaphoreSet.create(None, [1]), r"as many as .*kernel\.sem\)"),
    ("sem", "32000 2 500 9", lambda: SysVSemaphoreSet.create(None, [1, 1]), r"as many as .*kernel\.sem\)"),
    ("shmmni", "1", lambda: SysVSharedMemory.create(None, 10), r"kernel\.shmmni = 1\b"),
    ("shmmax", "5000", lambda: SysVSharedMemory.create(None, 5001), r"kernel\.shmmax = 5000\b"),
    ("shmall", "1", lambda: SysVSharedMemory.create(None, 5000), r"kernel\.shmall = 1\b"),
]


@pytest.mark.parametrize(("sysctl", "value", "make", "text"), LIMITS)
def test_the_systems_limits_are_named(
    sysctl: str, value: str, make: Callable[[], Any], text: str, set_limit: Callable[[str, str], None]
) -> None:
    """One is there already, so that one more is too many."""
    first = make() if "shmm" not in sysctl or sysctl == "shmmni" else None
    set_limit(sysctl, value)
    try:
        with pytest.raises(OSError, match=text) as caught:
            make()
        assert caught.value.errno in (errno.ENOSPC, errno.EINVAL)
    finally:
        if first is not None:
            first.close()
