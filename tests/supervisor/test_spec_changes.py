"""What is different in a new specification of a tree."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioipc.supervisor.spec import ChildSpec, SupervisorSpec
from aioipc.supervisor.spec_changes import SpecChanges, compare_specs

WEB, API, DB = (ChildSpec(name, f"m:{name}") for name in ("web", "api", "db"))
NAMES = st.lists(st.sampled_from("abc"), unique=True, max_size=3)


def of(*children: ChildSpec) -> SupervisorSpec:
    return SupervisorSpec(children)


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> SupervisorSpec:
    children = []
    for name in draw(NAMES):
        if depth and draw(st.booleans()):
            children.append(ChildSpec(name, draw(trees(depth - 1)), gate=draw(st.booleans())))
        else:
            children.append(ChildSpec(name, "m:f", nice=draw(st.integers(0, 1))))
    return SupervisorSpec(children, period=draw(st.sampled_from([5, 10])))


def test_flat() -> None:
    changes = compare_specs(of(WEB, API), of(DB, replace(WEB, replicas=2)))
    assert changes == SpecChanges(added=(("db",),), removed=(("api",),), changed=(("web",),), same=((),))
    assert changes
    assert str(changes) == "added db; removed api; changed web"
    same = compare_specs(of(WEB), of(replace(WEB)))
    assert not same
    assert str(same) == "nothing changed"


def test_nested() -> None:
    old, new = (of(WEB, ChildSpec("back", of(each))) for each in (DB, replace(DB, nice=1)))
    assert compare_specs(old, new) == SpecChanges(changed=(("back", "db"),), same=((), ("web",), ("back",)))
    stricter = of(WEB, ChildSpec("back", replace(of(DB), intensity=0)))
    assert compare_specs(old, stricter).changed == (("back",),)
    turned = compare_specs(old, of(WEB, ChildSpec("back", "m:f")))  # a supervisor no more
    assert turned == SpecChanges(removed=(("back", "db"),), changed=(("back",),), same=((), ("web",)))
    assert str(compare_specs(of(WEB), replace(of(WEB), period=5))) == "changed the supervisor"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), trees())
def test_each_is_in_one_of_the_four(old: SupervisorSpec, new: SupervisorSpec) -> None:
    changes = compare_specs(old, new)
    after = [*changes.added, *changes.changed, *changes.same]
    assert len({*after}) == len(after)
    assert not {*after} & {*changes.removed}
    back = compare_specs(new, old)
    assert {*back.added} == {*changes.removed}
    assert {*back.same} == {*changes.same}
    assert not changes or old != new
    assert not compare_specs(new, new)
