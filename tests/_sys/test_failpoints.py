"""Failpoints do what was armed, where it was armed, and as often as was asked for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aioipc._sys import failpoints

from ..harness.processes import wait_state
from ..harness.scripts import run_script, running_script


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.load({})


def load(text: str) -> None:
    failpoints.load({"AIOIPC_FAILPOINTS": text})


def test_without_the_variable_nothing_is_armed() -> None:
    load("idle=raise")
    failpoints.load({})
    assert not failpoints.armed
    for name in failpoints.NAMES:
        failpoints.hit(name)
        assert not failpoints.due(name)


def test_only_the_named_points_act() -> None:
    load("idle=raise;;mid-task=raise:;")
    assert set(failpoints.armed) == {"idle", "mid-task"}
    failpoints.hit("before-ready")
    for name in ("idle", "mid-task", "idle"):
        assert failpoints.due(name)
        with pytest.raises(RuntimeError, match=f"failpoint {name}"):
            failpoints.hit(name)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"AIOIPC_FAILPOINTS: no failpoint is called 'middle'; there are .*mid-task"):
        load("middle=kill")


@pytest.mark.parametrize("verb", ["", "explode"])
def test_an_action_that_does_not_exist(verb: str) -> None:
    load(f"idle={verb}")
    with pytest.raises(ValueError, match=f"no action is called '{verb}'"):
        failpoints.hit("idle")


def test_with_a_marker_it_acts_once(tmp_path: Path) -> None:
    marker = tmp_path / "hit"
    load(f"idle=raise:{marker}")
    assert not marker.exists()
    with pytest.raises(RuntimeError):
        failpoints.hit("idle")
    assert marker.exists()
    failpoints.hit("idle")
    assert not failpoints.due("idle")
    marker.unlink()
    assert failpoints.due("idle")


HIT = """
    import os
    from aioipc._sys import failpoints
    failpoints.load(os.environ)
    print("before", flush=True)
    failpoints.hit("mid-task")
    print("behind", flush=True)
"""


@pytest.mark.parametrize(
    ("action", "status"),
    [("kill", -signal.SIGKILL), ("segv", -signal.SIGSEGV), ("exit", 7)],
)
def test_ends(action: str, status: int) -> None:
    source = "import faulthandler, resource\nfaulthandler.enable()\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    done = run_script(source + HIT.replace("\n    ", "\n"), env={"AIOIPC_FAILPOINTS": f"mid-task={action}"})
    assert (done.returncode, done.stdout) == (status, "before\n")


def test_stop() -> None:
    with running_script(HIT, env={"AIOIPC_FAILPOINTS": "mid-task=stop"}) as script:
        wait_state(script.pid, "T")
        assert script.stdout == "before\n"
        script.send_signal(signal.SIGCONT)
        assert script.wait().check().stdout == "before\nbehind\n"


def test_once_over_all_processes(tmp_path: Path) -> None:
    """Of several that come at the same time exactly one is hit."""
    source = f"import sys; sys.stdin.read()\n{HIT}".replace("\n    ", "\n")
    env = {"AIOIPC_FAILPOINTS": f"mid-task=exit:{tmp_path / 'marker'}"}
    with ExitStack() as stack:
        scripts = [stack.enter_context(running_script(source, env=env)) for _ in range(6)]
        assert sorted(script.wait().returncode for script in scripts) == [0, 0, 0, 0, 0, 7]
