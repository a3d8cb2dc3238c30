"""`Supervisor` with real processes: children come, go, die and come back as the model says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

import aioipc
from aioipc import ChildSpec, Supervisor, SupervisorSpec
from aioipc.supervisor.service_main import WARM_UP

from ..harness.processes import descendants, eventually_async, is_running
from . import supervised_functions as functions
from .supervising import LONG, Journal, ask, failure_of, kill, pids, port_of, replaced, replica, serving, until

TERM, KILL = signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


async def test_children_start_in_order_and_stop_in_reverse(journal: Journal) -> None:
    spec = SupervisorSpec([journal.standing("db"), journal.standing("web", replicas=2), journal.standing("cron")])
    async with Supervisor(spec) as supervisor:
        assert journal.lines[0] == "+db.0"
        assert journal.lines[-1] == "+cron.0"
        before = pids(supervisor)
        assert [child.ready for child in supervisor.children()] == [1, 2, 1]
        statistics = supervisor.statistics()
        assert (statistics.state, statistics.restarts, statistics.generation) == ("running", 0, 0)
        assert list(statistics.zygotes) == [0]
        await until(supervisor, lambda: replica(supervisor, "db").status == "at work")
        assert replica(supervisor, "db").memory > 0
        journal.clear()
    assert [line[1:-2] for line in journal.lines] == ["cron", "web", "web", "db"]
    assert not any(is_running(pid) for pid in before.values() if pid)
    assert supervisor.statistics().state == "stopped"
    await supervisor.wait()
    with pytest.raises(aioipc.ClosedResourceError, match="stopping"):
        await supervisor.start_child(journal.standing("late"))
    with pytest.raises(aioipc.ClosedResourceError, match="entered once"):
        await supervisor.__aenter__()


async def test_many_do_not_import_the_same(journal: Journal) -> None:
    """What every service needs is imported once, before the second one is forked."""
    many = ChildSpec("web", functions.tell_what_was_there, env=journal.env, replicas=6)
    async with Supervisor(SupervisorSpec([many])):
        told = dict(line.split(":") for line in journal.lines)
        del told["0"]
        assert told == dict.fromkeys("12345", ",".join(WARM_UP))


async def test_restart_kinds(journal: Journal) -> None:
    """SIGTERM from outside is a good end, SIGKILL a bad one."""
    names = ("permanent", "transient", "temporary")
    async with Supervisor(SupervisorSpec([journal.standing(each, restart=each) for each in names])) as supervisor:
        before = pids(supervisor)
        for name in names:
            kill(supervisor, name, TERM)
        await replaced(supervisor, "permanent", before["permanent.0"])
        for name in names[1:]:
            await until(supervisor, lambda name=name: replica(supervisor, name).state == "EXITED")
        assert replica(supervisor, "permanent").last_exit == "it exited with 0"
        for name in names[1:]:
            await supervisor.restart_child(name)
        before = pids(supervisor)
        for name in names:
            kill(supervisor, name, KILL)
        for name in names[:2]:
            now = await replaced(supervisor, name, before[f"{name}.0"])
            assert "SIGKILL" in now.last_exit
        await until(supervisor, lambda: replica(supervisor, "temporary").state == "EXITED")


@pytest.mark.parametrize(
    ("strategy", "same"), [("one_for_one", "ac"), ("rest_for_one", "a"), ("one_for_all", "")], ids=lambda each: each
)
async def test_strategies(journal: Journal, strategy: aioipc.supervisor.strategies.Strategy, same: str) -> None:
    async with Supervisor(SupervisorSpec([journal.standing(name) for name in "abc"], strategy=strategy)) as supervisor:
        before = pids(supervisor)
        journal.clear()
        kill(supervisor, "b")
        changed = [name for name in "abc" if name not in same]
        for name in changed:
            await replaced(supervisor, name, before[f"{name}.0"])
        assert {name: pids(supervisor)[f"{name}.0"] for name in same} == {n: before[f"{n}.0"] for n in same}
        ended = [f"-{name}.0" for name in reversed(changed) if name != "b"]
        assert journal.lines == ended + [f"+{name}.0" for name in changed]


async def test_drain_delay(journal: Journal) -> None:
    """It goes on as before for a while, out of the time that it has to stop."""
    async with Supervisor() as supervisor:
        await supervisor.start_child(journal.standing("web", drain_delay=0.5, shutdown=60))
        began = time.monotonic()
        stopping = asyncio.ensure_future(supervisor.terminate_child("web"))
        await until(supervisor, lambda: replica(supervisor, "web").state == "DRAINING")
        await stopping
        assert time.monotonic() - began >= 0.5
        assert journal.lines == ["+web.0", "-web.0"]
    async with Supervisor(shutdown=1) as supervisor:  # never more than half of what there is
        await supervisor.start_child(journal.standing("web", drain_delay=50, shutdown=60))
    assert supervisor.statistics().overdue == 0


async def test_signals_to_children(journal: Journal) -> None:
    async with Supervisor(SupervisorSpec([journal.standing("web", replicas=2)], intensity=3)) as supervisor:
        before = pids(supervisor)
        assert supervisor.signal_child("web", KILL, replica=1) == 1
        await until(supervisor, lambda: pids(supervisor)["web.1"] not in (None, before["web.1"]))
        assert pids(supervisor)["web.0"] == before["web.0"]
        assert supervisor.signal_child("web", signal.SIGCONT) == 2
        for signum in (KILL, TERM):  # each is one restart, or there were too many by now
            old = set(pids(supervisor).values())
            assert supervisor.signal_child("web", signum) == 2
            await until(supervisor, lambda old=old: not old & set(pids(supervisor).values()))
            await until(supervisor, lambda: supervisor.children()[0].ready == 2)
        for arguments, error in (
            (("nobody", KILL), LookupError),
            (("web", KILL, 2), LookupError),
            (("web", 200), ValueError),
            (("web", "KILL"), TypeError),
        ):
            with pytest.raises(error):
                supervisor.signal_child(*arguments)  # type: ignore[arg-type]


async def test_a_child_that_cannot_start(journal: Journal) -> None:
    failing = ChildSpec("bad", functions.fail)
    with pytest.raises(aioipc.SupervisorFailed, match="this is why") as caught:
        async with Supervisor(SupervisorSpec([journal.standing("good"), failing])):
            pytest.fail("it was entered")
    error = caught.value
    assert (error.kind, error.child, error.exitcode, error.stderr) == ("boot", "bad", 7, "this is why")
    assert journal.lines == ["+good.0", "-good.0"]
    async with Supervisor() as supervisor:
        with pytest.raises(aioipc.WorkerBootError, match="bad cannot start") as refused:
            await supervisor.start_child(failing)
        assert (refused.value.exitcode, refused.value.stderr) == (7, "this is why")
        with pytest.raises(aioipc.WorkerBootError, match=r"cwd: '/nowhere': No such file"):
            await supervisor.start_child(journal.standing("bad", cwd="/nowhere"))
        never_ready = ChildSpec("bad", functions.never_ready, shutdown="brutal_kill")
        starting = asyncio.ensure_future(supervisor.start_child(never_ready))
        await until(supervisor, lambda: supervisor.children() and replica(supervisor, "bad").pid)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(supervisor, lambda: not supervisor.children())
        await supervisor.start_child(journal.standing("bad"))
        assert replica(supervisor, "bad").state == "RUNNING"


async def test_one_replica_that_cannot_start_beside_one_that_can(journal: Journal) -> None:
    """Whoever waits for it is told."""
    pair = ChildSpec("pair", functions.first_alone, replicas=2)
    with pytest.raises(aioipc.SupervisorFailed, match="pair cannot start"):
        async with Supervisor(SupervisorSpec([pair])):
            pass
    async with Supervisor() as supervisor:
        with pytest.raises(aioipc.WorkerBootError, match="pair cannot start") as caught:
            await supervisor.start_child(pair)
        assert "no place for replica 1" in caught.value.stderr
        await until(supervisor, lambda: supervisor.children() == ())
        await supervisor.start_child(ChildSpec("one", functions.first_alone))
        with pytest.raises(aioipc.WorkerBootError, match="one cannot start"):
            await supervisor.scale("one", 2)
        assert replica(supervisor, "one").state == "RUNNING"
        await supervisor.scale("one", 1)


async def test_commands_that_meet(journal: Journal, tmp_path: Path) -> None:
    """Each returns when what it asked for is there, or was overtaken."""
    go = tmp_path / "go"
    async with Supervisor() as supervisor, asyncio.timeout(LONG):
        await supervisor.start_child(ChildSpec("web", functions.late, env={"GO": str(go)}, gate=False))
        first = asyncio.create_task(supervisor.restart_child("web"))  # while it starts
        await asyncio.sleep(0)
        go.touch()
        await first
        go.unlink()
        restarts = [asyncio.create_task(supervisor.restart_child("web"))]
        await until(supervisor, lambda: len(supervisor.children()[0].processes) == 2)
        restarts.append(asyncio.create_task(supervisor.restart_child("web")))
        await asyncio.sleep(0)
        go.touch()
        await asyncio.gather(*restarts)
        go.unlink()
        stop = asyncio.create_task(supervisor.terminate_child("web"))
        await asyncio.sleep(0)
        start = asyncio.create_task(supervisor.restart_child("web"))
        await asyncio.sleep(0)
        go.touch()
        await asyncio.gather(stop, start)
        assert replica(supervisor, "web").state == "RUNNING"


async def test_scale_beside_a_replacement_that_fails(tmp_path: Path) -> None:
    """What retires stays where it is, and is no concern of others."""
    go = tmp_path / "go"
    go.touch()
    spec = ChildSpec("web", functions.while_allowed, env={"GO": str(go)}, max_age=0.3)
    async with Supervisor(SupervisorSpec([spec])) as supervisor, asyncio.timeout(LONG):
        go.unlink()
        await until(supervisor, lambda: "exited with 1" in replica(supervisor, "web").last_exit)
        await supervisor.scale("web", 1)
        assert replica(supervisor, "web").state == "RUNNING"


async def test_too_many_restarts(journal: Journal) -> None:
    async with Supervisor(intensity=1, period=60) as supervisor:
        await supervisor.start_child(journal.standing("other"))
        await supervisor.start_child(journal.standing("web"))
        first = kill(supervisor, "web")
        await replaced(supervisor, "web", first)
        kill(supervisor, "web")
        error = await failure_of(supervisor)
        assert (error.kind, error.child, error.replica, error.exitcode) == ("intensity", "web", 0, -KILL)
        assert journal.lines[-1] == "-other.0"
    with pytest.raises(aioipc.SupervisorFailed, match="more than 0 restarts"):  # noqa: PT012 - nobody has waited for it
        async with Supervisor(intensity=0) as supervisor:
            await supervisor.start_child(journal.standing("web"))
            kill(supervisor, "web")
            await until(supervisor, lambda: supervisor.statistics().state == "failed")


async def test_a_supervisor_below_another(journal: Journal) -> None:
    inner = SupervisorSpec([journal.standing("db"), journal.standing("cache")], intensity=0)
    outer = SupervisorSpec([ChildSpec("backend", inner), journal.standing("web")])
    async with Supervisor(outer) as supervisor:
        assert [child.name for child in supervisor.children()] == ["backend", "backend/db", "backend/cache", "web"]
        before = pids(supervisor)
        kill(supervisor, "backend/db")  # one too many for the inner one: the outer one starts it anew
        await replaced(supervisor, "web", None)
        await replaced(supervisor, "backend/cache", before["backend/cache.0"])
        await replaced(supervisor, "backend/db", before["backend/db.0"])
        assert pids(supervisor)["web.0"] == before["web.0"]
        await supervisor.scale("backend/db", 2)
        await supervisor.terminate_child("backend/db")
        assert "backend/db" in [child.name for child in supervisor.children() if child.state == "down"]
        await supervisor.restart_child("backend/db")
        assert [child.ready for child in supervisor.children()] == [1, 2, 1, 1]
        await supervisor.delete_child("backend/db")
        assert [child.name for child in supervisor.children()] == ["backend", "backend/cache", "web"]
        journal.clear()
    assert journal.lines == ["-web.0", "-backend/cache.0"]


async def test_scale_and_restart_on_shared_listeners() -> None:
    async with Supervisor() as supervisor:
        await supervisor.start_child(serving(replicas=1))
        port = port_of(supervisor)
        await supervisor.scale("web", 3)
        seen: set[str] = set()
        while len(seen) < 3:
            seen |= {answer[0] for answer in await asyncio.gather(*(ask(port) for _ in range(16)))}
        assert seen == {str(pid) for pid in pids(supervisor).values()}
        await supervisor.scale("web", 1)
        assert len(pids(supervisor)) == 1
        await supervisor.restart_child("web")
        assert (await ask(port))[0] == str(replica(supervisor, "web").pid) not in seen
        await supervisor.terminate_child("web")
        waiting = asyncio.ensure_future(ask(port))  # the master holds the socket: who comes now waits
        await supervisor.restart_child("web")
        assert (await waiting)[0] == str(replica(supervisor, "web").pid)
        await supervisor.delete_child("web")
        with pytest.raises(ConnectionRefusedError):
            await ask(port)


async def test_refusals(journal: Journal) -> None:
    async with Supervisor() as supervisor:
        await supervisor.start_child(journal.standing("web"))
        with pytest.raises(ValueError, match="there is a child 'web' already"):
            await supervisor.start_child(journal.standing("web"))
        with pytest.raises(TypeError, match="must be a ChildSpec"):
            await supervisor.start_child("web")  # type: ignore[arg-type]
        for call in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(LookupError, match="no child 'x"):
                await call("x")
            with pytest.raises(LookupError, match="no child 'x/y'"):
                await call("x/y")
        for wrong in (0, 100000):
            with pytest.raises(ValueError, match="replicas"):
                await supervisor.scale("web", wrong)
        lock = asyncio.Lock()

        async def unsendable(worker: aioipc.WorkerContext) -> None:
            await lock.acquire()

        lock.x = (i for i in "")  # type: ignore[attr-defined]
        with pytest.raises(aioipc.SerializationError, match="child 'f': its function cannot be sent"):
            await supervisor.start_child(ChildSpec("f", unsendable))
        nowhere = journal.standing("g", listeners={"http": "unix:///no-such-directory/socket"})
        with pytest.raises(OSError, match="no-such-directory"):
            await supervisor.start_child(nowhere)
        assert [child.name for child in supervisor.children()] == ["web"]
    with pytest.raises(ValueError, match="belong into the spec"):
        Supervisor(SupervisorSpec(), intensity=1)
    with pytest.raises(aioipc.ClosedResourceError, match="was not entered"):
        await Supervisor().wait()


@pytest_asyncio.fixture
async def supervised(journal: Journal) -> AsyncIterator[Supervisor]:
    async with Supervisor(SupervisorSpec([journal.standing("web")])) as supervisor:
        yield supervisor


async def test_as_a_fixture(supervised: Supervisor) -> None:
    assert replica(supervised, "web").state == "RUNNING"


async def test_left_in_a_cancelled_scope(journal: Journal) -> None:
    with anyio.CancelScope() as scope:
        async with Supervisor(SupervisorSpec([journal.standing("web")])) as supervisor:
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert journal.lines == ["+web.0", "-web.0"]
    assert supervisor.statistics().state == "stopped"


async def test_cancelled_while_it_starts(journal: Journal) -> None:
    spec = SupervisorSpec([journal.standing("web"), ChildSpec("slow", functions.never_ready, shutdown=600.0)])
    entering = asyncio.ensure_future(Supervisor(spec).__aenter__())
    await eventually_async(lambda: journal.lines == ["+web.0"], LONG)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert journal.lines == ["+web.0", "-web.0"]
    assert not [each for each in descendants(os.getpid()) if not each.is_zombie and "zygote" in each.name]


CODE = """
import asyncio, os
WORD = {word!r}
async def serve(worker):
    from tests.supervisor import supervised_functions
    worker.set_status(WORD)
    if WORD == "broken":
        raise RuntimeError("this cannot work")
    await supervised_functions.serve(worker)
"""


async def test_reload_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed code takes effect, every request is answered, and code that does not work changes nothing."""
    module = tmp_path / "reloaded_service.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module.write_text(CODE.format(word="old"))
    async with Supervisor(SupervisorSpec([serving(target="reloaded_service:serve", replicas=2)])) as supervisor:
        port, asked = port_of(supervisor), 0
        over = asyncio.Event()

        async def load() -> None:
            nonlocal asked
            while not over.is_set():
                assert (await ask(port))[-1] == "hello"
                asked += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            first = pids(supervisor)
            module.write_text(CODE.format(word="new"))
            await supervisor.reload()
            assert {replica(supervisor, "web", number).status for number in range(2)} == {"new"}
            second = pids(supervisor)
            assert not set(first.values()) & set(second.values())
            module.write_text(CODE.format(word="broken"))
            with pytest.raises(aioipc.ReloadFailed, match="this cannot work"):
                await supervisor.reload()
            assert pids(supervisor) == second
            over.set()
        assert asked
        assert supervisor.statistics().generation == 2
