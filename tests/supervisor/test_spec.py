"""Specs are refused field by field, before anything starts; errors name the child, the field and what is allowed."""

from __future__ import annotations

import dataclasses
import functools
import math
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from aioipc import PoolSpec
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec


async def serve(worker: object) -> None:
    """Stands for any service; nothing here calls it."""


def child(name: str) -> ChildSpec:
    return ChildSpec(name, serve)


COMMAND = ["sleep", "1"]
BELOW = SupervisorSpec([child("inner")])


def refused(kind: type[Exception], target: Any = serve, **options: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        ChildSpec("web", target, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith("child 'web': ")
    return text


def test_defaults_of_a_function() -> None:
    spec = ChildSpec("web", serve)

    assert (spec.kind, spec.ready, spec.shutdown, spec.boot_timeout) == ("function", "call", 25.0, 60.0)
    assert (spec.heartbeat_timeout, spec.surge, spec.restart, spec.replicas) == (30.0, True, "permanent", 1)
    assert ChildSpec("web", "package.module:Class.serve").kind == "function"
    assert ChildSpec("web", functools.partial(serve)).kind == "function"


def test_defaults_of_a_command() -> None:
    spec = ChildSpec("sleep", [Path("/bin/sleep"), "1"])

    assert (spec.kind, spec.target, spec.ready) == ("command", ("/bin/sleep", "1"), 1.0)
    assert (spec.heartbeat_timeout, spec.surge) == (None, False)
    assert ChildSpec("sleep", COMMAND, listeners={"http": "tcp://:80"}).surge, "it shares what only one could hold"
    assert ChildSpec("sleep", COMMAND, ready="notify", heartbeat_timeout=10).heartbeat_timeout == 10.0


def test_stop_signals() -> None:
    found = {given: ChildSpec("db", COMMAND, stop_signal=given).stop_signal for given in (None, "int", "SIGQUIT", 10)}
    assert found == {None: "SIGTERM", "int": "SIGINT", "SIGQUIT": "SIGQUIT", 10: "SIGUSR1"}
    assert ChildSpec("db", COMMAND, stop_signal=signal.SIGRTMIN + 3).stop_signal == str(signal.SIGRTMIN + 3)
    for wrong in ("KILL", "STOP", "NOPE", 0, 65, -1):
        assert "signal" in refused(ValueError, COMMAND, stop_signal=wrong)
    assert "stop_signal must be the name" in refused(TypeError, COMMAND, stop_signal=1.5)
    assert "stop_signal must be left out" in refused(ValueError, stop_signal="TERM")
    assert "stop_group must be left out" in refused(ValueError, stop_group=False)
    assert "stop_group must be True or False" in refused(TypeError, COMMAND, stop_group=1)


def test_defaults_of_a_supervisor() -> None:
    spec = ChildSpec("group", BELOW)

    assert (spec.kind, spec.ready, spec.shutdown, spec.boot_timeout) == ("supervisor", None, None, None)
    assert spec.supervisor is BELOW
    assert ChildSpec("group", BELOW, shutdown=10, boot_timeout=3.0, restart="transient", gate=False).shutdown == 10


def test_defaults_of_a_pool() -> None:
    spec = ChildSpec("jobs", PoolSpec(4))

    assert (spec.kind, spec.ready, spec.shutdown, spec.boot_timeout) == ("pool", None, 25.0, None)
    assert (spec.surge, spec.heartbeat_timeout, spec.replicas) == (True, None, 1)
    assert spec.pool is spec.target
    assert spec.supervisor is None
    assert ChildSpec("jobs", PoolSpec(shutdown=60)).shutdown == 60
    options: dict[str, Any] = {"shutdown": "brutal_kill", "boot_timeout": 3, "restart": "transient", "surge": False}
    assert ChildSpec("jobs", PoolSpec(shutdown=60), **options).shutdown == "brutal_kill"
    assert dataclasses.replace(spec, gate=False, drain_delay=3).target == PoolSpec(workers=4) != PoolSpec(5)
    assert repr(spec) == "ChildSpec('jobs', PoolSpec(workers=4), shutdown=25.0, surge=True)"


def test_a_changed_one() -> None:
    spec = ChildSpec("web", serve, env={"A": "1"}, rlimits={"nofile": 64})

    changed = dataclasses.replace(spec, replicas=4)

    assert changed == dataclasses.replace(changed)
    assert (changed.replicas, changed.env, changed.rlimits) == (4, {"A": "1"}, {"nofile": (64, 64)})


def test_what_was_given_is_copied() -> None:
    env: dict[str, str | None] = {"A": "1"}
    spec = ChildSpec("web", serve, env=env)
    env["B"] = "2"

    assert spec.env == {"A": "1"}


def test_it_shows_what_is_special() -> None:
    assert repr(ChildSpec("web", "a:b", replicas=2)).startswith("ChildSpec('web', 'a:b', replicas=2, ")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", "ü", "x" * 65])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"name must be 1 to 64 letters, digits, '_' or '-', not '"):
        ChildSpec(name, serve)
    with pytest.raises(TypeError, match="name must be a str, not 7"):
        ChildSpec(7, serve)  # type: ignore[arg-type]


def sync(worker: object) -> None:
    pass


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (sync, TypeError, "must be an async function, not <function sync"),
        (functools.partial(sync), TypeError, "must be an async function"),
        (7, TypeError, "or a SupervisorSpec, not 7"),
        (b"sleep", TypeError, "a list of arguments"),
        ("sleep 1", ValueError, "'module:function' or a list of arguments, not 'sleep 1'"),
        ("module:", ValueError, "'module:function'"),
        ("1a:b", ValueError, "'module:function'"),
        ([], ValueError, "must name a program, not []"),
        ([""], ValueError, "must name a program, not ['']"),
        (["sleep", 1], TypeError, "1 is none"),
        (["sleep\0"], ValueError, "without null characters"),
    ],
)
def test_targets(target: Any, kind: type[Exception], message: str) -> None:
    text = refused(kind, target)

    assert text.startswith("child 'web': target must be ") or "must name a program" in text
    assert message in text


