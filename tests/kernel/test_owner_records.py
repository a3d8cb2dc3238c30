"""Records of owners: what they say, where they are, and that objects can be made without them."""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aioipc
from aioipc._sys import posix_mq, procfs, sysvipc
from aioipc._sys.file_identity import file_identity
from aioipc._sys.leases import is_open_elsewhere
from aioipc.kernel import state_directory
from aioipc.kernel.claims import Claim
from aioipc.kernel.owner_records import OwnerRecord, read_records
from aioipc.testing.processes import open_descriptors

from ..harness.hostile import NOBODY, READ_ONLY_ROOT, run_confined
from ..harness.scripts import run_script

KEY = 0x41494F57
NAME = "/aioipc-records"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory for this test, which is not there yet."""
    directory = tmp_path / "state"
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(directory))
    return directory


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is warned of, as if nothing had been before."""
    monkeypatch.setattr(state_directory, "_said", set())
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    monkeypatch.setattr(handler, "emit", lambda record: found.append(record.getMessage()))
    state_directory.logger.addHandler(handler)
    yield found
    state_directory.logger.removeHandler(handler)


def files(state: Path) -> list[str]:
    return sorted(os.listdir(state)) if state.exists() else []


async def open_fifo(path: Path) -> aioipc.FifoReceiveStream:
    return await aioipc.open_fifo_reader(path, create=True, remove=True)


async def test_what_it_says(state: Path, tmp_path: Path) -> None:
    before = time.time()
    path = tmp_path / "fifo"
    queue = aioipc.SysVMessageQueue.create(KEY)
    memory = aioipc.SharedMemory.create(10, name=NAME, remove=False)
    fifo = await open_fifo(path)
    of_queue, of_memory, of_fifo = read_records()
    assert os.stat(state).st_mode == stat.S_IFDIR | 0o700
    for record in (of_queue, of_memory, of_fifo):
        assert before <= record.created <= time.time()
        assert (record.pid, record.start_time) == (os.getpid(), procfs.start_time(os.getpid()))
        assert (record.boot_id, record.uid) == (procfs.boot_id(), os.geteuid())
        assert record.ipc_namespace == os.readlink("/proc/self/ns/ipc")
        assert record.pid_namespace == os.readlink("/proc/self/ns/pid")
        assert record.made
        assert record.is_alive()
        assert os.stat(record.path).st_mode == stat.S_IFREG | 0o600
    assert (of_queue.kind, of_queue.name, of_queue.id, of_queue.key) == ("sysv-queue", None, queue.id, KEY)
    assert of_queue.changed == queue.statistics().last_change
    assert (of_memory.kind, of_memory.name, of_memory.id) == ("posix-memory", NAME, None)
    assert of_memory.file == file_identity("/dev/shm" + NAME)
    assert (of_fifo.kind, of_fifo.name) == ("fifo", str(path))
    assert (of_queue.remove, of_memory.remove, of_fifo.remove) == (True, False, True)
    assert read_records(["fifo", "posix-queue"]) == [of_fifo]
    queue.close()
    fifo.close()
    memory.close()
    assert read_records() == [of_memory]
    assert not of_memory.is_alive()
    with aioipc.SharedMemory.open(NAME) as opened:
        assert of_memory.is_alive()
        opened.remove()
        assert files(state) == []
    assert not of_queue.is_alive()


async def done(made: Any) -> Any:
    return await made if inspect.isawaitable(made) else made


MAKERS: list[Callable[[Path], Any]] = [
    lambda path: aioipc.SysVMessageQueue.create(KEY),
    lambda path: aioipc.SysVSemaphoreSet.create(KEY, [1]),
    lambda path: aioipc.SysVSharedMemory.create(KEY, 10),
    lambda path: aioipc.PosixMessageQueue.create(NAME),
    lambda path: aioipc.PosixSemaphore.create(NAME),
    lambda path: aioipc.SharedMemory.create(10, name=NAME),
    lambda path: open_fifo(path / "fifo"),
    lambda path: aioipc.listen_unix(path / "listener"),
    lambda path: aioipc.open_datagram_socket(path / "datagrams"),
]


