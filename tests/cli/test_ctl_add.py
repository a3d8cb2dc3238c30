"""`aioipc ctl add`: what the words mean, and what a master makes of them; masters that listen elsewhere."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from aioipc.cli.ctl_add import added_line, table_of_options, tables_of_file
from aioipc.cli.failure import CommandError

from ..harness.processes import is_running, wait_gone
from .in_process import Command
from .masters import SERVICE, master

PRINTS = {"stdout": "capture", "stderr": "capture"}
FILE = """
[child.web]
target = "shop:serve"
[child.cache]
target = ["./cache.sh"]
ready = 0.01
[child.faulty]
target = "shop:broken"
"""


def test_words() -> None:
    """One word with a colon is a function; a field is a value of TOML, or a text."""

    def table(*words: str, **options: object) -> dict[str, object]:
        given = {"workers": None, "binds": (), "env": (), "fields": (), **options}
        return table_of_options(words, **given)  # type: ignore[arg-type]

    assert table("shop:serve") == {"target": "shop:serve", **PRINTS}
    assert table("./run:it") == {"target": ["./run:it"], **PRINTS}
    assert table("sleep", "1") == {"target": ["sleep", "1"], **PRINTS}
    fields = ("ready=notify", "max_age=3600", "gate=false", "rlimits.nofile=[64, 128]", "env.B=c=d", "stdout=null")
    assert table("a:b", workers=3, binds=("tcp://:80",), env=("A=1",), fields=fields) == {
        "target": "a:b",
        "replicas": 3,
        "listeners": {"default": "tcp://:80"},
        "env": {"A": "1", "B": "c=d"},
        "ready": "notify",
        "max_age": 3600,
        "gate": False,
        "rlimits": {"nofile": [64, 128]},
        "stdout": "null",
        "stderr": "capture",
    }
    for wrong, said in (({"env": ("A",)}, "--env 'A': it must be NAME=VALUE"), ({"fields": ("target.x=1",)}, "target")):
        with pytest.raises(CommandError, match=said):
            table("a:b", **wrong)
    assert added_line(None, "job") == "job: it has ended"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "services.toml"
    path.write_text(FILE)
    assert [name for name, _ in tables_of_file(str(path), ())] == ["web", "cache", "faulty"]
    assert dict(tables_of_file(str(path), ("cache",))) == {"cache": {"target": ["./cache.sh"], "ready": 0.01}}
    with pytest.raises(CommandError, match="there is no child 'db'; there are web, cache, faulty"):
        tables_of_file(str(path), ("db",))
    path.write_text('[[child]]\nname = "web"\ntarget = "shop:serve"')
    assert dict(tables_of_file(str(path), ())) == {"web": {"name": "web", "target": "shop:serve"}}
    path.write_text("[child.web]\ntarget = 3")
    with pytest.raises(CommandError, match=r"\[child.web\] target must be"):
        tables_of_file(str(path), ())


def test_wrong_usage(aioipc_command: Command) -> None:
    for words, said in (
        ("ctl add", "it needs NAME and TARGET"),
        ("ctl add web", "it needs NAME and TARGET"),
        ("ctl add --file x.toml --workers 2", "with --file, the file says everything"),
        ("ctl add --file none.toml", "none.toml: No such file or directory"),
        ("ctl add db redis-server --port 0", "No such option"),
    ):
        ended = aioipc_command(words)
        assert (ended.code, said in ended.stderr) == (2, True), ended


def test_a_master_that_is_added_to(tmp_path: Path) -> None:
    """With a control socket of its own, which ctl finds; what is added is ready then, and outlives a reload."""
    (tmp_path / "shop.py").write_text(SERVICE)
    (tmp_path / "services.toml").write_text(FILE)
    (tmp_path / "cache.sh").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "cache.sh").chmod(0o755)
    (tmp_path / "main.toml").write_text("child.first.target = ['sleep', '1000']\nchild.first.ready = 0.01")
    with master(tmp_path, "main.toml", "--control", "own.sock", "--log-format", "json") as running:
        running.wait_log("up: ")
        web = ("add", "web", "shop:serve", "-w", "2", "-b", "http=tcp://127.0.0.1:0", "-s", f"app_dir={tmp_path}")
        done = running.ctl(*web)
        assert done.stdout.startswith("web: up, 2 of 2 ready; http at tcp://127.0.0.1:"), done
        job = ("sh", "-c", "echo said; exec sleep 1000")
        added = running.ctl("add", "--json", "echo", "-s", "restart=temporary", "--", *job)
        assert (json.loads(added.stdout)["kind"], added.stderr) == ("command", "")
        running.wait_log('"message": "said"')

        for words, code, said in (
            (web, 2, "aioipc ctl add: there is a child 'web' already\n"),
            (("add", "x", "shop:broken", "-s", f"app_dir={tmp_path}"), 1, "this is why\n"),
            (("add", "x", "--", "no-such-program"), 1, "target: 'no-such-program': No such file or directory"),
            (
                ("add", "x", "a:b", "-s", "replica=2"),
                2,
                "[child.x] there is no field 'replica'; did you mean 'replicas'",
            ),
            (("add", "x/y", "a:b"), 2, "name must be 1 to 64 letters"),
            (("add", "--file", os.fspath(tmp_path / "services.toml"), "cache", "faulty"), 1, "this is why\n"),
        ):
            done = running.ctl(*words)
            assert (done.returncode, said in done.stderr) == (code, True), done
        names = [child["name"] for child in json.loads(running.ctl("status", "--json").stdout)["children"]]
        assert names == ["first", "web", "echo", "cache"], "what cannot start is not there"

        assert running.ctl("reload").stdout == "reloaded: the same services, in new processes\n"
        (tmp_path / "main.toml").write_text(FILE.partition("[child.faulty]")[0])  # it names what was added, not "first"
        done = running.ctl("reload")
        assert done.returncode == 0, (done, running.log)
        status = json.loads(running.ctl("status", "--json").stdout)
        assert [(child["name"], child["replicas"]) for child in status["children"]] == [
            ("web", 1),
            ("cache", 1),
            ("echo", 1),
        ]
        for name in ("echo", "cache"):
            assert running.ctl("remove", name).returncode == 0
        assert [child["name"] for child in running.status()["children"]] == ["web"]
        assert running.ctl("reload").returncode == 0
        assert [child["name"] for child in running.status()["children"]] == ["web", "cache"], "as the file says"
        running.records()  # every line is JSON, with all that the added ones have printed

        assert running.ctl("shutdown", "--wait").returncode == 0
        assert not is_running(running.pid)
        assert running.wait() == 0, running.log
        assert os.listdir(tmp_path / "state") == []
        assert running.ctl("status").stderr == (
            "aioipc ctl status: no master of yours is found in the state directory; "
            "if one runs, give the path in its log by --control\n"
        )


def test_a_link_that_a_dead_master_has_left(tmp_path: Path) -> None:
    """It may lead to the socket of a later one, which has another pid."""
    options = ("main.toml", "--control", "own.sock")
    (tmp_path / "main.toml").write_text("child.first.target = ['sleep', '1000']\nchild.first.ready = 0.01")
    with master(tmp_path, *options) as dead:
        dead.wait_log("up: ")
        dead.send(signal.SIGKILL)
        dead.wait()
    wait_gone(dead.pid, 20)
    with master(tmp_path, *options, log="later") as running:
        running.wait_log("up: ")
        assert {f"run-{dead.pid}.sock", f"run-{running.pid}.sock"} <= set(os.listdir(tmp_path / "state"))
        assert json.loads(running.ctl("status", "--json").stdout)["pid"] == running.pid
        assert running.ctl("--pid", str(dead.pid), "status").returncode == 2
        assert running.ctl("shutdown", "--quick", "--wait").returncode == 0
        assert running.wait() == 1
