"""A world for the core of the supervisor: a clock, processes that do what a test says, and what must always be true.

Each action is checked when it comes against what the world knows by itself, and the whole after each step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from aioipc.supervisor.actions import Action, Escalate, Finished, Kill, Reloaded, Report, Spawn, Stop, Up
from aioipc.supervisor.events import (
    DeleteChild,
    Event,
    Exited,
    HeartbeatLost,
    ProcessKey,
    Ready,
    Reload,
    RestartChild,
    RetireWanted,
    Scale,
    Shutdown,
    Spawned,
    SpawnFailed,
    TerminateChild,
    Tick,
)
from aioipc.supervisor.node_state import Child, NodeState, Process, Slot
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec
from aioipc.supervisor.states import TRANSITIONS, State
from aioipc.supervisor.stopping import GIVE_UP, KILL_GRACE
from aioipc.supervisor.tree import Path, Tree

PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Between the failures of a slot in a row; from there on the last one."""


async def serve(worker: object) -> None:
    """Stands for any service; nothing here calls it."""


def child(name: str, **options: object) -> ChildSpec:
    """A child whose processes take up to 5 s to stop and 10 s to get ready."""
    return ChildSpec(name, **{"target": serve, "shutdown": 5.0, "boot_timeout": 10.0, **options})  # type: ignore[arg-type]


@dataclass(eq=False)
class Fake:
    """A process as the world sees it."""

    key: ProcessKey
    spec: ChildSpec
    generation: int
    spawned_at: float
    confirmed: bool = False
    ready_at: float | None = None
    stop_by: float | None = None
    killed_at: float | None = None
    silent: bool = False

    @property
    def serves(self) -> bool:
        """It is ready, and nobody has told it to end."""
        return self.ready_at is not None and self.stop_by is None and self.killed_at is None

    @property
    def place(self) -> tuple[Path, int]:
        """The slot it belongs to."""
        return self.key.path, self.key.slot


