"""Killed processes leave objects behind; `remove_orphans` removes these, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import aioipc
from aioipc import OrphanResult, OwnerRecord, remove_orphans
from aioipc._sys import posix_mq, posix_sem, sysv_messages, sysv_semaphores, sysv_shm
from aioipc._sys.sysv import IPC_CREAT
from aioipc.kernel.claims import Claim
from aioipc.kernel.owner_records import KINDS, ObjectKind, locked_alone, read_records
from aioipc.kernel.record_search import Wanted, find_record

from ..harness.hostile import NOBODY, READ_ONLY_ROOT, run_confined
from ..harness.processes import eventually, wait_state
from ..harness.scripts import ROOT, Script, run_script, running_script

KEY = 0x41494F52
NAME = "/aioipc-orphans"
SYSV: tuple[ObjectKind, ...] = ("sysv-queue", "sysv-semaphores", "sysv-memory")

MAKE_ALL = f"""
    import asyncio, os, signal, sys
    import aioipc
    folder = sys.argv[1]
    kept = [
        aioipc.SysVMessageQueue.create({KEY}),
        aioipc.SysVSemaphoreSet.create({KEY}, [0]),
        aioipc.SysVSharedMemory.create({KEY}, 4096),
        aioipc.PosixMessageQueue.create("{NAME}"),
        aioipc.PosixSemaphore.create("{NAME}"),
        aioipc.SharedMemory.create(4096, name="{NAME}"),
        asyncio.run(aioipc.open_fifo_reader(folder + "/fifo", create=True, remove=True, persistent=True)),
        aioipc.listen_unix(folder + "/socket"),
    ]
    """
USE_ALL = f"""
    import asyncio, os, signal, sys
    import aioipc
    folder = sys.argv[1]
    kept = [
        aioipc.SysVMessageQueue.open({KEY}),
        aioipc.SysVSemaphoreSet.open({KEY}),
        aioipc.SysVSharedMemory.open({KEY}),
        aioipc.PosixMessageQueue.open("{NAME}"),
        aioipc.PosixSemaphore.open("{NAME}"),
        aioipc.SharedMemory.open("{NAME}"),
        asyncio.run(aioipc.open_fifo_writer(folder + "/fifo")),
    ]
    """
PAUSE = """
    print("ready", flush=True)
    signal.pause()
    """
DIE = """
    os.kill(os.getpid(), signal.SIGKILL)
    """


@pytest.fixture(autouse=True)
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests have left records of objects that stay."""
    monkeypatch.setenv("AIOIPC_STATE_DIR", str(tmp_path / "state"))


@contextmanager
def living(source: str, folder: Path) -> Iterator[Script]:
    with running_script(source + PAUSE, str(folder)) as script:
        script.wait_output("ready", 30)
        yield script


def leave(source: str, folder: Path) -> None:
    """Run it, and kill it at its end."""
    assert run_script(source + DIE, str(folder), timeout=30).returncode == -signal.SIGKILL


def leave_one(expression: str) -> OwnerRecord:
    """Have a process make one object, and kill it."""
    leave(f"\n    import os, signal, aioipc\n    kept = {expression}\n    ", Path())
    (record,) = read_records()
    return record


def rewrite(record: OwnerRecord, **changes: object) -> None:
    """Change what a record says."""
    with open(record.path, "a") as file:
        file.write(json.dumps(changes) + "\n")


def outcomes(results: list[OrphanResult]) -> dict[str, str]:
    return {result.record.kind: result.outcome for result in results}


def only(results: list[OrphanResult]) -> tuple[str, str]:
    (result,) = results
    return result.outcome, result.reason


def all_of(outcome: str) -> dict[str, str]:
    return dict.fromkeys(KINDS, outcome)


