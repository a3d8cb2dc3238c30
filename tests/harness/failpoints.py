"""See that the suite hits every failpoint; they are armed by the testing kit's `kill_points`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from aioipc._sys.failpoints import NAMES
from aioipc.testing.kill_points import KillPoint as Failpoint
from aioipc.testing.kill_points import KillPoints as Failpoints

__all__ = ["Failpoint", "Failpoints", "every_failpoint_is_hit", "failpoints"]

_SELECTIONS = ("keyword", "markexpr", "deselect", "lf")


class Coverage:
    """Which points were hit in this session."""

    def __init__(self) -> None:
        self.hit: set[str] = set()

    def check(self) -> None:
        """Fail where a failpoint exists that no test has made act: it may be dead code."""
        if missing := [name for name in NAMES if name not in self.hit]:
            pytest.fail(f"no test has hit the failpoints {', '.join(missing)}", pytrace=False)


COVERAGE = Coverage()


@pytest.fixture(autouse=True, scope="session")
def every_failpoint_is_hit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Judge it at the end of the session, for the file that imports this; not where only some tests were to run."""
    yield
    if not request.session.testsfailed and _everything_runs(request.config):
        COVERAGE.check()


@pytest.fixture
def failpoints(kill_points: Failpoints) -> Iterator[Failpoints]:
    """Arm failpoints; those that were hit are counted."""
    yield kill_points
    COVERAGE.hit.update(point.name for point in kill_points.points if point.was_hit)


def _everything_runs(config: pytest.Config) -> bool:
    """Whether nothing but whole files was asked for, of one process."""
    selected = any(config.getoption(name, default=None) for name in _SELECTIONS)
    return not selected and not any("::" in arg for arg in config.args) and "PYTEST_XDIST_WORKER" not in os.environ