WHOLE = ("replicas", "max_unavailable", "concurrency", "max_memory", "max_tasks")
SECONDS = ("shutdown", "ready", "boot_timeout", "heartbeat_timeout", "max_age")


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    for bad in ("1", 1.5, True):
        assert refused(TypeError, **{name: bad}) == f"child 'web': {name} must be a whole number, not {bad!r}"
    assert refused(ValueError, **{name: 0}) == f"child 'web': {name} must be at least 1, not 0"


def test_replicas_have_a_limit() -> None:
    assert ChildSpec("web", "a:b", replicas=1000).replicas == 1000
    assert refused(ValueError, replicas=1001) == "child 'web': replicas must be at most 1000, not 1001"


@pytest.mark.parametrize("name", SECONDS)
def test_seconds(name: str) -> None:
    for bad in (True, [1], b"1"):
        assert refused(TypeError, **{name: bad}) == f"child 'web': {name} must be a number of seconds, not {bad!r}"
    for worse in (-1, math.nan, math.inf):
        assert f"{name} must be at least" in refused(ValueError, **{name: worse})
    assert name in refused(ValueError if name in ("shutdown", "ready") else TypeError, **{name: "soon"})


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"restart": "always"}, ValueError, "restart must be 'permanent' or 'transient' or 'temporary', not 'always'"),
        ({"restart": None}, TypeError, "restart must be 'permanent' or"),
        ({"shutdown": "kill"}, ValueError, "shutdown must be a number of seconds or 'brutal_kill', not 'kill'"),
        ({"ready": "notify"}, ValueError, "ready must be of a function: a number of seconds or 'call', not 'notify'"),
        ({"ready": 60.0}, ValueError, "ready must be less than boot_timeout (60 s), not 60"),
        ({"boot_timeout": 0}, ValueError, "boot_timeout must be more than 0 s"),
        ({"heartbeat_timeout": 3}, ValueError, "heartbeat_timeout must be at least 4 s"),
        ({"gate": 1}, TypeError, "gate must be True or False, not 1"),
        ({"reuse_port": "yes"}, TypeError, "reuse_port must be True or False, not 'yes'"),
        ({"surge": 1}, TypeError, "surge must be True or False, not 1"),
        ({"exit_codes": 0}, TypeError, "exit_codes must be a collection of whole numbers, not 0"),
        ({"exit_codes": ()}, ValueError, "exit_codes must not be empty"),
        ({"exit_codes": [256]}, ValueError, "each of exit_codes must be between -64 and 255, not 256"),
        ({"affinity": [0, -1]}, ValueError, "each of affinity must be between 0 and 65536, not -1"),
        ({"affinity": "0"}, TypeError, "affinity must be a collection of whole numbers, not '0'"),
        ({"nice": 20}, ValueError, "nice must be between -20 and 19, not 20"),
        ({"nice": 1.0}, TypeError, "nice must be a whole number, not 1.0"),
        ({"umask": 0o1000}, ValueError, "umask must be between 0 and 511, not 512"),
        ({"user": -1}, ValueError, "user must be between 0 and 4294967294, not -1"),
        ({"group": ""}, ValueError, "group must be a name or a number, not empty"),
        ({"user": 1.0}, TypeError, "user must be a whole number, not 1.0"),
        ({"app_dir": b"/"}, TypeError, "app_dir must be a path, not b'/'"),
        ({"drain_delay": 25}, ValueError, "drain_delay must be less than shutdown (25 s), not 25"),
        ({"drain_delay": 1, "shutdown": "brutal_kill"}, ValueError, "drain_delay must be less than shutdown"),
        ({"cwd": b"/"}, TypeError, "cwd must be a path, not b'/'"),
        ({"cwd": ""}, ValueError, "cwd must be a path, not empty"),
        ({"title": 3}, TypeError, "title must be a str, not 3"),
        ({"jitter": 1.5}, ValueError, "jitter must be between 0 and 1, not 1.5"),
        ({"stdin": "capture"}, ValueError, "stdin must be 'null' or 'inherit', not 'capture'"),
        ({"stdout": 1}, TypeError, "stdout must be 'inherit' or 'capture' or 'null', not 1"),
        ({"env": ["A=1"]}, TypeError, "env must be a mapping, not ['A=1']"),
        ({"env": {"A": 1}}, TypeError, "env['A'] must be a str, or None to take it away, not 1"),
        ({"env": {"A=": ""}}, ValueError, "env must have names without '=' and null characters, not 'A='"),
        ({"env": {1: ""}}, TypeError, "env must have names that are str, not 1"),
        ({"env": {"A": "\0"}}, ValueError, "env['A'] must be without null characters"),
        ({"rlimits": {"files": 3}}, ValueError, "nofile, nproc"),
        ({"rlimits": {"nofile": (2, 1)}}, ValueError, "rlimits['nofile'] must have a soft limit that is not above"),
        ({"rlimits": {"nofile": (-1, 1)}}, ValueError, "rlimits['nofile'] must have a soft limit"),
        ({"rlimits": {"nofile": -2}}, ValueError, "rlimits['nofile'] must be between 0 and"),
        ({"rlimits": {"nofile": (1, 2, 3)}}, ValueError, "rlimits['nofile'] must be a limit or (soft, hard)"),
        ({"rlimits": {"nofile": "1k"}}, TypeError, "rlimits['nofile'] must be a whole number, not '1k'"),
        ({"listeners": {"a:b": "tcp://:1"}}, ValueError, "listeners must have names of 1 to 255 printable characters"),
        (
            {"listeners": {"http": "tcp://host"}},
            ValueError,
            "listeners['http']: 'tcp://host' is no address: it has no port",
        ),
        ({"listeners": {"http": 80}}, TypeError, "listeners['http']: an address must be a str"),
        ({"listeners": "tcp://:80"}, TypeError, "listeners must be a mapping, not 'tcp://:80'"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_fields(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    assert message in refused(kind, **options)


def test_what_a_command_cannot_have() -> None:
    assert "ready must be of a command: a number of seconds or 'notify' or 'newline'" in refused(
        ValueError, COMMAND, ready="call"
    )
    assert "without ready='notify', not 30" in refused(ValueError, COMMAND, heartbeat_timeout=30)
    assert "max_tasks must be left out for a command" in refused(ValueError, COMMAND, max_tasks=5)


@pytest.mark.parametrize(
    "options", [{"replicas": 2}, {"env": {"A": ""}}, {"ready": 1.0}, {"surge": True}, {"max_age": 1.0}]
)
def test_what_a_supervisor_cannot_have(options: dict[str, Any]) -> None:
    [(name, value)] = options.items()

    assert (
        refused(ValueError, BELOW, **options) == f"child 'web': {name} must be left out for a supervisor, not {value!r}"
    )


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"replicas": 2}, "; PoolSpec has workers"),
        ({"heartbeat_timeout": 30}, "; PoolSpec has heartbeat_timeout"),
        ({"max_age": 30}, "; PoolSpec has max_age"),
        ({"stdout": "capture"}, "; PoolSpec has capture"),
        ({"env": {"A": ""}}, "; its workers have the master's"),
        ({"ready": 1.0}, ""),
        ({"listeners": {"http": "tcp://:80"}}, ""),
    ],
)
def test_what_a_pool_cannot_have(options: dict[str, Any], hint: str) -> None:
    [(name, value)] = options.items()

    text = refused(ValueError, PoolSpec(), **options)
    assert text == f"child 'web': {name} must be left out for a pool, not {value!r}{hint}"