def what_is_there(folder: Path) -> dict[str, bool]:
    def there(call: Callable[[], object]) -> bool:
        try:
            call()
        except FileNotFoundError:
            return False
        return True

    return {
        "sysv-queue": there(lambda: sysv_messages.get(KEY, 0)),
        "sysv-semaphores": there(lambda: sysv_semaphores.get(KEY, 0, 0)),
        "sysv-memory": there(lambda: sysv_shm.get(KEY, 0, 0)),
        "posix-queue": there(lambda: os.close(posix_mq.open_queue(NAME, os.O_RDONLY))),
        "posix-semaphore": posix_sem.path_of(NAME).exists(),
        "posix-memory": Path("/dev/shm" + NAME).exists(),
        "fifo": (folder / "fifo").exists(),
        "unix-socket": (folder / "socket").exists(),
    }


def test_the_living_keep_theirs_and_the_dead_do_not(tmp_path: Path) -> None:
    """An owner, also a stopped one; then a user of what a killed owner has left; then nobody."""
    with living(MAKE_ALL, tmp_path) as owner:
        owner.send_signal(signal.SIGSTOP)
        wait_state(owner.pid, "T")
        results = remove_orphans()
        assert outcomes(results) == all_of("kept")
        assert {result.reason for result in results} == {"a living process has it"}
        assert all(result.record.is_alive() and result.record.pid == owner.pid for result in results)
        with living(USE_ALL, tmp_path):
            owner.popen.kill()
            owner.wait()
            user_has = {**all_of("kept"), "unix-socket": "removed"}  # a listener has no users but through its process
            assert outcomes(remove_orphans()) == user_has
        left = {**all_of("removable"), "unix-socket": ""}
        assert {**outcomes(remove_orphans(dry_run=True)), "unix-socket": ""} == left
        assert what_is_there(tmp_path) == {**dict.fromkeys(KINDS, True), "unix-socket": False}
        results = remove_orphans()
        assert {**outcomes(results), "unix-socket": ""} == {**all_of("removed"), "unix-socket": ""}
        assert not any(result.record.is_alive() for result in results)
    assert what_is_there(tmp_path) == dict.fromkeys(KINDS, False)
    assert remove_orphans() == read_records() == []


def test_records_of_others_with_the_same_id(tmp_path: Path) -> None:
    """Of an earlier boot, of another namespace or of one whose number it has now: users lock the right one."""
    leave(MAKE_ALL, tmp_path)
    real = {record.path for record in read_records(SYSV)}
    for record in read_records(SYSV):
        assert record.changed is not None
        others: list[dict[str, object]] = [
            {"boot_id": "before"},
            {"ipc_namespace": "ipc:[1]"},
            {"changed": record.changed - 99, "created": record.created - 99},
            {"created": record.created - 0.01},
            {"changed": record.changed + 99, "created": record.created + 99},
            {"key": 1},
        ]
        for number, changes in enumerate(others * 2):
            copy = Path(record.path).with_name(f"{record.kind}.{record.id}.{number:016x}.owner")
            copy.write_text(Path(record.path).read_text() + json.dumps(changes) + "\n")
    ids = {record.kind: record.id for record in read_records(SYSV)}
    for queue, semaphores, memory in ([KEY] * 3, [f"id={ids[kind]}" for kind in SYSV]):
        source = f"""
    import signal, aioipc
    kept = [
        aioipc.SysVMessageQueue.open({queue}), aioipc.SysVSemaphoreSet.open({semaphores}),
        aioipc.SysVSharedMemory.open({memory}),
    ]
    """
        with living(source, tmp_path):
            assert {record.path for record in read_records(SYSV) if record.is_alive()} == real
            assert "removed" not in outcomes(remove_orphans(kinds=SYSV)).values()
            assert {kind for kind, there in what_is_there(tmp_path).items() if there} >= set(SYSV)
    for record in read_records(SYSV):  # but of nobody else
        if record.path not in real:
            os.unlink(record.path)
    assert set(outcomes(remove_orphans()).values()) == {"removed"}


