"""Kill points: let a worker die, stop or hang at a named point of its life, to test what your program does then.

    async def test_a_crash_is_retried(kill_points):
        point = kill_points.arm("mid-task", "kill")
        async with aioipc.Pool(1) as pool:
            assert await pool.submit(work, retries=1) == 42
        assert point.was_hit

A point is armed through the environment variable ``AIOIPC_FAILPOINTS``, so it acts in zygotes and workers that
start afterwards, in this program or in one that the test runs. Arm before you open the pool.

| name | where |
|---|---|
| ``zygote-before-fork`` | in the zygote, asked for a worker |
| ``zygote-after-fork`` | in the zygote, before it has told of the worker |
| ``before-exec`` | with ``start_method="spawn"``, before the interpreter is started |
| ``before-ready`` | in the worker, before it says that it is ready; so are all below |
| ``idle`` | it has nothing to do and is about to wait |
| ``task-received`` | the task has arrived, and counts as not started |
| ``mid-task`` | the task counts as started |
| ``result-computed`` | the function has returned |
| ``mid-write`` | half of the result is sent |
| ``draining`` | the worker was told to finish |

The actions: ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``segv`` (SIGSEGV), ``exit`` (``os._exit(7)``) and ``raise``
(a RuntimeError).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aioipc._sys.failpoints import ACTIONS as ACTIONS
from aioipc._sys.failpoints import NAMES as NAMES

_VARIABLE = "AIOIPC_FAILPOINTS"


class KillPoint:
    """One armed point. It acts once, in the process that comes first: that one creates the marker file.

    As long as the point is held, the marker is there already and nothing happens.
    """

    def __init__(self, name: str, action: str, marker: Path) -> None:
        self.name: str = name
        self.action: str = action
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


class KillPoints:
    """The points that one test arms, for the processes that are started while they are in the environment.

    ``directory`` is an empty one, for the marker files.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points: list[KillPoint] = []
        self._directory = directory
        self._monkeypatch = monkeypatch

    def arm(self, name: str, action: str, *, held: bool = False) -> KillPoint:
        """Arm one point in place of those before, and return it; ``held``: it acts only after `KillPoint.release`.

        Raises `ValueError` for a name or an action that does not exist.
        """
        _check(name, action)
        point = KillPoint(name, action, self._directory / f"{len(self.points)}-{name}-{action}")
        if held:
            point.hold()
        self.points.append(point)
        self._monkeypatch.setenv(_VARIABLE, str(point))
        return point

    def arm_always(self, name: str, action: str) -> None:
        """Arm a point that acts in every process, in place of those before; raises as `arm` does."""
        _check(name, action)
        self._monkeypatch.setenv(_VARIABLE, f"{name}={action}")

    def disarm(self) -> None:
        """Arm nothing in processes that are started from here on."""
        self._monkeypatch.delenv(_VARIABLE, raising=False)


@pytest.fixture
def kill_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KillPoints:
    """Arm kill points for the processes of this test; the environment is restored after it."""
    directory = tmp_path / "kill-points"
    directory.mkdir()
    return KillPoints(directory, monkeypatch)


def _check(name: str, action: str) -> None:
    if name not in NAMES:
        raise ValueError(f"no kill point is called {name!r}; there are {', '.join(NAMES)}")
    if action not in ACTIONS:
        raise ValueError(f"no action is called {action!r}; there are {', '.join(ACTIONS)}")
