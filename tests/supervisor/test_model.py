"""Any events in any order: whatever happens to the processes of a tree, what must be true of it stays true.

What that is stands in world.py, which checks each action and the whole after each step. Here are the events, and how
it ends: first all is well for a while, and everything that is to run does; then the whole is shut down, with processes
that do as they are told and others that do not.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from aioipc.supervisor.events import (
    DeleteChild,
    ProcessKey,
    Reload,
    RestartChild,
    Scale,
    StartChild,
    TerminateChild,
    Tick,
)
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec
from aioipc.supervisor.stopping import KILL_GRACE
from aioipc.supervisor.tree import Path

from .world import World, child

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
"""How many histories to try; without it a few, the same ones each time."""

STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
RESTARTS = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
INTENSITIES = st.sampled_from([None, 5, 5, 2, 1, 0])
CODES = st.sampled_from([0, 1, 3, -9, -11])
TIMES = st.sampled_from([0.05, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0])


@st.composite
def services(draw: st.DrawFn, name: str) -> ChildSpec:
    return child(
        name,
        restart=draw(RESTARTS),
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        shutdown=draw(st.sampled_from([5.0, 5.0, 0.0, "brutal_kill"])),
        ready=draw(st.sampled_from(["call", "call", 0.5])),
        gate=draw(st.sampled_from([True, True, False])),
        surge=draw(st.booleans()),
        max_unavailable=draw(st.sampled_from([1, 1, 2])),
        exit_codes=draw(st.sampled_from([(0,), (0, 3)])),
    )


@st.composite
def supervisors(draw: st.DrawFn, depth: int) -> SupervisorSpec:
    """One with up to three children, down to ``depth`` below it."""
    children = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        if depth and draw(st.booleans()):
            below = draw(supervisors(depth - 1))
            limit = draw(st.sampled_from([None, 8.0, "brutal_kill"]))
            children.append(ChildSpec(name, below, restart=draw(RESTARTS), shutdown=limit, gate=draw(st.booleans())))
        else:
            children.append(draw(services(name)))
    return SupervisorSpec(children, strategy=draw(STRATEGIES), intensity=draw(INTENSITIES), period=10.0)


class Supervision(RuleBasedStateMachine):
    """One tree and its world."""

    depth = 0

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        spec = data.draw(supervisors(self.depth))
        self.world = World(*spec.children, strategy=spec.strategy, intensity=spec.intensity, period=spec.period)
        self.generations = itertools.count(1)
        self.names = itertools.count(1)
        self.reloads: dict[int, Path] = {}
        self.world.begin()

    # -- processes -----------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject, **wanted: bool) -> ProcessKey:
        """One of the live processes."""
        found = [fake.key for fake in self.world.live.values() if all(getattr(fake, n) == v for n, v in wanted.items())]
        assume(found)
        return data.draw(st.sampled_from(found))

    @rule(data=st.data())
    def get_ready(self, data: st.DataObject) -> None:
        key = self.pick(data, serves=False)
        self.world.ready(key)

    @rule()
    def get_all_ready(self) -> None:
        for key in list(self.world.live):
            if key in self.world.live and self.world.live[key].ready_at is None:
                self.world.ready(key)

    @rule(data=st.data(), code=CODES)
    def exit(self, data: st.DataObject, code: int) -> None:
        self.world.exit(self.pick(data), code)

    @rule(data=st.data(), code=CODES)
    def crash(self, data: st.DataObject, code: int) -> None:
        self.world.exit(self.pick(data, serves=True), code)

    @rule(data=st.data(), code=CODES, seconds=st.sampled_from([0.3, 6.0, 11.0]))
    def crash_and_recover(self, data: st.DataObject, code: int, seconds: float) -> None:
        self.world.exit(self.pick(data, serves=True), code)
        self.world.all_well(seconds)

    @rule(data=st.data())
    def fail_to_spawn(self, data: st.DataObject) -> None:
        key = self.pick(data, confirmed=False)
        self.world.fail_spawn(key)

    @rule(data=st.data())
    def lose_heartbeat(self, data: st.DataObject) -> None:
        self.world.lose_heartbeat(self.pick(data, confirmed=True))

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self.world.retire(self.pick(data))

    @precondition(lambda self: self.world.gone)
    @rule(data=st.data(), what=st.sampled_from(["exit", "ready", "heartbeat", "retire"]))
    def hear_late(self, data: st.DataObject, what: str) -> None:
        """News of a process that has ended already change nothing."""
        key = data.draw(st.sampled_from(sorted(self.world.gone)))
        late: dict[str, Any] = {
            "exit": self.world.exit,
            "heartbeat": self.world.lose_heartbeat,
            "retire": self.world.retire,
        }
        if key not in self.world.live and what in late:
            assert late[what](key) == []

    @rule(seconds=TIMES)
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    # -- commands ------------------------------------------------------------------------------------------

    def place(self, data: st.DataObject) -> Path:
        """A supervisor that takes commands."""
        found = [path for path, node in self.world.tree.nodes.items() if not node.state.stopping]
        assume(found)
        return data.draw(st.sampled_from(found))

    def child_at(self, data: st.DataObject, at: Path) -> str:
        names = [each.name for each in self.world.node(at).children if each.goal != "deleted"]
        assume(names)
        return data.draw(st.sampled_from(names))

    @rule(data=st.data())
    def start_child(self, data: st.DataObject) -> None:
        at = self.place(data)
        self.world.do(StartChild(data.draw(services(f"x{next(self.names)}"))), at)

    @rule(data=st.data(), kind=st.sampled_from([TerminateChild, RestartChild, RestartChild, DeleteChild]))
    def command(self, data: st.DataObject, kind: Any) -> None:
        at = self.place(data)
        self.world.do(kind(self.child_at(data, at)), at)

    @rule(data=st.data(), replicas=st.integers(1, 4))
    def scale(self, data: st.DataObject, replicas: int) -> None:
        at = self.place(data)
        name = self.child_at(data, at)
        assume(self.world.child("/".join((*at, name))).spec.supervisor is None)
        self.world.do(Scale(name, replicas), at)

    @rule(data=st.data(), same=st.booleans())
    def reload(self, data: st.DataObject, same: bool) -> None:
        at = self.place(data)
        spec = None if same else self.changed(data, self.world.node(at))
        generation = next(self.generations)
        self.world.do(Reload(generation, spec), at)

    def changed(self, data: st.DataObject, node: Any) -> SupervisorSpec:
        """Another spec of this supervisor: a child changed, dropped or added, another order."""
        assume(all(each.goal != "deleted" for each in node.children))
        children = [each.spec for each in node.children if not each.dynamic or data.draw(st.booleans())]
        if children and data.draw(st.booleans()):
            children.pop()
        if children and data.draw(st.booleans()) and children[0].supervisor is None:
            children[0] = dataclasses.replace(children[0], replicas=data.draw(st.integers(1, 3)))
        if data.draw(st.booleans()):
            children.insert(0, data.draw(services(f"n{next(self.names)}")))
        return dataclasses.replace(node.spec, children=children, strategy=data.draw(STRATEGIES))

    @precondition(lambda self: len(self.world.history) > 15)
    @rule(seconds=st.sampled_from([0.0, 2.0, 20.0]), quick=st.booleans(), data=st.data())
    def shut_down(self, seconds: float, quick: bool, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 9)) == 0:
            self.world.quick = self.world.quick or quick
            self.world.shutdown(seconds, quick=quick)

    # -- the end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        if world.finished is None and not world.node().stopping:
            world.all_well(60.0)
            self.check_all_is_well()
        if world.finished is None:
            self.check_it_ends()

    def check_all_is_well(self) -> None:
        """Everything that is to run does, and nothing waits for anything any more."""
        if self.world.node().stopping:
            return
        for node, each, slot in self.world.slots():
            assert not node.stopping
            assert node.reload is None
            assert not any((each.bounce, each.held, each.roll, slot.retire, slot.trial))
            assert slot.successor is None
            assert slot.leaving is None
            if each.goal == "up":
                assert each.started
                wanted = {"RUNNING"} if each.spec.restart == "permanent" else {"RUNNING", "EXITED"}
                assert slot.state in wanted, f"{each.name}.{slot.number} is {slot.state}"
                assert len(each.slots) == each.replicas
            else:
                assert slot.state in ("EXITED", "FATAL")
        answered = [action.generation for action in self.world.history if type(action).__name__ == "Reloaded"]
        assert set(answered) == set(self.world.asked_reloads[()])

    def check_it_ends(self) -> None:
        """By the deadline all are killed that have not ended; those that even that does not end are left behind."""
        world = self.world
        world.shutdown(12.0)
        for number in itertools.count():
            asked = [fake for fake in world.live.values() if fake.stop_by is not None or fake.killed_at is not None]
            obedient = [fake for fake in asked if fake.key.serial % 3]
            if obedient:
                world.exit(obedient[0].key, 0)
            elif (when := world.tree.next_deadline()) is not None:
                world.advance(when - world.now)
            if world.finished is not None:
                break
            assert number < 500, "no end"
        assert world.now <= world.deadline + KILL_GRACE
        assert world.do(Tick()) == []


class DeepSupervision(Supervision):
    """With supervisors below."""

    depth = 1


@pytest.mark.timeout(400)  # to make a failure small takes its time
@pytest.mark.parametrize("machine", [Supervision, DeepSupervision])
def test_any_order_of_events(machine: type[Supervision]) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    phases = (Phase.generate, Phase.shrink)
    profile = settings(
        max_examples=EXAMPLES or 25,
        derandomize=not EXAMPLES,
        database=None,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=checks,
        phases=phases,
    )
    run_state_machine_as_test(machine, settings=profile)