def test_who_uses_it_without_aioipc_keeps_it(tmp_path: Path) -> None:
    leave(MAKE_ALL, tmp_path)
    set_id = sysv_semaphores.get(KEY, 0, 0)
    program = f"import sysv_ipc; sysv_ipc.MessageQueue({KEY}).send(b'x'); print('sent', flush=True); input()"
    sender = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert sender.stdout is not None
    waiter = threading.Thread(target=wait_and_be_removed, args=(set_id,))
    waiter.start()
    eventually(lambda: sysv_semaphores.waiting(set_id, 0) == 1)
    sender.stdout.readline()
    address = sysv_shm.attach(sysv_shm.get(KEY, 0, 0), readonly=True)
    queue = posix_mq.open_queue(NAME, os.O_WRONLY)
    semaphore = posix_sem.open_semaphore(NAME)
    memory = os.open("/dev/shm" + NAME, os.O_RDONLY)
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "socket").unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))  # somebody else's
    reasons = {result.record.kind: (result.outcome, result.reason) for result in remove_orphans()}
    assert reasons == {
        "sysv-queue": ("kept", f"process {sender.pid}, which has sent or received last, lives"),
        "sysv-semaphores": ("kept", "1 wait for semaphore 0"),
        "sysv-memory": ("kept", "it is attached, 1 times"),
        "posix-queue": ("kept", "a process has it open or mapped"),
        "posix-semaphore": ("kept", "a process has it open or mapped"),
        "posix-memory": ("kept", "a process has it open or mapped"),
        "fifo": ("kept", f"process {os.getpid()} has it open"),
        "unix-socket": ("gone", "it is not there any more, only its record was"),
    }
    assert what_is_there(tmp_path) == dict.fromkeys(KINDS, True)
    sender.communicate(b"\n")
    sysv_semaphores.operate(set_id, (sysv_semaphores.Operation(0, 1),))
    waiter.join()
    sysv_shm.detach(address)
    semaphore.close()
    listener.close()
    for fd in (queue, memory, fifo):
        os.close(fd)
    assert set(outcomes(remove_orphans()).values()) == {"removed"}
    assert what_is_there(tmp_path) == {**dict.fromkeys(KINDS, False), "unix-socket": True}


def wait_and_be_removed(set_id: int) -> None:
    sysv_semaphores.wait(set_id, (sysv_semaphores.Operation(0, -1),))


def test_killed_at_every_step() -> None:
    """At every fourth line, to save time."""
    os.mkdir(os.environ["AIOIPC_STATE_DIR"], 0o700)
    done = run_script(ROOT / "tests/objects/killed_everywhere.py", "4", timeout=55)
    assert len(done.check().stdout.splitlines()) == 12, done


def test_clean_ups_beside_makers_and_users() -> None:
    """Processes make, open and lose objects of the same names meanwhile; the living keep them, the dead nothing."""
    os.mkdir(os.environ["AIOIPC_STATE_DIR"], 0o700)
    run_script(ROOT / "tests/objects/clean_up_storm.py", "40", timeout=55).check()


def test_who_opens_waits_for_a_slow_clean_up() -> None:
    """It may have lost its CPU with the lock in its hand; who went on without would have the object taken away."""
    record = leave_one(f"aioipc.SysVMessageQueue.create({KEY})")
    with locked_alone(record.path) as (fd, _):
        slow = threading.Timer(0.5, fcntl.flock, (fd, fcntl.LOCK_UN))
        slow.start()
        queue = aioipc.SysVMessageQueue.open(KEY)
        slow.join()
    assert only(remove_orphans()) == ("kept", "a living process has it")
    queue.close()
    assert only(remove_orphans()) == ("removed", "its owner is dead and nobody uses it")