class World:
    """A tree, driven; ``now`` is its clock."""

    def __init__(self, *children: ChildSpec, **options: object) -> None:
        self.tree = Tree(SupervisorSpec(children, **options))  # type: ignore[arg-type]
        self.now = 0.0
        self.live: dict[ProcessKey, Fake] = {}
        self.gone: dict[ProcessKey, Fake] = {}
        self.actions: list[Action] = []
        """Of the last event."""
        self.history: list[Action] = []
        self.deadline = math.inf
        self.asked_reloads: dict[Path, list[int]] = defaultdict(list)
        self.failures: dict[Slot, int] = defaultdict(int)
        self.not_before: dict[Slot, float] = {}
        self.doomed: dict[NodeState, set[ProcessKey]] = defaultdict(set)
        """Processes that are to go because a companion failed."""
        self.involved: dict[NodeState, set[str]] = defaultdict(set)
        """Children that are not to start before those are gone."""
        self.restarts: dict[NodeState, list[float]] = defaultdict(list)
        self.turns: dict[Path, tuple[float, int]] = {}
        """When each child was asked to stop in a shutdown, and how many others had the rest of the time before them."""
        self.finished: Finished | None = None
        self.were_stopping: set[NodeState] = set()
        self.states: dict[tuple[int, int], State] = {}

    # -- what happens ------------------------------------------------------------------------------------

    def begin(self) -> World:
        """The first step."""
        self.do(Tick())
        return self

    def do(self, event: Event, at: Path = ()) -> list[Action]:
        """Give the tree an event, check and carry out what it answers."""
        if isinstance(event, Shutdown) and at == ():
            self.deadline = min(self.deadline, event.deadline)
            self.abrupt = self.abrupt or event.deadline <= self.now
        if isinstance(event, RestartChild | Scale):  # whom it starts anew starts without its failures
            found = self.child("/".join((*at, event.name)))
            for slot in found.slots:
                if isinstance(event, RestartChild) or slot.number >= found.replicas:
                    self.failures[slot] = 0
                    self.not_before.pop(slot, None)
        if isinstance(event, TerminateChild | DeleteChild):  # is not waited for any more
            node = self.node(at)
            self.doomed[node] -= set(self.keys("/".join((*at, event.name))))
            self.involved[node].discard(event.name)
        self.were_stopping = {node.state for node in self.tree.nodes.values() if node.state.stopping}
        self.actions = self.tree.step(event, self.now, at=at)
        if isinstance(event, Reload):
            self.asked_reloads[at].append(event.generation)
        for action in self.actions:
            self._carry_out(action)
        self.history += self.actions
        self._check()
        return self.actions

    def advance(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick at each deadline; return what was decided."""
        end, found = self.now + seconds, []
        while (when := self.tree.next_deadline()) is not None and when <= end:
            self.now = when
            found += self.do(Tick())
        self.now = end
        self._check()
        return found

    def spawned(self, key: ProcessKey) -> list[Action]:
        """The process exists."""
        self.live[key].confirmed = True
        return self.do(Spawned(key, key.serial + 1000))

    def fail_spawn(self, key: ProcessKey) -> list[Action]:
        """The process could not be made."""
        return self._end(SpawnFailed(key, "fork: Resource temporarily unavailable"))

    def ready(self, *keys: ProcessKey) -> list[Action]:
        """The processes are ready: they say so, or their time has come."""
        found = []
        for key in keys:
            fake = self.live[key]
            if not fake.confirmed:
                found += self.spawned(key)
            if isinstance(fake.spec.ready, str):
                if fake.stop_by is None and fake.killed_at is None and fake.ready_at is None:
                    fake.ready_at = self.now
                found += self.do(Ready(key))
            else:
                found += self.advance(fake.spec.ready or 0.0)
        return found

    def exit(self, key: ProcessKey, code: int = 1, why: str = "") -> list[Action]:
        """The process ends."""
        return self._end(Exited(key, code, why or f"exited with {code}"))

    def lose_heartbeat(self, key: ProcessKey) -> list[Action]:
        """The process is silent."""
        if key in self.live:
            self.live[key].silent = True
        return self.do(HeartbeatLost(key, "no heartbeat for 30 s"))

    def retire(self, key: ProcessKey) -> list[Action]:
        """The process has served long enough."""
        return self.do(RetireWanted(key, "it is old"))

    def shutdown(self, seconds: float, *, quick: bool = False) -> list[Action]:
        """Everything is to end."""
        return self.do(Shutdown(self.now + seconds, quick))

    def all_well(self, seconds: float = 20.0) -> None:
        """Let some time pass in which everything works: who starts gets ready, who is to end does."""
        end = self.now + seconds
        for _ in range(10_000):
            if (busy := next(filter(self._can_go_on, self.live.values()), None)) is None:
                when = self.tree.next_deadline()
                if when is None or when > end:
                    break
                self.advance(when - self.now)
            elif busy.stop_by is not None or busy.killed_at is not None:
                self.exit(busy.key, 0 if busy.killed_at is None else -9)
            elif not busy.confirmed:
                self.spawned(busy.key)
            else:
                self.ready(busy.key)
        else:
            raise AssertionError("nothing comes to rest")
        self.advance(max(0.0, end - self.now))

    @staticmethod
    def _can_go_on(fake: Fake) -> bool:
        """Whether it has anything to do but to serve, or to wait until its time has come."""
        return not fake.serves and (
            not fake.confirmed
            or isinstance(fake.spec.ready, str)
            or fake.ready_at is not None
            or fake.stop_by is not None
            or fake.killed_at is not None
        )

    # -- what can be seen --------------------------------------------------------------------------------

    def keys(self, path: str, *, serving: bool = False) -> list[ProcessKey]:
        """The live processes of a child ("group/web"), oldest first."""
        found = (fake for fake in self.live.values() if "/".join(fake.key.path) == path)
        return [fake.key for fake in found if fake.serves or not serving]

    def key(self, path: str) -> ProcessKey:
        """The only live process of a child."""
        [key] = self.keys(path)
        return key

    def node(self, path: Path = ()) -> NodeState:
        """The state of a supervisor."""
        return self.tree.nodes[path].state

    def child(self, path: str) -> Child:
        """The state of a child."""
        *above, name = path.split("/")
        return next(child for child in self.node(tuple(above)).children if child.name == name)

    def state(self, path: str, slot: int = 0) -> State:
        """What a slot is."""
        return self.child(path).slots[slot].state

    def told(self, kind: type[Action]) -> list[str]:
        """The processes that the last event led to this kind of action for."""
        return [str(action.key) for action in self.actions if isinstance(action, kind)]  # type: ignore[union-attr]

    def reports(self, what: str) -> list[Report]:
        """What has been reported so far."""
        return [action for action in self.history if isinstance(action, Report) and action.what == what]

    @property
    def abandoned(self) -> set[ProcessKey]:
        """Processes that were killed and did not end, for which nobody waits any more."""
        return {key for node in self.tree.nodes.values() for key in node.state.left}

    def slots(self) -> Iterator[tuple[NodeState, Child, Slot]]:
        """All there are."""
        for node in self.tree.nodes.values():
            for each in node.state.children:
                for slot in each.slots:
                    yield node.state, each, slot

    # -- what must be true of an action --------------------------------------------------------------------

    def _end(self, event: Exited | SpawnFailed) -> list[Action]:
        """End a process, and check what the tree makes of it."""
        key = event.key
        if (fake := self.live.pop(key, None)) is None:
            return self.do(event)
        self.gone[key] = fake
        above = self.tree.nodes.get(key.path[:-1])
        if above is None or (found := above.state.find(key)) is None:
            assert key in self.abandoned, f"{key} is not known to the tree"
            return self.do(event)
        node = above.state
        own_doing = not node.stopping and self._own_doing(fake, *found)
        comes_back = own_doing and self._comes_back(fake, event)
        crashed = comes_back and fake.ready_at is not None
        exceeded = crashed and self._count_restart(node)
        pause = self._count_failure(fake, found[1]) if comes_back else None
        if pause is not None:
            self.not_before[found[1]] = self.now + pause
        if crashed and not exceeded:
            self._doom_companions(node, found[0])
        self.do(event)
        gave_up = any(a.what == "gave-up" and a.path == node.path for a in self.actions if isinstance(a, Report))
        if crashed:
            mixed = any(each.spec.supervisor for each in node.children)  # their failures count too
            assert gave_up == exceeded or (mixed and gave_up), "it gives up exactly when there was one restart too many"
        slot = found[1]
        if slot.start_at == -math.inf and found[0].tolerated and not found[0].proven:  # a reload began with it
            self.failures[slot] = 0
            self.not_before.pop(slot, None)
        elif pause is not None and slot.state in ("BACKOFF", "STARTING") and not gave_up:
            assert slot.start_at == self.now + pause, f"pause {slot.start_at - self.now}, not {pause}"
            assert slot.state == "STARTING" or pause > 0 or found[0].held or slot.successor or not found[0].started
        return self.actions

    @staticmethod
    def _own_doing(fake: Fake, each: Child, slot: Slot, process: Process) -> bool:
        """Whether a process that fills a slot ends by itself, or for a fault of its own, while it is wanted."""
        wanted = each.goal == "up" and slot.number < each.replicas and not each.bounce
        unasked = fake.stop_by is None and fake.killed_at is None
        return wanted and process is slot.current and (unasked or bool(process.fault))

    @staticmethod
    def _comes_back(fake: Fake, event: Exited | SpawnFailed) -> bool:
        """Whether its restart kind has it started again."""
        well = isinstance(event, Exited) and event.code in fake.spec.exit_codes and fake.killed_at is None
        return {"permanent": True, "transient": not well, "temporary": False}[fake.spec.restart]

    def _count_failure(self, fake: Fake, slot: Slot) -> float:
        """Return the pause that is to follow."""
        if fake.ready_at is not None and self.now - fake.ready_at >= 10:
            self.failures[slot] = 0
        self.failures[slot] += 1
        return PAUSES[min(self.failures[slot], len(PAUSES)) - 1]

    def _doom_companions(self, node: NodeState, failed: Child) -> None:
        """Note who is to be stopped with one that failed, by the strategy."""
        names = [each.name for each in node.children]
        place = names.index(failed.name)
        with_it = {"one_for_one": [], "one_for_all": names, "rest_for_one": names[place + 1 :]}[node.spec.strategy]
        with_it = [each.name for each in node.children if each.name in with_it and each.goal == "up"]
        if with_it:
            self.involved[node] |= {failed.name, *with_it}
            for name in with_it:
                path = (*node.path, name)
                below = {key for key in self.live if key.path[: len(path)] == path} - self.abandoned
                self.doomed[node] |= below

    def _check_companions(self, action: Spawn) -> None:
        """Nobody is started before all that are to be stopped are gone."""
        node = self.node(action.key.path[:-1])
        there = self.doomed[node] & set(self.live) - self.abandoned
        assert not there or action.key.path[-1] not in self.involved[node], (
            f"{action.key} starts before {there} are gone"
        )

    def _count_restart(self, node: NodeState) -> bool:
        """Return whether it is one too many."""
        times = self.restarts[node]
        times.append(self.now)
        recent = [when for when in times if when >= self.now - node.spec.period]
        return node.spec.intensity is not None and len(recent) > node.spec.intensity

    def _carry_out(self, action: Action) -> None:
        assert self.finished is None, f"{action} after the end"
        match action:
            case Spawn():
                self._check_spawn(action)
                self.live[action.key] = Fake(action.key, action.spec, action.generation, self.now)
            case Stop(key=key, deadline=deadline):
                self._check_stop(action)
                self.live[key].stop_by = deadline
                self._note_turn(key)
            case Kill(key=key, why=why):
                self._check_kill(self.live[key])
                if why == "the deadline of the shutdown has passed" and not self.abrupt:
                    assert self.live[key].stop_by is not None, f"{key} was not asked before"
                self._note_turn(key)
                self.live[key].killed_at = self.now
            case Report(what="ready", key=key):
                assert key is not None
                if key in self.live:  # else a supervisor
                    self.live[key].ready_at = self.now
            case Reloaded(generation=generation):
                assert generation not in [a.generation for a in self.history if isinstance(a, Reloaded)]
            case Finished(left=left):
                assert set(left) == set(self.live), "all processes are gone, but for those that are named"
                for fake in self.live.values():
                    assert fake.killed_at is not None
                    assert fake.killed_at <= self.now - KILL_GRACE + 1e-6
                self.finished = action
            case Escalate() | Up() | Report():
                pass
            case _:
                raise AssertionError(f"{action} is nothing that a driver knows")

    def _check_spawn(self, action: Spawn) -> None:
        key = action.key
        assert key not in self.live
        assert key not in self.gone
        assert self.node(key.path[:-1]) not in self.were_stopping, "nothing is started any more"
        assert len(key.path) > 1 or math.isinf(self.deadline)
        self._check_companions(action)
        mates = [
            self.live[each] for each in set(self.live) - self.abandoned if self.live[each].place == (key.path, key.slot)
        ]
        assert len(mates) < 2, f"a third process for {key}"
        for mate in mates:
            assert mate.ready_at is not None, f"a second process for {key}, and nothing is replaced"
            assert mate.spec.surge
        if not mates:
            [mine] = [slot for slot in self.child("/".join(key.path)).slots if slot.number == key.slot]
            assert self.not_before.get(mine, 0.0) <= self.now, f"{key} is started before the pause is over"
        else:
            numbers = [each.slot for each in (*set(self.live) - self.abandoned, key) if each.path == key.path]
            limit = max(action.spec.max_unavailable, mates[0].spec.max_unavailable)
            assert sum(numbers.count(number) > 1 for number in set(numbers)) <= limit, "too many are replaced at once"
        node = self.node(key.path[:-1])
        before = node.children[: [each.name for each in node.children].index(key.path[-1])]
        reordered = any(isinstance(each, Reloaded) for each in self.actions)
        if not self.child("/".join(key.path)).started and not reordered and not mates:
            for each in before:
                if each.goal == "up" and each.spec.gate and each.condition != "failed":
                    assert each.started, f"{key} is started before {each.name} was ready"
        found = self.child("/".join(key.path))
        if found.held:
            raise AssertionError(f"{key} is started while its companions stop")

    def _check_stop(self, action: Stop) -> None:
        fake = self.live[action.key]
        assert fake.killed_at is None
        assert self.now <= action.deadline
        if fake.stop_by is not None:
            assert action.deadline < fake.stop_by, "asked again only to be quicker"
        else:
            assert action.deadline <= self.now + fake.spec.shutdown  # type: ignore[operator]
        assert action.deadline <= self.deadline
        node = self.node(action.key.path[:-1])
        if action.why == "a companion failed" and not any(each.spec.supervisor for each in node.children):
            assert action.key in self.doomed[node], f"{action.key} is no companion"
        assert fake.spec.shutdown != "brutal_kill"
        if fake.serves:
            self._check_order(fake, action.why)
            self._check_replacement(fake)

    def _check_order(self, fake: Fake, why: str) -> None:
        """In a shutdown or a bounce, whoever stands behind is gone already."""
        node = self.node(fake.key.path[:-1])
        place = [each.name for each in node.children].index(fake.key.path[-1])
        found = node.children[place]
        stops = node in self.were_stopping or why == "the supervisor stops"
        if stops or (found.bounce and found.goal == "up" and fake.key.slot < found.replicas):
            for each in node.children[place + 1 :]:
                if stops and self._had_its_turn(node, each):
                    continue
                there = set(self.keys("/".join((*node.path, each.name)))) - self.abandoned
                assert not there or not (stops or each.bounce), f"{fake.key} is stopped before {there}"

    def _note_turn(self, key: ProcessKey) -> None:
        """Take note of the first process of a child that is told to end with all others."""
        node = self.node(key.path[:-1])
        if node.stopping:
            place = [each.name for each in node.children].index(key.path[-1])
            left = sum(bool(each.processes()) for each in node.children[: place + 1])
            self.turns.setdefault(key.path, (self.now, left))

    def _had_its_turn(self, node: NodeState, each: Child) -> bool:
        """Whether a child has had its share of the time, so that those before it need not wait any longer."""
        if (path := (*node.path, each.name)) not in self.turns:  # it had been asked before everything was to stop
            told = [
                fake.stop_by is not None or fake.killed_at is not None
                for fake in self.live.values()
                if fake.key.path == path
            ]
            return all(told) and each.turn_until <= self.now
        asked, among = self.turns[path]
        return asked + max(0.0, node.deadline - asked) / among <= self.now + 1e-6

    def _check_replacement(self, fake: Fake) -> None:
        """Nobody goes to be replaced while there are too few left."""
        node = self.node(fake.key.path[:-1])
        found = next(each for each in node.children if each.name == fake.key.path[-1])
        if node.stopping or found.bounce or found.goal != "up" or fake.key.slot >= found.replicas:
            return
        others = {
            each.place
            for each in self.live.values()
            if each.serves and each.key.path == fake.key.path and each is not fake
        }
        if found.spec.surge:
            assert fake.place in others, f"{fake.key} goes, and nobody has taken its place"
        else:
            resting = sum(slot.state in ("EXITED", "FATAL") for slot in found.slots if slot.number < found.replicas)
            serving = len({place for place in others if place[1] < found.replicas})
            assert serving + resting >= found.replicas - found.spec.max_unavailable

    def _check_kill(self, fake: Fake) -> None:
        assert fake.killed_at is None, "killed once"
        node = self.node(fake.key.path[:-1])
        reasons = [
            fake.silent,
            fake.spec.shutdown == "brutal_kill",
            fake.stop_by is not None and fake.stop_by <= self.now,
            fake.ready_at is None
            and fake.spec.boot_timeout is not None
            and fake.spawned_at + fake.spec.boot_timeout <= self.now,
            self._root_deadline() <= self.now,
            node.deadline <= self.now,
            self.quick,
        ]
        assert any(reasons), f"no reason to kill {fake.key}"

    quick = False
    abrupt = False
    """There was no time to ask anybody."""

    def _root_deadline(self) -> float:
        return min(self.deadline, self.node().deadline)

    # -- what must be true of the whole --------------------------------------------------------------------

    def _check(self) -> None:
        if self.finished is None:
            known = {
                process.key
                for node in self.tree.nodes.values()
                for process in node.state.processes()
                if process.spec.supervisor is None
            }
            assert known | self.abandoned == set(self.live)
            assert not known & self.abandoned
        for node, doomed in self.doomed.items():
            if not doomed & set(self.live):
                doomed.clear()
                self.involved[node].clear()
        for fake in self.live.values():
            if fake.killed_at is None:
                assert fake.stop_by is None or fake.stop_by > self.now, f"{fake.key} should be killed"
                if fake.ready_at is None and fake.stop_by is None and fake.spec.boot_timeout is not None:
                    assert fake.spawned_at + fake.spec.boot_timeout > self.now
                assert self._root_deadline() > self.now or self.finished
        self._check_states()
        self._forget_failures()
        if (when := self.tree.next_deadline()) is not None:
            assert when > self.now, "a deadline that has passed has been acted on"
        assert (more := self.tree.step(Tick(), self.now)) == [], f"{more} can be done at once"

    def _forget_failures(self) -> None:
        """Whoever is started anew by a command, or after it has finished, starts without its failures."""
        keep = {slot: self.failures[slot] for _, _, slot in self.slots() if slot.state not in ("EXITED", "FATAL")}
        self.failures = defaultdict(int, keep)
        self.not_before = {slot: when for slot, when in self.not_before.items() if slot in keep}

    def _check_states(self) -> None:
        seen: dict[tuple[int, int], State] = {}
        for _, _, slot in self.slots():
            seen[id(slot), 0] = slot.state
            for process in slot.processes():
                seen[process.key.serial, 1] = process.state
                before = self.states.get((process.key.serial, 1))
                assert before is None or before == process.state or process.state in reachable(before)
            assert (slot.successor is None) or (slot.leaving is None)
            if slot.state in ("BACKOFF", "EXITED", "FATAL"):
                assert slot.current is None
        self.states = seen


def reachable(state: State) -> set[State]:
    """What a living process can become, in one step or several."""
    living: set[State] = {"STARTING", "RUNNING", "DRAINING", "STOPPING"}
    order: list[State] = ["STARTING", "RUNNING", "DRAINING", "STOPPING"]
    assert all(TRANSITIONS[each] for each in living)
    return set(order[order.index(state) + 1 :])


__all__ = ["GIVE_UP", "Fake", "World", "child", "serve"]