def test_what_a_pool_can_have_wrong() -> None:
    assert "drain_delay must be less than shutdown (5 s), not 5" in refused(
        ValueError, PoolSpec(shutdown=5), drain_delay=5
    )
    assert "boot_timeout must be more than 0 s" in refused(ValueError, PoolSpec(), boot_timeout=0)
    assert "surge must be True or False, not 1" in refused(TypeError, PoolSpec(), surge=1)
    assert "shutdown must be a number" in refused(ValueError, PoolSpec(), shutdown="soon")


def test_limits_become_pairs() -> None:
    spec = ChildSpec(
        "web", serve, rlimits={"nofile": 64, "core": None, "as": (1, 2), "cpu": (5, resource.RLIM_INFINITY)}
    )

    assert spec.rlimits == {"nofile": (64, 64), "core": (-1, -1), "as": (1, 2), "cpu": (5, -1)}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"strategy": "all"},
            ValueError,
            "strategy must be one of 'one_for_one', 'one_for_all', 'rest_for_one', not 'all'",
        ),
        ({"intensity": -1}, ValueError, "intensity must be at least 0, not -1"),
        ({"intensity": 1.0}, TypeError, "intensity must be a whole number, or None for any number, not 1.0"),
        ({"period": 0}, ValueError, "period must be more than 0 s"),
        ({"children": [serve]}, TypeError, "children must be a sequence of ChildSpec, not of <function serve"),
        ({"children": "web"}, TypeError, "children must be a sequence of ChildSpec, not 'web'"),
        ({"children": [child("a"), child("a")]}, ValueError, "'a' is there twice"),
    ],
)
def test_supervisors(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        SupervisorSpec(**options)
    assert type(caught.value) is kind
    assert message in str(caught.value)