def test_who_opens_waits_for_its_maker() -> None:
    """What a third one has begun to make, who will find that it is there already, is not taken for its record."""
    with Claim.begin("sysv-queue", key=KEY, remove=True) as maker:
        id = sysv_messages.get(KEY, IPC_CREAT | 0o711)
        third = Claim.begin("sysv-queue", key=KEY, remove=True)
        opened: list[aioipc.SysVMessageQueue] = []
        opening = threading.Thread(target=lambda: opened.append(aioipc.SysVMessageQueue.open(KEY)))
        opening.start()
        opening.join(0.2)
        assert opening.is_alive()
        maker.complete(id=id, changed=sysv_messages.status(id).last_change)
        opening.join()
        third.end(gone=True)
        maker.end()
    assert only(remove_orphans()) == ("kept", "a living process has it")
    opened[0].close()
    assert only(remove_orphans()) == ("removed", "its owner is dead and nobody uses it")


@pytest.mark.parametrize("namespace", ["own", "pid:[1]"])
def test_who_opens_does_not_wait_for_the_dead(namespace: str) -> None:
    """Whether the maker of an unfinished record lives is told by its lock, and by its pid in this namespace."""
    record = leave_one(f"aioipc.SysVMessageQueue.create({KEY})")
    path = Path(record.path)
    begun = path.read_text().splitlines()[0] + "\n"
    path.write_text(begun if namespace == "own" else begun.replace(record.pid_namespace, namespace))
    wanted = Wanted("sysv-queue", None, record.id, KEY, record.changed, None)
    for is_locked in (False, True):
        with open(path) as file:
            if is_locked:
                fcntl.flock(file, fcntl.LOCK_SH)
            found = find_record(wanted)
        assert found is not None
        os.close(found.fd)
        assert found.unwritten == (is_locked and namespace != "own")
    path.unlink()
    assert record.id is not None
    sysv_messages.remove(record.id)


def test_a_ctime_of_the_second_before() -> None:
    """The kernel's clock for ctime is a coarse one, some milliseconds behind the one that the record is written by."""
    record = leave_one(f"aioipc.SysVMessageQueue.create({KEY})")
    assert record.changed is not None
    path = Path(record.path)
    path.write_text(path.read_text().replace(repr(record.created), str(record.changed + 1.004)))
    with closing(aioipc.SysVMessageQueue.open(KEY)):
        assert only(remove_orphans()) == ("kept", "a living process has it")
    eventually(lambda: only(remove_orphans())[0] == "removed")  # now it is one from the future


def test_the_pid_of_another_process_tells_nothing() -> None:
    """The number is given again, and a namespace has its own."""
    record = leave_one("aioipc.SysVMessageQueue.create()")
    rewrite(record, pid=os.getpid(), start_time=0)
    assert only(remove_orphans()) == ("removed", "its owner is dead and nobody uses it")
    with aioipc.SharedMemory.create(10, name=NAME):
        (record,) = read_records()
        rewrite(record, pid=1 << 22)
        assert only(remove_orphans()) == ("kept", "a living process has it")