@pytest.mark.parametrize("make", MAKERS)
async def test_permissions_and_marks(state: Path, tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """The mark of an unfinished object is gone when it is finished, whatever the umask; so is its record at last."""
    os.mkdir(state, 0o700)
    umask = os.umask(0o777)
    try:
        made = await done(make(tmp_path))
    finally:
        os.umask(umask)
    (record,) = read_records()
    assert os.stat(record.path).st_mode & 0o777 == 0o600
    if record.id is not None:
        table: Any = {"sysv-queue": "msg", "sysv-semaphores": "sem", "sysv-memory": "shm"}[record.kind]
        rows = sysvipc.table(table) or ()
        assert [row["perms"] & 0o777 for row in rows if record.id in row.values()] == [0o600]
    elif record.kind == "posix-queue":
        assert os.fstat(made.fileno()).st_mode & 0o777 == 0o600
    else:
        folder = {"posix-memory": "/dev/shm", "posix-semaphore": "/dev/shm/sem."}.get(record.kind, "")
        path = folder + (record.name or "").removeprefix("/" if folder.endswith(".") else "")
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert record.file == file_identity(path)
    made.close()
    assert files(state) == []


@pytest.mark.parametrize("make", MAKERS)
async def test_what_exists_already(state: Path, tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """A failed attempt leaves no second record, and does not take the first away."""
    made = await done(make(tmp_path))
    before = files(state)
    again = None
    try:
        again = await done(make(tmp_path))  # a FIFO is opened
    except OSError:
        pass
    assert files(state) == before
    if again is not None:
        again.close()
    made.close()
    assert files(state) == []


def test_without_a_place_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]) -> None:
    """All goes on, and one warning says why."""
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(tmp_path / "missing" / "state"))
    for _ in range(2):
        with aioipc.SharedMemory.create(10, name=NAME), aioipc.SharedMemory.open(NAME):
            assert read_records() == []
    assert len(warnings) == 1
    assert "objects are made without owner records, so remove_orphans() will not find them" in warnings[0]
    assert f"{tmp_path}/missing/state: No such file or directory" in warnings[0]


@pytest.mark.parametrize("confinement", [NOBODY, READ_ONLY_ROOT])
def test_in_strange_places(confinement: str) -> None:
    """An ordinary user has a place of his own; where nothing can be written to, all goes on without."""
    source = """
        import logging, os, aioipc
        from aioipc.kernel.owner_records import read_records
        warnings = []
        handler = logging.Handler()
        handler.emit = lambda record: warnings.append(record.getMessage())
        logging.getLogger("aioipc").addHandler(handler)
        for _ in range(2):
            with aioipc.SharedMemory.create(10, name="/aioipc-strange"):
                print(len(read_records()), *warnings)
        """
    env = {"AIOIPC_STATE_DIR": None, "XDG_RUNTIME_DIR": "/proc/1", "RUNTIME_DIRECTORY": None}
    done = run_confined(confinement, source, env=env).check()
    one, two = done.stdout.splitlines()
    if confinement == NOBODY:
        assert (one, two) == ("1", "1")
        os.rmdir(Path(os.environ["TMPDIR"], "aioipc-65534"))
    else:
        assert one == two
        assert one.startswith("0 objects are made without owner records")


