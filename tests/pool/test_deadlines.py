"""Deadlines: what is due comes out, once, earliest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aioipc.pool.deadlines import Deadlines

MOMENTS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 1e9])


class Unordered:
    """An item that cannot be compared with another, as tasks cannot."""

    __lt__ = __gt__ = __le__ = __ge__ = None  # type: ignore[assignment]


@given(st.lists(st.one_of(st.tuples(st.just("add"), MOMENTS), st.tuples(st.just("due"), MOMENTS))))
def test_like_a_sorted_list(steps: list[tuple[str, float]]) -> None:
    deadlines: Deadlines[Unordered] = Deadlines()
    model: list[tuple[float, Unordered]] = []
    for step, moment in steps:
        if step == "add":
            item = Unordered()
            deadlines.add(moment, item)
            model.append((moment, item))
            model.sort(key=lambda pair: pair[0])  # stable: equal moments stay in the order they were added in
        else:
            assert deadlines.due(moment) == [item for when, item in model if when <= moment]
            model = [pair for pair in model if pair[0] > moment]
        assert len(deadlines) == len(model)
        assert deadlines.next() == (model[0][0] if model else None)


def test_cleared() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add(1.0, "a")
    deadlines.clear()
    assert (len(deadlines), deadlines.next(), deadlines.due(2.0)) == (0, None, [])
    deadlines.add(1.0, "b")
    assert deadlines.due(1.0) == ["b"]