def test_arguments() -> None:
    record = leave_one("aioipc.PosixSemaphore.create('/aioipc-orphans')")
    assert remove_orphans(kinds=["fifo", "sysv-queue"]) == []
    outcome, reason = only(remove_orphans(older_than=3600))
    assert (outcome, reason) == ("kept", "it was made within the last 3600 s")
    assert remove_orphans(kinds=["posix-semaphore"], dry_run=True)[0].record == record
    assert posix_sem.path_of(NAME).exists()
    assert only(remove_orphans(kinds=["posix-semaphore"])) == ("removed", "its owner is dead and nobody uses it")
    assert not posix_sem.path_of(NAME).exists()
    with pytest.raises(TypeError, match="kinds must be a collection"):
        remove_orphans(kinds="fifo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no kind 'pipe'; there are sysv-queue"):
        remove_orphans(kinds=["pipe"])  # type: ignore[list-item]
    for wrong in ("1", None, True):
        with pytest.raises(TypeError, match="older_than must be a number of seconds"):
            remove_orphans(older_than=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kinds must be a collection of str, not int"):
        remove_orphans(kinds=5)  # type: ignore[arg-type]
    assert remove_orphans(older_than=10**400) == remove_orphans(older_than=float("inf")) == []
    for number in (-1, float("nan")):
        with pytest.raises(ValueError, match="older_than must be 0 or more"):
            remove_orphans(older_than=number)


async def test_what_was_to_stay_stays(tmp_path: Path) -> None:
    """Its record too, until the object is gone."""
    path = tmp_path / "fifo"
    async with await aioipc.open_fifo_reader(path, create=True):
        pass
    assert only(remove_orphans()) == ("kept", "it was to stay when its owner ends (remove=False)")
    path.unlink()
    assert only(remove_orphans(dry_run=True))[0] == "gone"
    assert only(remove_orphans())[0] == "gone"
    assert read_records() == []


def test_another_object_of_the_same_name() -> None:
    record = leave_one("aioipc.SharedMemory.create(10, name='/aioipc-orphans')")
    path = Path("/dev/shm" + NAME)
    path.unlink()
    path.write_text("somebody else's")
    assert only(remove_orphans()) == ("gone", "it is not there any more, only its record was")
    assert path.read_text() == "somebody else's"
    path.unlink()
    assert record.name == NAME


def test_another_queue_with_the_same_id() -> None:
    """Ids are given again, at the latest after two thousand million objects; here at once."""
    record = leave_one("aioipc.SysVMessageQueue.create()")
    assert record.id is not None
    sysv_messages.remove(record.id)
    try:
        Path("/proc/sys/kernel/msg_next_id").write_text(str(record.id))
    except OSError as error:
        pytest.skip(f"this machine does not let us choose an id: {error}")
    rewrite(record, changed=record.changed - 1 if record.changed else 0)  # as if a second had passed
    assert sysv_messages.get(0, 0o1600) == record.id
    assert only(remove_orphans()) == ("kept", "it was changed by somebody since, or is another one with its id and key")
    sysv_messages.remove(record.id)
    assert only(remove_orphans())[0] == "gone"


def test_it_is_known_after_it_was_changed(tmp_path: Path) -> None:
    """Setting values and limits changes ctime."""
    leave(
        f"""
    import os, signal, time, aioipc
    queue = aioipc.SysVMessageQueue.create({KEY})
    semaphores = aioipc.SysVSemaphoreSet.create({KEY}, [1])
    begin = int(time.time())
    while int(time.time()) == begin:
        time.sleep(0.01)
    queue.set_max_bytes(100)
    semaphores.set_value(7)
    """,
        tmp_path,
    )
    assert outcomes(remove_orphans()) == {"sysv-queue": "removed", "sysv-semaphores": "removed"}


def test_of_another_boot(tmp_path: Path) -> None:
    """The kernel's objects are gone; what has their id and name now is another one's. Files are still there."""
    leave(MAKE_ALL, tmp_path)
    for record in read_records():
        rewrite(record, boot_id="5f0c6f10-before", ipc_namespace="ipc:[1]", pid_namespace="pid:[1]")
    results = outcomes(remove_orphans())
    assert results == {**all_of("gone"), "fifo": "removed", "unix-socket": "removed"}
    assert what_is_there(tmp_path) == {**dict.fromkeys(KINDS, True), "fifo": False, "unix-socket": False}
    for remove, id in (
        (sysv_messages.remove, sysv_messages.get(KEY, 0)),
        (sysv_semaphores.remove, sysv_semaphores.get(KEY, 0, 0)),
        (sysv_shm.remove, sysv_shm.get(KEY, 0, 0)),
    ):
        remove(id)
    posix_mq.unlink_queue(NAME)
    posix_sem.unlink_semaphore(NAME)
    os.unlink("/dev/shm" + NAME)


def test_of_an_unknown_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is not there, or was not for the maker, an object is not taken for one of an earlier boot."""
    record = leave_one("aioipc.SysVMessageQueue.create()")
    rewrite(record, boot_id="")
    reason = "cannot tell whether the machine was started anew since: /proc is not there, or was not then"
    assert only(remove_orphans()) == ("kept", reason)
    rewrite(record, boot_id=record.boot_id)
    with monkeypatch.context() as patch:
        patch.setattr("aioipc._sys.procfs.boot_id", lambda: "")
        assert only(remove_orphans()) == ("kept", reason)
    assert only(remove_orphans())[0] == "removed"


def test_a_segment_of_another_program_with_the_pid_of_a_killed_maker() -> None:
    """Who was killed before it made anything has left a record; its pid may be another process's by now."""
    record = leave_one("aioipc.SysVSharedMemory.create(None, 4096)")
    assert record.id is not None
    sysv_shm.remove(record.id)
    line = json.loads(Path(record.path).read_text().splitlines()[0])
    Path(record.path).write_text(json.dumps({**line, "pid": os.getpid()}) + "\n")
    foreign = sysv_shm.get(0, 4096, 0o1600)
    try:
        assert only(remove_orphans())[0] == "gone"
        assert sysv_shm.status(foreign).key == 0
    finally:
        sysv_shm.remove(foreign)


def test_a_state_directory_that_can_only_be_read() -> None:
    """As in a container: users are seen all the same, and what is left over is."""
    leave_one(f"aioipc.SysVMessageQueue.create({KEY})")
    state = Path(os.environ["AIOIPC_STATE_DIR"])
    (state / f"fifo.00000000.{0:016x}.owner").touch()  # its maker was killed before it wrote anything
    source = f"""
        import aioipc
        from aioipc.kernel.owner_records import read_records
        (record,) = read_records()
        alive = record.is_alive()
        queue = aioipc.SysVMessageQueue.open({KEY})
        print(alive, record.is_alive(), *[each.outcome for each in aioipc.remove_orphans()])
        queue.close()
        print(*[each.outcome for dry in (True, False, False) for each in aioipc.remove_orphans(dry_run=dry)])
        """
    done = run_confined(READ_ONLY_ROOT, source).check()
    assert done.stdout.splitlines() == ["False True kept", "removable removed failed"]  # its record stays
    assert only(remove_orphans())[0] == "gone"
    assert os.listdir(state) == []


async def test_of_another_namespace() -> None:
    source = f"""
    import os, signal, aioipc
    from aioipc.testing.namespaces import CLONE_NEWIPC, unshare
    try:
        unshare(CLONE_NEWIPC)
    except PermissionError:
        raise SystemExit(3)
    kept = aioipc.SysVMessageQueue.create({KEY}), aioipc.PosixMessageQueue.create("{NAME}")
    """
    done = run_script(source + DIE, timeout=30)
    if done.returncode == 3:
        pytest.skip("this machine gives no namespaces")
    async with aioipc.PosixMessageQueue.create(NAME):
        results = [result for result in remove_orphans() if result.record.pid != os.getpid()]
        assert [result.outcome for result in results] == ["kept", "kept"]
        assert all("it belongs to another IPC namespace, ipc:[" in result.reason for result in results)
    for result in results:
        os.unlink(result.record.path)


def test_two_clean_ups_at_once() -> None:
    record = leave_one("aioipc.SysVSharedMemory.create(None, 100)")
    with locked_alone(record.path) as (_, state):
        assert state == "dead"
        assert not record.is_alive()
        assert only(remove_orphans()) == ("kept", "another clean-up looks at it right now")
    threads = 4
    found: list[OrphanResult] = []
    running = [threading.Thread(target=lambda: found.extend(remove_orphans())) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert [result.outcome for result in found].count("removed") == 1
    assert {result.outcome for result in found} <= {"removed", "gone", "kept"}


def test_a_maker_at_work_at_that_moment() -> None:
    """An unfinished object is not taken for the one of a dead maker, as long as a living one may have made it."""
    record = leave_one("aioipc.SysVMessageQueue.create()")
    assert record.id is not None
    unfinished = replace(record, id=None)
    text = Path(record.path).read_text().splitlines()[0] + "\n"  # as if it had been killed before it knew the id
    Path(record.path).write_text(text)
    sysv_messages.set_mode(record.id, 0o711)
    with Claim.begin("sysv-queue", remove=True) as claim:
        results = {result.record.path: only([result]) for result in remove_orphans()}
        reason = "a living process makes another one of that kind right now"
        assert results.pop(unfinished.path) == ("kept", reason)
        claim.complete(id=record.id, changed=record.changed)
        assert {result.outcome for result in remove_orphans() if result.record.id is None} == {"gone"}
        claim.end()
    assert only(remove_orphans())[0] == "removed"


def test_as_an_ordinary_user() -> None:
    """With processes of others whose /proc cannot be read."""
    source = """
    import asyncio, os, shutil, signal, tempfile
    import aioipc
    folder = tempfile.mkdtemp()
    os.environ["AIOIPC_STATE_DIR"] = folder + "/state"
    if not os.fork():
        kept = [
            aioipc.SysVMessageQueue.create(), aioipc.PosixMessageQueue.create("/aioipc-nobody"),
            aioipc.PosixSemaphore.create("/aioipc-nobody"), aioipc.SharedMemory.create(10, name="/aioipc-nobody"),
            asyncio.run(aioipc.open_fifo_reader(folder + "/fifo", create=True, remove=True)),
            asyncio.run(aioipc.open_fifo_reader(folder + "/all", create=True, remove=True, mode=0o666)),
        ]
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    os.chmod(folder, 0o500)
    failed = aioipc.remove_orphans(kinds=["fifo"])[0]
    assert failed.outcome == "failed" and "Permission denied" in failed.reason, failed
    os.chmod(folder, 0o700)
    for result in aioipc.remove_orphans():
        print(result.record.kind, result.outcome, result.reason)
    shutil.rmtree(folder)
    """
    done = run_confined(NOBODY, source, timeout=40).check()
    *others, shared = done.stdout.splitlines()
    assert [line.split()[:2] for line in others] == [
        ["sysv-queue", "removed"],
        ["posix-queue", "removed"],
        ["posix-semaphore", "removed"],
        ["posix-memory", "removed"],
        ["fifo", "removed"],
    ], done
    assert shared.startswith("fifo removed") or "cannot see whether processes of other users have it open" in shared


def test_a_child_leaves_all_to_its_parent(tmp_path: Path) -> None:
    """It has the lock as long as it lives, and removes neither object nor record."""
    source = (
        MAKE_ALL
        + """
    read, write = os.pipe()
    if not os.fork():
        for each in kept:
            each.close()
        kept = [aioipc.SysVMessageQueue.create(), aioipc.PosixSemaphore.create("/aioipc-child")]
        for each in kept:
            each.close()
        os._exit(0)
    assert os.wait()[1] == 0
    if not os.fork():
        print("ready", flush=True)
        signal.pause()
    """
    )
    with living(source, tmp_path) as script:
        eventually(lambda: script.stdout.count("ready") == 2, 20)
        assert outcomes(remove_orphans()) == all_of("kept")
        assert what_is_there(tmp_path) == dict.fromkeys(KINDS, True)
        child = int(Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text())
        script.popen.kill()
        script.wait()
        assert outcomes(remove_orphans()) == all_of("kept")
        os.kill(child, signal.SIGKILL)
        eventually(lambda: not any(record.is_alive() for record in read_records()), 20)
    assert outcomes(remove_orphans()) == all_of("removed")
