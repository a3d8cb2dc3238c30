"""What follows when a process ends: every restart kind, way to end, strategy and place, on one level and on two.

The expected outcomes are Erlang/OTP's, as the reference manual of ``supervisor`` states them. Where ours differ, the
case says so.
"""

from __future__ import annotations

import pytest

from aioipc.supervisor.actions import Escalate, Spawn, Stop
from aioipc.supervisor.events import RestartChild, TerminateChild
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec

from .world import World, child

KINDS = ("permanent", "transient", "temporary")
ENDS = {"normal": 0, "abnormal": 1, "killed": -9, "not-ready": 1}
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")

# Is it started again? "A permanent child process is always restarted. A temporary child process is never restarted. A
# transient child process is restarted only if it terminates abnormally." How early it ends makes no difference.
COMES_BACK = {
    ("permanent", "normal"): True,
    ("permanent", "abnormal"): True,
    ("permanent", "killed"): True,
    ("permanent", "not-ready"): True,
    ("transient", "normal"): False,
    ("transient", "abnormal"): True,
    ("transient", "killed"): True,
    ("transient", "not-ready"): True,
    ("temporary", "normal"): False,
    ("temporary", "abnormal"): False,
    ("temporary", "killed"): False,
    ("temporary", "not-ready"): False,
}

# Who is stopped with it, in which order, where "b" of "abcd" ended and is to come back. Children are terminated in
# reverse start order.
COMPANIONS = {"one_for_one": "", "one_for_all": "dca", "rest_for_one": "dc"}


def running(*children: ChildSpec, **options: object) -> World:
    """All of them up for long enough to count as healthy."""
    world = World(*children, **options).begin()
    world.all_well(15.0)
    return world


def stopped_in_order(world: World) -> list[str]:
    """Let those that are asked to stop do so; return the order in which they were asked."""
    order = []
    while asked := [fake.key for fake in world.live.values() if fake.stop_by is not None]:
        order.append(asked[0].path[-1])
        assert len(asked) == 1, "one after the other"
        world.exit(asked[0], 0)
    return order


def started_in_order(world: World) -> list[str]:
    """Let those get ready that are started; return the order in which they were started."""
    order = []
    while fresh := [fake.key for fake in world.live.values() if fake.ready_at is None]:
        order.append(fresh[0].path[-1])
        assert len(fresh) == 1, "one after the other"
        world.ready(fresh[0])
    return order


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("kind", "end"), COMES_BACK, ids=["-".join(each) for each in COMES_BACK])
def test_one_level(kind: str, end: str, strategy: str) -> None:
    world = running(child("a"), child("b", restart=kind), child("c"), child("d"), strategy=strategy)
    if end == "not-ready":
        world.do(TerminateChild("b"))
        world.exit(world.key("b"), 0)
        world.do(RestartChild("b"))

    world.exit(world.key("b"), ENDS[end])

    comes_back = COMES_BACK[kind, end]
    # Ours: only who had been ready takes others along. Before that, nobody can have relied on it.
    takes_along = comes_back and end != "not-ready"
    companions = COMPANIONS[strategy] if takes_along else ""
    assert stopped_in_order(world) == list(companions)
    assert started_in_order(world) == sorted([*companions, *("b" * comes_back)])
    assert sorted(world.keys(name)[0].path[-1] for name in "acd") == ["a", "c", "d"]
    assert len(world.keys("b")) == comes_back
    assert world.state("b") == ("RUNNING" if comes_back else "EXITED")
    charged = len(world.node().intensity._times)
    assert charged == takes_along, "one restart is counted, however many are restarted with it"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_companions_do_that_are_no_permanent_ones(kind: str, strategy: str) -> None:
    """ "A temporary child process is never restarted, even when the supervisor's restart strategy is rest_for_one or
    one_for_all and a sibling's death causes the temporary process to be terminated." A transient one is.
    """
    world = running(child("a"), child("b", restart=kind), strategy=strategy)

    world.exit(world.key("a"), 1)

    assert stopped_in_order(world) == (["b"] if strategy != "one_for_one" else [])
    world.all_well()
    assert world.state("b") == ("EXITED" if kind == "temporary" and strategy != "one_for_one" else "RUNNING")


@pytest.mark.parametrize(("strategy", "again"), [("one_for_one", False), ("one_for_all", True), ("rest_for_one", True)])
@pytest.mark.parametrize("kind", ["transient", "temporary"])
def test_companions_that_have_finished(kind: str, strategy: str, again: bool) -> None:
    """A transient child that has ended well is still one of the children, and all children are started."""
    world = running(child("a"), child("b", restart=kind), strategy=strategy)
    world.exit(world.key("b"), 0)

    world.exit(world.key("a"), 1)
    world.all_well()

    assert world.state("b") == ("RUNNING" if again and kind == "transient" else "EXITED")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_companions_that_were_terminated_by_command(strategy: str) -> None:
    """Ours: what an operator has stopped stays down. OTP: it "may later be restarted by the supervisor"."""
    world = running(child("a"), child("b"), strategy=strategy)
    world.do(TerminateChild("b"))
    world.exit(world.key("b"), 0)

    world.exit(world.key("a"), 1)
    world.all_well()

    assert world.state("b") == "EXITED"
    assert world.state("a") == "RUNNING"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replicas(strategy: str) -> None:
    """Ours: replicas start at once, so rest_for_one leaves the others alone; one_for_all takes them along."""
    world = running(child("a"), child("b", replicas=3), child("c"), strategy=strategy)

    world.exit(world.keys("b")[1], 1)
    world.all_well()

    kept = sum(fake.key.serial <= 5 for fake in world.live.values())
    assert kept == {"one_for_one": 4, "one_for_all": 0, "rest_for_one": 3}[strategy]
    assert len(world.live) == 5