def test_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, login = tmp_path / "first", tmp_path / "second", tmp_path / "login"
    first.mkdir()
    login.mkdir()
    temporary = Path(os.environ["TMPDIR"], f"aioipc-{os.geteuid()}")

    def chosen() -> list[str]:
        return [candidate.path for candidate in state_directory.candidates()]

    monkeypatch.delenv("AIOIPC_STATE_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert chosen() == [str(temporary)]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(login))
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{first}:{second}")
    assert chosen() == [f"{first}/aioipc", f"{login}/aioipc", str(temporary)]
    with aioipc.SharedMemory.create(10, name=NAME):
        (record,) = read_records()
        assert os.path.dirname(record.path) == f"{first}/aioipc"
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(second))  # it is found as long as the place is one of them
        assert read_records() == []
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(second))
    assert chosen() == [str(second)]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]) -> None:
    """They lead elsewhere after a change of the working directory: explicit ones are refused, others do not count."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIOIPC_STATE_DIR", "state")
    with pytest.raises(OSError, match="is relative; set AIOIPC_STATE_DIR to an absolute path: 'state'"):
        aioipc.remove_orphans()
    with aioipc.SharedMemory.create(10, name=NAME), aioipc.SharedMemory.open(NAME):
        assert [text.partition(":")[0] for text in warnings] == [
            "objects are made without owner records, so remove_orphans() will not find them",
            "objects are opened without a look for their owner records",
        ]
    assert os.listdir(tmp_path) == []
    os.mkdir("run")
    monkeypatch.delenv("AIOIPC_STATE_DIR")
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "run")
    assert [os.path.basename(each.path) for each in state_directory.candidates()] == [f"aioipc-{os.geteuid()}"]


@pytest.mark.parametrize("fault", ["symlink", "file", "open to others", "somebody else's"])
def test_hostile_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, warnings: list[str]) -> None:
    """It is not used: named explicitly that is an error, and in the temporary directory a warning."""
    path = tmp_path / f"aioipc-{os.geteuid()}"
    (tmp_path / "real").mkdir(mode=0o700)
    if fault == "symlink":
        path.symlink_to(tmp_path / "real")
    elif fault == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777 if fault == "open to others" else 0o700)
    if fault == "somebody else's":
        try:
            os.chown(path, 65533, 65533)
        except PermissionError:
            pytest.skip("only root can give a directory away")
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(path))
    with pytest.raises(OSError, match=r"is no directory, or a symbolic link|others may use it|belongs to uid 65533"):
        aioipc.remove_orphans()
    monkeypatch.delenv("AIOIPC_STATE_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    aioipc.PosixSemaphore.create(NAME).close()
    assert aioipc.remove_orphans() == []
    assert [text.split(":")[0] for text in warnings] == [
        "objects are made without owner records, so remove_orphans() will not find them",
        f"{path} is left out as a state directory",
    ]
    assert os.listdir(tmp_path / "real") == []


def good(**changes: object) -> bytes:
    fields = {
        "kind": "sysv-queue",
        "name": None,
        "key": None,
        "pid": 1,
        "start_time": 0,
        "boot_id": "",
        "ipc_namespace": "",
        "pid_namespace": "",
        "uid": 0,
        "created": 1.5,
        "remove": True,
    }
    return json.dumps({**fields, **changes}).encode() + b"\n"


GARBAGE = [
    b"\0\xff\n",
    b"[]\n",
    b"null\n",
    b"{}\n",
    b"[" * 60000 + b"\n",
    good(kind="pipe"),
    good(name="/both"),
    good(kind="fifo"),
    good(pid="1"),
    good(created="now"),
    good(surprise=1),
    good(file=[1]),
    good() + b"nonsense\n",
]


def test_garbage_among_them(state: Path, warnings: list[str]) -> None:
    """It is left out and left alone, with a warning each."""
    state.mkdir(mode=0o700)
    for number, content in enumerate(GARBAGE):
        (state / f"sysv-queue.new.{number:016x}.owner").write_bytes(content)
    (state / f"sysv-queue.new.{1000:016x}.owner").mkdir()
    (state / f"sysv-queue.new.{1001:016x}.owner").symlink_to("/etc/passwd")
    os.mkfifo(state / f"sysv-queue.new.{1002:016x}.owner")
    (state / "notes.txt").write_text("not ours")
    (state / "some.owner").write_text("not ours")
    before = files(state)
    assert read_records() == aioipc.remove_orphans() == []
    assert files(state) == before
    assert sorted(text.split(" is no owner record: ")[0] for text in warnings) == [
        str(state / name) for name in before if name.startswith("sysv-queue")
    ]
    with aioipc.SharedMemory.create(10, name=NAME):
        assert [record.name for record in read_records()] == [NAME]


def test_lines_that_are_not_whole(state: Path) -> None:
    """The first says what was to be made: without it nothing was. A later one does not count."""
    state.mkdir(mode=0o700)
    for number in (0, 1, 100):
        (state / f"sysv-queue.new.{number:016x}.owner").write_bytes(good()[:number])
    assert read_records() == []
    assert aioipc.remove_orphans(dry_run=True) == []
    assert len(files(state)) == 3
    with open(state / f"sysv-queue.new.{0:016x}.owner") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # somebody is about to write it
        assert aioipc.remove_orphans() == []
        assert files(state) == [f"sysv-queue.new.{0:016x}.owner"]
    assert aioipc.remove_orphans() == []
    assert files(state) == []
    path = state / f"sysv-queue.new.{5:016x}.owner"
    path.write_bytes(good() + b'{"made": true, "id": 7')
    (record,) = read_records()
    assert record == OwnerRecord(
        "sysv-queue", None, None, None, 1, 0, "", "", "", 0, 1.5, True, False, None, None, str(path)
    )


def test_without_descriptors() -> None:
    """An error that says so, and nothing is left; for all kinds."""
    source = f"""
        import asyncio, os, resource, tempfile, aioipc
        from aioipc._sys import sysvipc
        folder, name, key = tempfile.mkdtemp(), "{NAME}", {KEY}
        def fifo():
            try:
                asyncio_free = aioipc.open_fifo_reader(folder + "/fifo", create=True, remove=True)
                while True:
                    asyncio_free.send(None)
            except StopIteration as end:
                return end.value
        makers = [
            lambda: aioipc.SysVMessageQueue.create(key), lambda: aioipc.SysVSemaphoreSet.create(key, [1]),
            lambda: aioipc.SysVSharedMemory.create(key, 10), lambda: aioipc.PosixMessageQueue.create(name),
            lambda: aioipc.PosixSemaphore.create(name), lambda: aioipc.SharedMemory.create(10, name=name), fifo,
            lambda: aioipc.listen_unix(folder + "/socket"),
            lambda: aioipc.open_datagram_socket(folder + "/datagrams"),
        ]
        state = os.environ["AIOIPC_STATE_DIR"]
        before = [sysvipc.table(kind) for kind in ("msg", "sem", "shm")], os.listdir("/dev/shm"), os.listdir(state)
        for make in makers:
            make().close()
            for free in range(4):
                high = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
                limit = high[-1] + 1
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
                for fd in high[:free]:
                    os.close(fd)
                try:
                    made = make()
                except OSError as error:
                    assert error.errno == 24 and "(RLIMIT_NOFILE, ulimit -n)" in str(error), repr(error)
                    assert free < 3, error
                else:
                    assert free > 0
                    made.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
                for fd in high[free:]:
                    os.close(fd)
        after = [sysvipc.table(kind) for kind in ("msg", "sem", "shm")], os.listdir("/dev/shm"), os.listdir(state)
        assert before == after, (before, after)
        os.rmdir(folder)
        """
    run_script(source).check()


def test_opening_without_descriptors() -> None:
    """A user whom no clean-up could see would lose what he uses: an error, and no descriptor is left open."""
    source = f"""
        import os, resource, aioipc
        queue, memory = aioipc.SysVMessageQueue.create({KEY}), aioipc.SharedMemory.create(10, name="{NAME}")
        semaphore, posix = aioipc.PosixSemaphore.create("{NAME}"), aioipc.PosixMessageQueue.create("{NAME}")
        for opener in (
            lambda: aioipc.SysVMessageQueue.open({KEY}), lambda: aioipc.SharedMemory.open("{NAME}"),
            lambda: aioipc.PosixSemaphore.open("{NAME}"), lambda: aioipc.PosixMessageQueue.open("{NAME}"),
        ):
            for free in range(5):
                high = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)]
                resource.setrlimit(resource.RLIMIT_NOFILE, (high[free], 1000))
                for fd in high:
                    os.close(fd)
                before = os.listdir("/proc/self/fd") if free else []
                try:
                    opened = opener()
                except OSError as error:
                    assert error.errno == 24 and free < 3, (free, error)
                    assert not free or os.listdir("/proc/self/fd") == before
                else:
                    assert free > 1
                    opened.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
        for each in (queue, memory, semaphore, posix):
            each.close()
        """
    run_script(source).check()


async def test_descriptors_and_forked_children(state: Path) -> None:
    """One each, close-on-exec and none of the standard ones; a user that joins has one too, if there is a record."""
    before = open_descriptors()
    queue = aioipc.SysVMessageQueue.create()
    (fd,) = open_descriptors().keys() - before.keys()
    assert not os.get_inheritable(fd)
    user = aioipc.SysVMessageQueue.open(id=queue.id)
    assert len(open_descriptors()) == len(before) + 2
    os.unlink(read_records()[0].path)
    assert read_records() == []
    with_none = aioipc.SysVMessageQueue.open(id=queue.id)
    assert len(open_descriptors()) == len(before) + 2
    for each in (with_none, user, queue):
        each.close()
    assert open_descriptors() == before


async def test_detached_socket(state: Path, tmp_path: Path) -> None:
    """Its path is the caller's from then on."""
    path = tmp_path / "socket"
    sock = aioipc.listen_unix(path).detach()
    assert files(state) == []
    assert path.exists()
    sock.close()


