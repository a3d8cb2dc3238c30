"""The CPU quota and the out-of-memory kills are found in every shape that a tree of control groups has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aioipc._sys.cgroup import (
    cpu_quota,
    killed_as_a_whole,
    memory_limit,
    memory_use,
    oom_kills,
    task_use,
    usable_cpus,
)

from ..harness.scripts import run_script


def make(folder: Path, **files: str) -> None:
    """Make a group with these files; ``__`` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def quota(cpus: float) -> dict[str, str]:
    return {"cpu__cfs_quota_us": str(int(cpus * 100_000)), "cpu__cfs_period_us": "100000"}


# -- version 2 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", None),
        ("max", None),
        ("150000 100000", 1.5),
        ("50000 100000", 0.5),
        ("1000 1000000", 0.001),
        ("400000", 4.0),
    ],
)
def test_v2_quota(tmp_path: Path, text: str, cpus: float | None) -> None:
    make(tmp_path / "a", cpu__max=text)
    assert cpu_quota(tmp_path, "0::/a\n") == cpus


@pytest.mark.parametrize(
    ("outer", "middle", "inner", "cpus"),
    [
        ("max 100000", "max 100000", "max 100000", None),
        ("800000 100000", "200000 100000", "max 100000", 2.0),
        ("800000 100000", "200000 100000", "100000 100000", 1.0),
        ("50000 100000", "200000 100000", "100000 100000", 0.5),
    ],
)
def test_v2_strictest_limit_up_the_tree(
    tmp_path: Path, outer: str, middle: str, inner: str, cpus: float | None
) -> None:
    make(tmp_path, cpu__max=outer)
    make(tmp_path / "a", cpu__max=middle)
    make(tmp_path / "a/b", cpu__max=inner)
    assert cpu_quota(tmp_path, "0::/a/b\n") == cpus


def test_v2_controller_that_is_not_enabled_in_the_group(tmp_path: Path) -> None:
    make(tmp_path / "a", cpu__max="300000 100000")
    make(tmp_path / "a/b/c")
    assert cpu_quota(tmp_path, "0::/a/b/c\n") == 3.0


def test_v2_sibling_groups_do_not_count(tmp_path: Path) -> None:
    make(tmp_path / "a", cpu__max="300000 100000")
    make(tmp_path / "b", cpu__max="100000 100000")
    assert cpu_quota(tmp_path, "0::/a\n") == 3.0


def test_v2_in_a_container_that_shows_the_path_of_the_host(tmp_path: Path) -> None:
    make(tmp_path, cpu__max="250000 100000", memory__events="low 0\noom 2\noom_kill 1")
    membership = "0::/system.slice/docker-0123456789abcdef.scope\n"
    assert cpu_quota(tmp_path, membership) == 2.5
    assert oom_kills(tmp_path, membership) == 1


def test_v2_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, cpu__max="250000 100000")
    assert cpu_quota(tmp_path, "0::/\n") == 2.5


def test_v2_kills_in_the_group_itself_come_first(tmp_path: Path) -> None:
    make(tmp_path, memory__events="oom_kill 9")
    make(tmp_path / "a", memory__events__local="oom 4\noom_kill 3\noom_group_kill 0", memory__events="oom_kill 5")
    assert oom_kills(tmp_path, "0::/a\n") == 3


def test_v2_kills_before_local_events_existed(tmp_path: Path) -> None:
    make(tmp_path / "a", memory__events="low 0\nhigh 0\nmax 7\noom 7\noom_kill 5")
    assert oom_kills(tmp_path, "0::/a\n") == 5


def test_v2_kills_where_only_an_outer_group_counts_them(tmp_path: Path) -> None:
    make(tmp_path / "a", memory__events="oom_kill 2")
    make(tmp_path / "a/b")
    assert oom_kills(tmp_path, "0::/a/b\n") == 2


# -- version 1 and both at once ----------------------------------------------------------------------

V1 = "12:cpu,cpuacct:/a/b\n11:memory:/a/b\n3:cpuset:/\n1:name=systemd:/user.slice/cpu\n"


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_v1_quota(tmp_path: Path, name: str) -> None:
    make(tmp_path / name / "a/b", **quota(1.5))
    assert cpu_quota(tmp_path, V1) == 1.5