@pytest.mark.parametrize("intensity", [0, 1, 3, None])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_intensity(intensity: int | None, strategy: str) -> None:
    """ "If more than MaxR restarts occur within MaxT seconds, the supervisor terminates all child processes and then
    itself": the children's are counted together.
    """
    world = running(child("a"), child("b"), strategy=strategy, intensity=intensity, period=5.0)
    for number in range(8 if intensity is None else intensity):
        world.exit(world.keys("ab"[number % 2])[0], 1)
        assert world.node().failure is None
        world.all_well(0.6)
    if intensity is None:
        return
    world.exit(world.keys("a")[0], 1)

    [escalation] = [action for action in world.actions if isinstance(action, Escalate)]
    assert escalation.failure.kind == "intensity"
    assert world.state("a") == "FATAL"
    assert stopped_in_order(world) == ["b"]
    assert world.finished is not None
    assert world.finished.failure == escalation.failure


def test_intensity_is_counted_over_the_period_only() -> None:
    world = running(child("a"), intensity=1, period=10.0)
    for _ in range(10):
        world.exit(world.key("a"), 1)
        world.all_well(10.5)

    assert world.node().failure is None


@pytest.mark.parametrize("outer", STRATEGIES)
@pytest.mark.parametrize("inner", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_levels(kind: str, inner: str, outer: str) -> None:
    """A supervisor that gives up has failed, for the one above: its restart kind and that one's strategy do the rest.

    Ours: OTP's supervisor gives up with the reason ``shutdown``, after which a transient child is not restarted. Here
    it is a failure: services that were to run do not.
    """
    below = SupervisorSpec([child("x"), child("y")], strategy=inner, intensity=1, period=5.0)
    world = running(child("a"), ChildSpec("b", below, restart=kind), child("c"), strategy=outer, intensity=1)  # type: ignore[arg-type]
    serials = {fake.key.path[-1]: fake.key.serial for fake in world.live.values()}

    world.exit(world.key("b/y"), 1)
    assert stopped_in_order(world) == (["x"] if inner == "one_for_all" else []), "the first: a matter of theirs"
    world.all_well(1.0)
    assert world.key("a").serial == serials["a"]
    world.exit(world.key("b/y"), 1)

    comes_back = kind != "temporary"
    others = {"one_for_one": [], "one_for_all": ["c", "a"], "rest_for_one": ["c"]}[outer] if comes_back else []
    assert stopped_in_order(world) == ["x", *others], "first it stops its own"
    world.all_well()
    assert len(world.keys("b/x")) == len(world.keys("b/y")) == comes_back
    assert world.state("b") == ("RUNNING" if comes_back else "EXITED")
    for name in "ac":
        assert (world.key(name).serial == serials[name]) == (name not in others)
    assert world.node().failure is None


def test_two_levels_escalate_to_the_end() -> None:
    """One too many in the supervisor below is a restart in the one above; one too many of those ends it all."""
    below = SupervisorSpec([child("x")], intensity=0)
    world = running(child("a"), ChildSpec("b", below), intensity=1)

    world.exit(world.key("b/x"), 1)
    world.all_well(1.0)
    world.exit(world.key("b/x"), 1)

    [escalation] = [action for action in world.actions if isinstance(action, Escalate)]
    assert escalation.path == ()
    assert escalation.failure.kind == "intensity"
    assert world.told(Stop) == ["a.0"]
    world.exit(world.key("a"), 0)
    assert world.finished is not None


def test_orders() -> None:
    """Started from left to right, each when the one before is ready; terminated from right to left; on all levels."""
    below = SupervisorSpec([child("x"), child("y")])
    world = World(child("a"), ChildSpec("b", below), child("c")).begin()

    assert started_in_order(world) == ["a", "x", "y", "c"]
    world.shutdown(20.0)
    assert stopped_in_order(world) == ["c", "y", "x", "a"]
    assert world.finished is not None
    assert world.finished.failure is None
    assert not [action for action in world.actions if isinstance(action, Spawn)]


def test_a_companion_that_is_terminated_while_it_stops_is_not_waited_for() -> None:
    world = running(child("a"), child("b"), strategy="rest_for_one")
    world.exit(world.key("a"), 1)
    assert world.told(Stop) == ["b.0"]

    world.do(TerminateChild("b"))

    assert world.told(Spawn) == ["a.0"]


def test_a_pause_that_outlasts_the_companions() -> None:
    """The one that failed waits for both: that its companions are gone, and that its pause is over."""
    world = running(child("a"), child("b"), strategy="rest_for_one", intensity=None)
    for pause in (0.0, 0.1, 0.2):
        world.exit(world.key("a"), 1)
        world.exit(world.key("b"), 0)
        assert bool(world.keys("a")) == (pause == 0)
        world.advance(pause)
        world.ready(world.key("a"))
        world.ready(world.key("b"))
