"""The configuration file: what it means, and what it says where something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioipc.exceptions import ConfigError
from aioipc.supervisor.config import parse_config, read_config
from aioipc.supervisor.spec import ChildSpec, SupervisorSpec

WHOLE = """
[supervisor]
strategy = "rest_for_one"
intensity = "unlimited"
period = 5

[child.web]
target = "app.web:serve"
replicas = 4
restart = "transient"
exit_codes = [0, 2]
shutdown = 12.5
ready = "call"
gate = false
boot_timeout = 30
heartbeat_timeout = 20
listeners = { http = "tcp://127.0.0.1:8000", admin = "unix://run/admin.sock?mode=660", passed = "fd://web" }
reuse_port = true
env = { LEVEL = "$HOME", DEBUG = false }
cwd = "site"
umask = 0o027
nice = 5
affinity = [0, 1]
rlimits = { nofile = [1024, 4096], core = "unlimited", as = 1000000, cpu = [5, "unlimited"] }
user = "nobody"
group = 65534
max_age = 3600
max_memory = 1000000000
max_tasks = 10000
jitter = 0.2
surge = true
max_unavailable = 2
concurrency = 8
title = "web"
stdin = "inherit"
stdout = "capture"
stderr = "null"

[child.back]
restart = "permanent"
shutdown = 60
[child.back.supervisor]
intensity = 0
[[child.back.child]]
name = "db"
target = ["./bin/db", "--data", "./data"]
ready = "notify"
[[child.back.child]]
name = "cache"
target = ["redis-server"]
"""


def test_every_field(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text(WHOLE)
    web = ChildSpec(
        "web",
        "app.web:serve",
        replicas=4,
        restart="transient",
        exit_codes=[0, 2],
        shutdown=12.5,
        ready="call",
        gate=False,
        boot_timeout=30,
        heartbeat_timeout=20,
        listeners={
            "http": "tcp://127.0.0.1:8000",
            "admin": f"unix://{tmp_path}/run/admin.sock?mode=660",
            "passed": "fd://web",
        },
        reuse_port=True,
        env={"LEVEL": "$HOME", "DEBUG": None},
        cwd=f"{tmp_path}/site",
        umask=0o027,
        nice=5,
        affinity=[0, 1],
        rlimits={"nofile": (1024, 4096), "core": None, "as": 1000000, "cpu": (5, -1)},
        user="nobody",
        group=65534,
        max_age=3600,
        max_memory=10**9,
        max_tasks=10000,
        jitter=0.2,
        surge=True,
        max_unavailable=2,
        concurrency=8,
        title="web",
        stdin="inherit",
        stdout="capture",
        stderr="null",
    )
    db = ChildSpec("db", [f"{tmp_path}/bin/db", "--data", "./data"], ready="notify")
    back = SupervisorSpec([db, ChildSpec("cache", ["redis-server"])], intensity=0)
    nested = ChildSpec("back", back, restart="permanent", shutdown=60)
    expected = SupervisorSpec([web, nested], strategy="rest_for_one", intensity=None, period=5)
    assert read_config(path) == expected
    assert read_config(str(path)) == expected


def test_the_least() -> None:
    assert parse_config('child.a.target = "m:f"', directory="/") == SupervisorSpec([ChildSpec("a", "m:f")])
    assert [each.name for each in parse_config('[[child]]\nname="b"\ntarget="m:f"', directory="/").children] == ["b"]


WEB = '[child.web]\ntarget = "m:f"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there must be a child: a table such as [child.web]"),
        ("child = []", "there must be a child: a table such as [child.web]"),
        ("child = 5", "child must be tables, [child.NAME] or [[child]], not 5"),
        ("child.web = 5", "[child.web] must be a table, not 5"),
        ("[[child]]\ntarget = 'm:f'", "[child#1] name must be there"),
        ("[[child]]\nname = 7\ntarget = 'm:f'", "[child.7] name must be a str, not 7"),
        ("[child.web]\nname = 'api'\ntarget = 'm:f'", "[child.web] name must be 'web', as in the title of the table"),
        ("[child.web]", "[child.web] target must be there: 'module:function', or a list"),
        ("[child.jobs.target]\nworkers = 4", "[child.jobs] target must be 'module:function', or a list of a program"),
        ("[child.'a b']\ntarget = 'm:f'", "[child.a b] name must be 1 to 64 letters, digits, '_' or '-', not 'a b'"),
        (f"{WEB}replica = 4", "[child.web] there is no field 'replica'; did you mean 'replicas'?"),
        (f"{WEB}zzz = 4", "[child.web] there is no field 'zzz'; there are name, target, replicas"),
        (f"{WEB}[superviser]", "there is no field 'superviser'; did you mean 'supervisor'?"),
        (f"{WEB}[supervisor]\nstrategi = 1", "[supervisor] there is no field 'strategi'; did you mean 'strategy'?"),
        (f"{WEB}[supervisor]\nstrategy = 'all'", "[supervisor] strategy must be one of 'one_for_one'"),
        (
            f"{WEB}[supervisor]\nintensity = 'any'",
            "[supervisor] intensity must be a whole number, or 'unlimited', not 'any'",
        ),
        ("supervisor = 1", "[supervisor] must be a table, not 1"),
        (f"{WEB}replicas = 'x'", "[child.web] replicas must be a whole number, not 'x'"),
        (f"{WEB}replicas = true", "[child.web] replicas must be a whole number, not True"),
        (
            f"{WEB}restart = 'always'",
            "[child.web] restart must be 'permanent' or 'transient' or 'temporary', not 'always'",
        ),
        (
            f"{WEB}max_age = 2020-01-01",
            "[child.web] max_age must be a number of seconds, not datetime.date(2020, 1, 1)",
        ),
        (f"{WEB}listeners = 'x'", "[child.web.listeners] must be a table, not 'x'"),
        (f"{WEB}listeners = {{http = 8000}}", "[child.web] listeners['http']: an address must be a str"),
        (f"{WEB}listeners = {{http = 'tcp://x'}}", "[child.web] listeners['http']: 'tcp://x' is no address"),
        (f"{WEB}env = {{A = 1}}", "[child.web] env.A must be a text, or false to take the variable away, not 1"),
        (f"{WEB}env = {{A = true}}", "[child.web] env.A must be a text, or false to take the variable away, not true"),
        (
            f"{WEB}rlimits = {{core = 'x'}}",
            "[child.web] rlimits.core must be a whole number, 'unlimited', or a list of two",
        ),
        (f"{WEB}rlimits = {{core = [1]}}", "[child.web] rlimits['core'] must be a limit or (soft, hard)"),
        (f"{WEB}rlimits = {{cores = 1}}", "[child.web] rlimits must be named"),
        (f"{WEB}[child.web.child.a]\ntarget = 'm:f'", "[child.web] target must be left out where there are children"),
        ("[child.a.supervisor]", "[child.a] there must be a child"),
        (
            "[child.a.child.b]\ntarget=''",
            "[child.a.child.b] target must be 'module:function' or a list of arguments, not ''",
        ),
        (
            "[child.a]\nreplicas=2\n[child.a.child.b]\ntarget='m:f'",
            "[child.a] replicas must be left out for a supervisor",
        ),
        (
            "[[child]]\nname='a'\ntarget='m:f'\n" * 2,
            "[supervisor] children must have names of their own: 'a' is there twice",
        ),
        (WEB + WEB, "it is no TOML: "),
        ("[child.web]\ntarget = ", "it is no TOML: Invalid value (at end of document)"),
    ],
)
def test_errors_say_where_and_what(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, directory="/")
    assert str(caught.value).startswith(words)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    for content in (b"child = 5", b"\xff", b"#" * (1 << 21)):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"^{path}: "):
            read_config(path)
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [True, False, -1, 0, 1, 2.5, float("nan"), 1 << 70, "", "m:f", "x\0", "unlimited", "tcp://:1", "/"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "as", "http"]), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from([*ChildSpec.__dataclass_fields__, "supervisor", "child", "strategy", "intensity"])


def toml(value: object) -> str:
    """Write a value; its texts are written as basic strings."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\0", "\\u0000") + '"'
    return str(value).lower()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_anything_is_a_spec_or_a_config_error(fields: dict[str, Any]) -> None:
    text = '[child.web]\n"target" = "m:f"\n' + "".join(f"{k} = {toml(v)}\n" for k, v in fields.items() if k != "target")
    try:
        assert isinstance(parse_config(text, directory="/"), SupervisorSpec)
    except ConfigError as error:
        assert str(error).startswith(("[child.web", "[supervisor"))  # noqa: PT017