def test_v1_without_a_quota(tmp_path: Path) -> None:
    make(tmp_path / "cpu/a/b", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path, V1) is None


def test_v1_strictest_limit_up_the_tree(tmp_path: Path) -> None:
    make(tmp_path / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    make(tmp_path / "cpu/a", **quota(2))
    make(tmp_path / "cpu/a/b", **quota(4))
    assert cpu_quota(tmp_path, V1) == 2.0


def test_v1_in_a_container_that_shows_the_path_of_the_host(tmp_path: Path) -> None:
    make(tmp_path / "cpu,cpuacct", **quota(3))
    make(tmp_path / "memory", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 4")
    assert cpu_quota(tmp_path, V1) == 3.0
    assert oom_kills(tmp_path, V1) == 4


def test_v1_kills(tmp_path: Path) -> None:
    make(tmp_path / "memory/a/b", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    assert oom_kills(tmp_path, V1) == 2


def test_v1_kills_are_not_counted_by_old_kernels(tmp_path: Path) -> None:
    make(tmp_path / "memory/a/b", memory__oom_control="oom_kill_disable 0\nunder_oom 0")
    assert oom_kills(tmp_path, V1) is None


def test_v1_folder_of_another_controller_does_not_count(tmp_path: Path) -> None:
    make(tmp_path / "cpuset", **quota(1))
    make(tmp_path / "name=systemd/user.slice/cpu", **quota(1))
    assert cpu_quota(tmp_path, V1) is None


def test_hybrid_memory_in_v2_and_cpu_in_v1(tmp_path: Path) -> None:
    make(tmp_path / "cpu,cpuacct/a", **quota(2))
    make(tmp_path / "unified/x", memory__events="oom_kill 6")
    membership = "4:cpu,cpuacct:/a\n0::/x\n"
    assert cpu_quota(tmp_path, membership) == 2.0
    assert oom_kills(tmp_path, membership) == 6


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outer", "middle", "inner", "limit"),
    [
        ("max", "max", "max", None),
        ("1000000", "max", "max", 1_000_000),
        ("max", "3000000", "2000000", 2_000_000),
        ("1000000", "3000000", "2000000", 1_000_000),
        ("max", "", "5000000", 5_000_000),
        ("max", "nonsense", "5000000", 5_000_000),
        ("9223372036854771712", "max", "max", None),
        ("0", "max", "max", 0),
    ],
)
def test_v2_memory(tmp_path: Path, outer: str, middle: str, inner: str, limit: int | None) -> None:
    make(tmp_path, memory__max=outer)
    make(tmp_path / "a", memory__max=middle)
    make(tmp_path / "a/b", memory__max=inner)
    assert memory_limit(tmp_path, "0::/a/b\n") == limit


def test_v2_memory_controller_that_is_not_enabled_in_the_group(tmp_path: Path) -> None:
    make(tmp_path / "a", memory__max="3000000")
    make(tmp_path / "a/b/c", cpu__max="max")
    make(tmp_path / "d", memory__max="1000000")
    assert memory_limit(tmp_path, "0::/a/b/c\n") == 3_000_000


def test_v2_memory_in_a_container_that_shows_the_path_of_the_host(tmp_path: Path) -> None:
    make(tmp_path, memory__max="4000000")
    assert memory_limit(tmp_path, "0::/system.slice/docker-0123456789abcdef.scope\n") == 4_000_000


@pytest.mark.parametrize(
    ("outer", "inner", "limit"),
    [
        ("9223372036854771712", "9223372036854771712", None),
        ("9223372036854771712", "2000000", 2_000_000),
        ("1000000", "2000000", 1_000_000),
        ("9223372036854775807", "-1", None),
    ],
)
def test_v1_memory(tmp_path: Path, outer: str, inner: str, limit: int | None) -> None:
    make(tmp_path / "memory/a", memory__limit_in_bytes=outer)
    make(tmp_path / "memory/a/b", memory__limit_in_bytes=inner)
    make(tmp_path / "cpu/a/b", memory__limit_in_bytes="1")
    assert memory_limit(tmp_path, V1) == limit


def test_hybrid_memory_limits(tmp_path: Path) -> None:
    make(tmp_path / "memory/a", memory__limit_in_bytes="7000000")
    make(tmp_path / "unified/x", memory__max="max")
    assert memory_limit(tmp_path, "4:memory:/a\n0::/x\n") == 7_000_000


# -- nothing, odd things, the machine ----------------------------------------------------------------


@pytest.mark.parametrize("membership", ["", "0::/a\n", V1, "0::/../../..\n"])
def test_nothing_is_known_where_nothing_is_mounted(tmp_path: Path, membership: str) -> None:
    root = tmp_path / "a/b/c/d"
    assert cpu_quota(root, membership) is None
    assert oom_kills(root, membership) is None
    assert memory_limit(root, membership) is None


def test_a_colon_in_the_name_of_a_group(tmp_path: Path) -> None:
    make(tmp_path / "a:b", cpu__max="100000 100000")
    assert cpu_quota(tmp_path, "0::/a:b\n") == 1.0


def test_this_machine() -> None:
    cpus, kills, memory = cpu_quota(), oom_kills(), memory_limit()
    assert memory is None or memory > 1 << 20
    assert cpus is None or cpus > 0
    assert kills is None or kills >= 0
    assert usable_cpus() == len(os.sched_getaffinity(0))


def test_affinity_counts() -> None:
    source = """
        import os
        from aioipc._sys.cgroup import usable_cpus
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(usable_cpus())
    """
    assert run_script(source).check().stdout == "1\n"


@pytest.mark.parametrize("name", ["aioipc-test", "aioipc-tést", "aioipc-\udcff"], ids=ascii)
def test_a_real_group(name: str) -> None:
    source = """
        import os, sys
        from pathlib import Path
        from aioipc._sys.cgroup import cpu_quota

        root = Path("/sys/fs/cgroup")
        top = root / "cpu" if (root / "cpu").is_dir() else root
        [path] = [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()
                  if line.split(":")[1] in (("cpu", "cpu,cpuacct") if top != root else ("",))]
        home = top / path.lstrip("/")
        group = home / f"{sys.argv[1]}-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            print("cannot:", error)
            sys.exit()
        try:
            before = cpu_quota()
            try:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                if top != root:
                    (group / "cpu.cfs_quota_us").write_text("25000")
                else:
                    (group / "cpu.max").write_text("25000 100000")
            except OSError as error:
                print("cannot:", error)
            else:
                assert before is None or before > 0.25
                print(cpu_quota())
            (home / "cgroup.procs").write_text(str(os.getpid()))
        finally:
            group.rmdir()
    """
    done = run_script(source, name).check()
    if done.stdout.startswith("cannot"):
        pytest.skip(f"no control group of our own here: {done.stdout.strip()}")
    assert done.stdout == "0.25\n"


# -- what is used ------------------------------------------------------------------------------------


def test_use_of_memory_and_tasks(tmp_path: Path) -> None:
    """The group with the least room counts, under both versions; without limits the innermost."""
    make(tmp_path / "a" / "b", memory__max="max", memory__current="100", pids__max="50", pids__current="20")
    make(tmp_path / "a", memory__max="1000", memory__current="900", pids__max="max", pids__current="40")
    assert memory_use(tmp_path, "0::/a/b") == (1000, 900)
    assert task_use(tmp_path, "0::/a/b") == (50, 20)
    make(tmp_path / "memory" / "c", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="77")
    assert memory_use(tmp_path, "4:memory:/c") == (None, 77)
    assert task_use(tmp_path, "4:memory:/c") is None


def test_killed_as_a_whole(tmp_path: Path) -> None:
    make(tmp_path / "a" / "b", memory__oom__group="0")
    assert killed_as_a_whole(tmp_path, "0::/a/b") is False
    make(tmp_path / "a", memory__oom__group="1")
    assert killed_as_a_whole(tmp_path, "0::/a/b") is True
    assert killed_as_a_whole(tmp_path, "4:memory:/c") is None