def test_a_clean_up_takes_away_what_is_not_locked_yet(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maker begins again."""
    create = state_directory.create_file
    swept = 0

    def create_and_lose(name: str) -> tuple[int, str] | None:
        nonlocal swept
        made = create(name)
        if swept < 2:
            swept += 1
            aioipc.remove_orphans()
        return made

    monkeypatch.setattr("aioipc.kernel.state_directory.create_file", create_and_lose)
    claim = Claim.begin("sysv-queue", remove=True)
    assert swept == 2
    assert len(read_records()) == 1
    claim.end(gone=True)
    assert files(state) == []


def test_a_full_file_system(state: Path, warnings: list[str]) -> None:
    """No record can be written; that is said, and nothing of one is left."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # Python ignores SIGXFSZ
    try:
        made = aioipc.SysVMessageQueue.create()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(state) == []
    assert len(warnings) == 1
    made.close()


def test_leases(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with open(path) as one:
        assert not is_open_elsewhere(one.fileno())
        with open(path):
            assert is_open_elsewhere(one.fileno())
        assert not is_open_elsewhere(one.fileno())
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDWR)
    with pytest.raises(OSError, match="Invalid argument"):
        is_open_elsewhere(fd)
    os.close(fd)


def test_opening_what_a_clean_up_looks_at() -> None:
    """It has a lease for a moment, for which an open that does not block would fail."""
    path = Path("/dev/shm" + NAME)
    path.write_bytes(b"memory")
    os.close(posix_mq.create_queue(NAME, 0o600, 1, 1))
    openers: list[tuple[int, Callable[[], Any]]] = [
        (os.open(path, os.O_RDONLY), lambda: aioipc.SharedMemory.open(NAME)),
        (posix_mq.open_queue(NAME, os.O_RDONLY), lambda: aioipc.PosixMessageQueue.open(NAME)),
    ]
    for fd, opener in openers:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        end = threading.Timer(0.02, fcntl.fcntl, (fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))
        end.start()
        opener().close()
        end.join()
        os.close(fd)
    path.unlink()
    posix_mq.unlink_queue(NAME)


def test_file_identity(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    first = file_identity(str(path))
    assert first.born is None or abs(first.born / 1e9 - time.time()) < 60
    os.chmod(path, 0o600)
    path.write_text("changed")
    os.link(path, tmp_path / "link")
    with open(tmp_path / "link") as file:
        assert file_identity(file.fileno()) == file_identity(str(path)) == first
    (tmp_path / "symbolic").symlink_to(path)
    assert file_identity(str(tmp_path / "symbolic")) != first
    for name in ("file", "link"):
        (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        file_identity(str(path))
    path.touch()
    assert file_identity(str(path)) != first  # also where it has the same inode
