"""Arm the failpoints of the processes under test, and see that the suite hits them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioipc._sys.failpoints import NAMES

_SELECTIONS = ("keyword", "markexpr", "deselect", "lf")


class Failpoint:
    """One armed point. It acts once, in the process that comes first: that one creates the marker file.

    As long as the point is held, the marker is there already and nothing happens.
    """

    def __init__(self, name: str, action: str, marker: Path) -> None:
        self.name = name
        self.action = action
        self._marker = marker
        self._held = False

    def __str__(self) -> str:
        return f"{self.name}={self.action}:{self._marker}"

    def hold(self) -> None:
        """Let every process pass, until `release`."""
        self._marker.touch()
        self._held = True

    def release(self) -> None:
        """From here on the next process that comes by is the one, also when there was one before."""
        self._marker.unlink(missing_ok=True)
        self._held = False

    @property
    def was_hit(self) -> bool:
        """Whether a process has come by since the point was armed or released."""
        return not self._held and self._marker.exists()


class Failpoints:
    """The points that one test arms, for the processes that are started while they are in the environment."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points: list[Failpoint] = []
        self._directory = directory
        self._monkeypatch = monkeypatch

    def arm(self, name: str, action: str, *, held: bool = False) -> Failpoint:
        """Arm one point in place of those before."""
        point = Failpoint(name, action, self._directory / f"{len(self.points)}-{name}-{action}")
        if held:
            point.hold()
        self.points.append(point)
        self._monkeypatch.setenv("AIOIPC_FAILPOINTS", str(point))
        return point

    def arm_always(self, name: str, action: str) -> None:
        """Arm a point that acts in every process."""
        self._monkeypatch.setenv("AIOIPC_FAILPOINTS", f"{name}={action}")

    def disarm(self) -> None:
        """Arm nothing in processes that are started from here on."""
        self._monkeypatch.delenv("AIOIPC_FAILPOINTS", raising=False)


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
def failpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failpoints]:
    """Arm failpoints; those that were hit are counted."""
    directory = tmp_path / "failpoints"
    directory.mkdir()
    used = Failpoints(directory, monkeypatch)
    yield used
    COVERAGE.hit.update(point.name for point in used.points if point.was_hit)


def _everything_runs(config: pytest.Config) -> bool:
    """Whether nothing but whole files was asked for, of one process."""
    selected = any(config.getoption(name, default=None) for name in _SELECTIONS)
    return not selected and not any("::" in arg for arg in config.args) and "PYTEST_XDIST_WORKER" not in os.environ
