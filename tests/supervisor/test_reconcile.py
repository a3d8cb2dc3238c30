"""What a supervisor does, case by case: starts, replacements, reloads, commands, the end. The rest: test_model.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aioipc.exceptions import ClosedResourceError
from aioipc.supervisor.actions import Escalate, Kill, Reloaded, Spawn, Stop, Up
from aioipc.supervisor.events import (
    DeleteChild,
    Event,
    Exited,
    ProcessKey,
    Ready,
    Reload,
    RestartChild,
    Scale,
    Shutdown,
    StartChild,
    TerminateChild,
    Tick,
)
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec
from aioipc.supervisor.stopping import GIVE_UP, KILL_GRACE
from aioipc.supervisor.tree import Tree

from .test_otp import running
from .world import World, child, serve


def generations(world: World, path: str) -> list[int]:
    return [world.live[key].generation for key in world.keys(path)]


def reloaded(world: World) -> list[tuple[int, str | None]]:
    return [(action.generation, action.failure) for action in world.history if isinstance(action, Reloaded)]


# -- starting ----------------------------------------------------------------------------------------------


def test_the_next_child_starts_when_the_one_before_is_ready() -> None:
    world = World(child("a", replicas=2), child("b", gate=False), child("c")).begin()
    first, second = world.keys("a")
    assert world.told(Spawn) == ["a.0", "a.1"]
    assert world.ready(first) is not None
    assert world.told(Spawn) == []
    world.ready(second)
    assert world.told(Spawn) == ["b.0", "c.0"], "nobody waits for b"
    world.ready(*world.keys("b"))
    assert not any(isinstance(action, Up) for action in world.history)
    world.ready(*world.keys("c"))
    assert isinstance(world.actions[-1], Up)


def test_ready_after_some_seconds() -> None:
    world = World(child("a", ready=1.5), child("b")).begin()
    world.advance(3.0)
    world.spawned(world.key("a"))
    world.advance(1.4)
    assert world.state("a") == "STARTING"
    world.advance(0.2)
    assert (world.state("a"), world.state("b")) == ("RUNNING", "STARTING")


def test_what_has_been_up_waits_for_nobody() -> None:
    world = running(child("a"), child("b"), intensity=None)
    for _ in range(4):
        world.exit(world.key("a"), 1)
        world.all_well(0.5)
    world.exit(world.key("a"), 1)
    assert world.state("a") == "BACKOFF"
    world.exit(world.key("b"), 1)
    assert world.told(Spawn) == ["b.0"]


def test_a_restart_after_a_pause() -> None:
    world = running(child("a"), intensity=None)
    for pause in (0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5):
        world.exit(world.key("a"), 1)
        if pause:
            assert world.state("a") == "BACKOFF"
            world.advance(pause - 0.01)
            assert world.keys("a") == []
            world.advance(0.02)
        world.ready(world.key("a"))
    world.advance(10.1)
    world.exit(world.key("a"), 1)
    assert world.told(Spawn) == ["a.0"], "it was well for long enough"


def test_three_failed_boots_are_the_end() -> None:
    world = World(child("a", shutdown=25.0), child("b")).begin()
    world.ready(world.key("a"))
    world.exit(world.key("b"), 3)
    world.fail_spawn(world.key("b"))
    world.advance(0.1)
    world.exit(world.key("b"), 3)

    [escalation] = [action for action in world.actions if isinstance(action, Escalate)]
    assert escalation.failure.kind == "boot"
    assert "b cannot start: 3 in a row" in str(escalation.failure)
    assert "exited with 3" in str(escalation.failure)
    assert world.state("b") == "FATAL"
    [stop] = [action for action in world.actions if isinstance(action, Stop)]
    assert stop.deadline <= world.now + GIVE_UP < world.now + 10, "over within 10 s"


def test_failed_boots_beside_a_replica_that_is_well() -> None:
    """They are the end of a start, which would never come to one, and of nothing that is up."""
    world = running(child("a"))
    world.do(Scale("a", 2))
    for failures in range(1, 9):
        world.exit(world.keys("a")[1], 3)
        assert world.child("a").cannot_start == (failures >= 3)
        world.advance(5.0)
    assert world.node().failure is None
    assert world.state("a", 1) == "STARTING"
    world.do(Scale("a", 1))
    assert not world.child("a").cannot_start

    world = World(child("a", replicas=2), child("b")).begin()
    world.ready(world.keys("a")[0])
    for _ in range(3):
        world.exit(world.keys("a")[1], 3)
        world.advance(5.0)
    assert "a cannot start" in str(world.node().failure)


def test_what_has_one_cause_is_one_restart() -> None:
    tree = Tree(SupervisorSpec([child("a", replicas=3)], intensity=1))

    def start(event: Event) -> list[ProcessKey]:
        started = [action.key for action in tree.step(event, 0.0) if isinstance(action, Spawn)]
        for key in started:
            tree.step(Ready(key), 0.0)
        return started

    first = start(Tick())
    second = [key for old in first for key in start(Exited(old, None, "gone with it", "one cause"))]
    assert len(first) == len(second) == 3
    assert tree.root.state.failure is None
    start(Exited(second[0], 1))
    assert tree.root.state.failure is not None


def test_what_ends_a_boot_from_outside_is_a_restart_and_no_failed_boot() -> None:
    tree = Tree(SupervisorSpec([child("a", replicas=2)], intensity=4))
    each, started = tree.root.state.child("a"), tree.step(Tick(), 0.0)
    for number in range(1, 6):
        keys = [action.key for action in started if isinstance(action, Spawn)]
        assert len(keys) == 2
        assert tree.root.state.failure is None
        started = [a for key in keys for a in tree.step(Exited(key, None, "gone", f"cause {number}"), number * 1.0)]
        started += tree.step(Tick(), number + 0.9)
        assert not each.cannot_start
    failure = tree.root.state.failure
    assert failure is not None
    assert failure.kind == "intensity"


def test_what_was_up_outlives_a_machine_that_cannot_fork() -> None:
    world = running(child("a"))
    world.exit(world.key("a"), 1)
    for _ in range(20):
        world.fail_spawn(world.key("a"))
        world.advance(5.0)
    world.all_well()
    assert world.state("a") == "RUNNING"


def test_not_ready_in_time() -> None:
    world = World(child("a")).begin()
    world.spawned(world.key("a"))
    world.advance(10.0)
    [kill] = [action for action in world.history if isinstance(action, Kill)]
    assert (kill.why, kill.dump) == ("it was not ready after 10 s: it has not called worker.ready()", True)
    world.exit(world.key("a"), -9)
    assert world.told(Spawn) == ["a.0"]
    assert world.child("a").slots[0].boot_failures == 1


def test_why_is_said_once() -> None:
    world = World(child("a"), child("b")).begin()
    world.advance(10.0)
    [kill] = [action for action in world.history if isinstance(action, Kill)]
    world.exit(kill.key, -9, f"{kill.why}\n--- end of its stderr ---\nhello")
    assert world.reports("exited")[-1].why == f"{kill.why}\n--- end of its stderr ---\nhello"
    world.advance(1.0)
    world.advance(10.0)
    world.exit(world.key("a"), -9, "it was killed by SIGKILL")
    assert world.reports("exited")[-1].why == f"{kill.why}; it was killed by SIGKILL"


def test_heartbeat_lost() -> None:
    world = running(child("a"))
    world.lose_heartbeat(world.key("a"))
    assert world.actions[-1] == Kill(world.key("a"), "no heartbeat for 30 s", True)
    assert world.state("a") == "STOPPING"
    world.exit(world.key("a"), -9)
    assert len(world.node().intensity._times) == 1
    assert world.told(Spawn) == ["a.0"]


# -- replacing ---------------------------------------------------------------------------------------------


def test_replacement_first() -> None:
    world = running(child("a", replicas=3))
    for key in world.keys("a"):
        world.retire(key)
    old, new = world.keys("a")[0], world.keys("a")[3]
    assert len(world.live) == 4
    world.ready(new)
    assert world.told(Stop) == ["a.0"]
    assert len(world.live) == 4, "the next one when the old one is gone"
    world.exit(old, 0)
    assert world.told(Spawn) == ["a.1"]
    world.all_well()
    assert [str(report.key) for report in world.reports("replaced")] == ["a.0", "a.1", "a.2"]
    assert len(world.node().intensity._times) == 0


def test_several_at_once() -> None:
    world = running(child("a", replicas=5, max_unavailable=3))
    for key in world.keys("a"):
        world.retire(key)
    assert len(world.live) == 8


def test_a_replacement_that_fails_changes_nothing() -> None:
    world = running(child("a"))
    old = world.key("a")
    world.retire(old)
    for _ in range(5):
        world.exit(world.keys("a")[1], 3)
        world.advance(5.0)
    assert world.live[old].serves
    assert len(world.reports("replacement-failed")) == 5
    world.all_well()
    assert old not in world.live


def test_the_old_one_dies_before_its_replacement_is_ready() -> None:
    world = running(child("a"))
    old = world.key("a")
    world.retire(old)
    world.exit(old, 1)
    assert world.told(Spawn) == [], "there is one already"
    world.ready(world.key("a"))
    assert world.state("a") == "RUNNING"


def test_without_surge_the_old_one_goes_first() -> None:
    world = running(child("a", replicas=3, surge=False))
    first, second, _ = world.keys("a")
    world.retire(first)
    world.retire(second)
    assert world.told(Stop) == []
    assert world.live[first].stop_by is not None
    world.exit(first, 0)
    world.ready(world.keys("a")[-1])
    assert world.told(Stop) == ["a.1"]


# -- reloading ---------------------------------------------------------------------------------------------


def test_reload() -> None:
    world = running(child("a", replicas=2), child("b"))
    world.do(Reload(1))
    assert world.told(Spawn) == ["a.0"], "one child at a time, in order"
    world.all_well()
    assert (generations(world, "a"), generations(world, "b")) == ([1, 1], [1])
    assert reloaded(world) == [(1, None)]
    assert world.tree.generations == {1}
    assert not world.node().intensity._times


def test_reload_that_never_gets_ready() -> None:
    world = running(child("a", replicas=2), child("b"))
    world.do(Reload(1))
    for _ in range(3):
        assert len(world.keys("a", serving=True)) == 2
        world.exit(world.keys("a")[2], 3)
        world.advance(0.1)
    assert reloaded(world) == [(1, "a cannot start: exited with 3")]
    world.all_well()
    assert (generations(world, "a"), generations(world, "b")) == ([0, 0], [0])
    world.exit(world.keys("a")[0], 1)
    world.all_well()
    assert generations(world, "a") == [0, 0], "the generation that works stays in force"
    world.do(Reload(2))
    world.all_well()
    assert generations(world, "a") == [2, 2]


def test_reload_without_surge_goes_back_to_what_works() -> None:
    world = running(child("a", surge=False))
    world.do(Reload(1))
    world.exit(world.key("a"), 0)
    assert generations(world, "a") == [1]
    world.exit(world.key("a"), 3)
    assert generations(world, "a") == [0], "it is missed, so at once"
    assert reloaded(world) == [(1, "a cannot start: exited with 3")]
    world.all_well()
    assert world.state("a") == "RUNNING"


def test_reload_of_what_does_not_work_anyway() -> None:
    """The new generation is what a slot tries that the old one does not get ready in."""
    world = running(child("a"))
    world.exit(world.key("a"), 1)
    world.exit(world.key("a"), 3)
    world.do(Reload(1))
    world.advance(1.0)
    assert generations(world, "a") == [1]
    world.ready(world.key("a"))
    assert reloaded(world) == [(1, None)]


def test_reloads_that_wait() -> None:
    world = running(child("a"))
    for generation in (1, 2, 3):
        world.do(Reload(generation))
    world.all_well(60.0)
    assert reloaded(world) == [(2, "another reload was asked for before it began"), (1, None), (3, None)]
    with pytest.raises(ValueError, match="generation must be above 3, not 3"):
        world.do(Reload(3))


def test_reload_with_another_spec() -> None:
    world = running(child("a"), child("b"), child("c", replicas=2))
    world.do(StartChild(child("x")))
    world.all_well()
    world.do(Scale("c", 4))
    world.all_well()
    children = [child("n"), child("c", replicas=2, title="new"), child("a", replicas=2)]
    world.do(Reload(1, SupervisorSpec(children, strategy="one_for_all")))
    world.all_well(60.0)

    assert [each.name for each in world.node().children] == ["n", "c", "a", "x"]
    assert [len(world.keys(name)) for name in "ncax"] == [1, 4, 2, 1]
    assert world.live[world.keys("c")[0]].spec.title == "new"
    assert world.node().spec.strategy == "one_for_all"
    assert generations(world, "x") == [1]


def test_reload_that_cannot_be() -> None:
    world = running(child("a"))
    with pytest.raises(ValueError, match="child 'a' cannot turn from a function into a supervisor"):
        world.do(Reload(1, SupervisorSpec([ChildSpec("a", SupervisorSpec())])))
    assert world.tree.step(Tick(), world.now) == []


def test_reload_and_a_child_that_a_command_has_added() -> None:
    """It stays where the spec does not name it; where it does, it is of the spec from then on, and goes with it."""
    world = running(child("a"))
    world.do(StartChild(child("x")))
    world.all_well(60.0)
    world.do(Reload(1, SupervisorSpec([child("a")])))
    world.all_well(60.0)
    assert generations(world, "x") == [1]
    world.do(Reload(2, SupervisorSpec([child("x", title="new"), child("a")])))
    world.all_well(60.0)
    assert [each.name for each in world.node().children] == ["x", "a"]
    assert world.live[world.keys("x")[0]].spec.title == "new"
    world.do(Reload(3, SupervisorSpec([child("a")])))
    world.all_well(60.0)
    assert [each.name for each in world.node().children] == ["a"]


def test_reload_of_a_supervisor_below() -> None:
    world = running(child("a"), ChildSpec("g", SupervisorSpec([child("x"), child("y")])), child("b"))
    world.do(Reload(1))
    world.all_well(60.0)
    assert [generations(world, path) for path in ("a", "g/x", "g/y", "b")] == [[1]] * 4

    world.do(Reload(2))
    world.all_well(0.0)
    world.do(Reload(3))
    world.ready(*[key for key in world.keys("a") if world.live[key].ready_at is None])
    world.all_well(60.0)
    assert reloaded(world)[-1] == (3, None)


def test_a_reload_that_fails_below_fails_above() -> None:
    world = running(ChildSpec("g", SupervisorSpec([child("x")])), child("b"))
    world.do(Reload(1))
    for _ in range(3):
        world.exit(world.keys("g/x")[1], 3)
        world.advance(0.1)
    assert reloaded(world) == [(1, "g: x cannot start: exited with 3")]
    assert generations(world, "b") == [0]


# -- commands ----------------------------------------------------------------------------------------------


def test_children_that_come_and_go() -> None:
    world = running(child("a"))
    world.do(StartChild(child("b")))
    assert world.told(Spawn) == ["b.0"]
    assert world.child("b").condition == "starting"
    world.all_well()
    assert world.child("b").condition == "up"
    world.do(TerminateChild("b"))
    world.exit(world.key("b"), 0)
    assert world.child("b").condition == "down"
    world.do(RestartChild("b"))
    world.all_well()
    world.do(DeleteChild("b"))
    with pytest.raises(ValueError, match="there is a child 'b' already"):
        world.do(StartChild(child("b")))
    world.exit(world.key("b"), 0)
    assert [each.name for each in world.node().children] == ["a"]
    with pytest.raises(LookupError, match="there is no child 'b'"):
        world.do(TerminateChild("b"))


def test_a_new_child_that_cannot_start_is_not_the_end() -> None:
    world = running(child("a"))
    world.do(StartChild(child("b", replicas=2)))
    while world.child("b").condition == "starting":
        for key in world.keys("b"):
            world.exit(key, 3)
        world.advance(0.1)
    assert world.child("b").condition == "failed"
    assert world.node().failure is None
    world.do(RestartChild("b"))
    world.all_well()
    assert world.child("b").condition == "up"


def test_a_restart_by_command_loses_nothing() -> None:
    world = running(child("a", replicas=2))
    world.do(RestartChild("a"))
    while len(world.reports("replaced")) < 2:
        assert len(world.keys("a", serving=True)) >= 2
        world.all_well(0.0)
    assert world.node().failure is None


def test_terminate_and_restart_at_once() -> None:
    world = running(child("a"))
    old = world.key("a")
    world.do(TerminateChild("a"))
    world.do(RestartChild("a"))
    assert world.keys("a") == [old]
    world.exit(old, 0)
    assert world.told(Spawn) == ["a.0"]


def test_scale() -> None:
    world = running(child("a", replicas=2))
    world.do(Scale("a", 4))
    assert world.told(Spawn) == ["a.2", "a.3"]
    world.all_well()
    world.do(Scale("a", 1))
    assert world.told(Stop) == ["a.1", "a.2", "a.3"]
    world.do(Scale("a", 2))
    world.all_well()
    assert [str(key) for key in world.keys("a")] == ["a.0", "a.1"]
    for bad, kind in ((0, ValueError), (1.0, TypeError)):
        with pytest.raises(kind, match="replicas must be"):
            world.do(Scale("a", bad))  # type: ignore[arg-type]


def test_temporary_children_that_were_added_go_when_they_have_ended() -> None:
    world = running(child("a"))
    world.do(StartChild(child("job", restart="temporary")))
    world.exit(world.key("job"), 1)
    assert [each.name for each in world.node().children] == ["a"]


def test_commands_for_a_supervisor_below() -> None:
    world = running(ChildSpec("g", SupervisorSpec([child("x")])))
    world.do(Scale("x", 2), ("g",))
    assert world.told(Spawn) == ["g/x.1"]
    with pytest.raises(LookupError, match="there is no supervisor 'h'"):
        world.tree.step(Scale("x", 2), world.now, at=("h",))
    with pytest.raises(ValueError, match="replicas must be 1 for a supervisor, not 2"):
        world.do(Scale("g", 2))


def test_no_commands_at_the_end() -> None:
    world = running(child("a"))
    world.shutdown(10.0)
    commands: list[Any] = [StartChild(child("b")), RestartChild("a"), Scale("a", 2), Reload(1), DeleteChild("a")]
    for command in commands:
        with pytest.raises(ClosedResourceError, match="the supervisor is stopping"):
            world.do(command)


# -- the end -----------------------------------------------------------------------------------------------


def test_one_deadline_for_all() -> None:
    world = running(child("a", shutdown=30.0), ChildSpec("g", SupervisorSpec([child("x", shutdown=30.0)])))
    world.shutdown(12.0)
    assert [action.deadline - world.now for action in world.actions if isinstance(action, Stop)] == [12.0]
    world.advance(12.0)
    killed = [str(action.key) for action in world.history if isinstance(action, Kill)]
    assert sorted(killed) == ["a.0", "g/x.0"], "even who has not been asked yet"


def test_who_hangs_does_not_use_up_the_time_of_the_others() -> None:
    """Each has its share of what is left for itself; then the next one is asked beside it."""
    world = World(*(child(name, shutdown=60.0) for name in "abc")).begin()
    world.all_well()
    keys = {name: world.key(name) for name in "abc"}
    world.shutdown(12.0)
    assert world.told(Stop) == ["c.0"]
    assert world.advance(3.9) == []
    world.advance(0.2)
    assert world.told(Stop) == ["b.0"]
    world.exit(keys["b"], 0)
    assert world.told(Stop) == ["a.0"]
    assert world.live[keys["c"]].stop_by == world.live[keys["a"]].stop_by == world.deadline
    world.exit(keys["a"], 0)
    world.advance(8.0)
    assert world.told(Kill) == ["c.0"]
    world.exit(keys["c"], -9)
    assert world.finished


def test_less_time_than_was_promised_is_shared_again() -> None:
    world = World(*(child(name, shutdown=60.0) for name in "abc")).begin()
    world.all_well()
    world.shutdown(1200.0)
    world.shutdown(6.0)
    world.advance(2.0)
    assert world.told(Stop) == ["b.0"]
    world.advance(2.0)
    assert world.told(Stop) == ["a.0"]


def test_each_has_its_own_limit() -> None:
    world = running(child("a", shutdown="brutal_kill"), child("b", shutdown=3.0), child("c", shutdown=0.0))
    world.shutdown(20.0)
    assert (world.told(Stop), world.told(Kill)) == (["c.0"], ["c.0"])
    world.exit(world.key("c"), -9)
    world.advance(3.0)
    world.exit(world.key("b"), -9)
    assert (world.told(Stop), world.told(Kill)) == ([], ["a.0"])


def test_a_second_shutdown_hurries() -> None:
    world = running(child("a", shutdown=30.0), child("b"))
    world.shutdown(30.0)
    world.exit(world.key("b"), 0)
    world.shutdown(3.0)
    [stop] = [action for action in world.actions if isinstance(action, Stop)]
    assert stop.deadline == world.now + 3.0
    world.quick = True
    world.shutdown(60.0, quick=True)
    assert world.told(Kill) == ["a.0"]
    world.exit(world.key("a"), -9)
    assert world.finished is not None


def test_what_cannot_be_killed_is_left() -> None:
    world = running(child("a"), child("b"))
    world.shutdown(2.0)
    world.advance(2.0 + KILL_GRACE)
    assert world.finished is not None
    assert {str(key) for key in world.finished.left} == {"a.0", "b.0"}
    assert [report.level for report in world.reports("stuck")] == ["error", "error"]


def test_who_crashes_in_a_shutdown_stays_down() -> None:
    world = running(child("a"), child("b"))
    world.shutdown(10.0)
    world.exit(world.key("a"), -11)
    assert world.told(Spawn) == []
    assert not world.node().intensity._times


def test_shutdown_before_anything() -> None:
    tree = Tree(SupervisorSpec([child("a")]))
    actions = tree.step(Shutdown(10.0), 0.0)
    assert [type(action).__name__ for action in actions] == ["Report", "Finished"]
    assert tree.next_deadline() is None


def test_news_of_strangers() -> None:
    world = running(child("a"))
    key = world.key("a")
    for event in (
        Ready(key._replace(serial=99)),
        Exited(key._replace(path=("z",)), 1),
        Exited(key._replace(path=("z", "a")), 1),
    ):
        assert world.do(event) == []


def test_time_never_runs_backwards() -> None:
    world = World(child("a")).begin()
    world.tree.step(Tick(), 5.0)
    assert world.tree.step(Tick(), 1.0) == []
    assert world.node().now == 5.0


def test_a_spec_is_what_is_run() -> None:
    spec = ChildSpec("a", serve, env={"A": "1"})
    world = World(dataclasses.replace(spec, replicas=2)).begin()
    assert [action.spec.env for action in world.actions if isinstance(action, Spawn)] == [{"A": "1"}] * 2
