"""The leak check finds what it says: tests that leak on purpose are run in a pytest of their own."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..harness.scripts import ROOT, run_script

LEAKS = {
    "test_descriptor": r"open descriptor \d+: pipe:",
    "test_closed_descriptor": r"open descriptor \d+ is gone; it was /dev/null",
    "test_socket_without_close": r"ResourceWarning|unclosed.*socket",
    "test_socket_in_a_cycle": r"ResourceWarning|unclosed.*socket",
    "test_thread": r"thread \d+: <Thread\(left-over",
    "test_child": r"descendant process: .*sleep 1000",
    "test_zombie": r"descendant process: .*\(true\) state Z",
    "test_daemon": r"descendant process: .*sleep 1000",
    "test_stopped_family": r"(?s)descendant process: .*state T.*sleep 1000.*sleep 1000",
    "test_sysv_queue": r"System V object \('msg'",
    "test_sysv_semaphore": r"System V object \('sem'",
    "test_sysv_memory": r"System V object \('shm'",
    "test_shared_memory_file": r"shared memory file aioipc-left",
    "test_owner_record": r"owner record sysv-queue\.new\.\w{16}\.owner",
    "test_temporary_file": r"temporary file aioipc-left",
    "test_memfd_mapping": r"shared mapping .*/memfd:left",
    "test_handler": r"signal handler <Signals.SIGUSR1: 10> was .*SIG_DFL.* is <function",
    "test_ignored_signal": r"process state ignored signals was SIGPIPE, SIGXFSZ, is SIGPIPE, SIGXFSZ, 35",
    "test_mask": r"blocked signals was none, is SIGUSR2",
    "test_wakeup_descriptor": r"wake-up descriptor was -1, is \d+",
    "test_directory": r"working directory was .*, is /",
    "test_umask": r"umask was 00\d\d, is 0077",
    "test_task[asyncio]": r"left tasks\s+<Task pending name='left-over'",
    "test_task[uvloop]": r"left tasks\s+<Task pending name='left-over'",
    "test_loop_handler[asyncio]": r"ignored signals was SIGPIPE, SIGXFSZ, is SIGXFSZ",
    "test_loop_handler[uvloop]": r"ignored signals was SIGPIPE, SIGXFSZ, is SIGXFSZ",
}


def outcomes_of(sample: str, directory: Path, deadline: float) -> dict[str, str]:
    """Test name -> what its failures and errors say; nothing where it passed."""
    xml = directory / "report.xml"
    options = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "--junit-xml", str(xml)]
    options += ["-o", f"aioipc_leak_deadline={deadline}"]
    finished = run_script(
        "import pytest, sys; sys.exit(pytest.main())",
        *options,
        str(ROOT / "tests/harness/samples" / sample),
        timeout=50,
        python=(),
    )
    assert xml.exists(), str(finished)
    found: defaultdict[str, str] = defaultdict(str)
    for case in ElementTree.parse(xml).iter("testcase"):
        faults = [part for part in case if part.tag in ("failure", "error")]
        found[case.get("name", "")] += "".join(f"{part.get('message')}\n{part.text}" for part in faults)
    return dict(found)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return outcomes_of("leaking.py", tmp_path_factory.mktemp("leaks"), deadline=0.02)


@pytest.mark.parametrize("name", LEAKS)
def test_names_the_leak(outcomes: dict[str, str], name: str) -> None:
    assert re.search(LEAKS[name], outcomes[name]), outcomes[name]


def test_blames_no_other(outcomes: dict[str, str]) -> None:
    blamed = {name for name, text in outcomes.items() if text}
    assert blamed - {"test_failing_with_socket"} == set(LEAKS)
    assert {"test_clean_after_a_failure", "test_clean_at_the_end"} <= set(outcomes)


def test_sees_no_leak_where_there_is_none(tmp_path: Path) -> None:
    outcomes = outcomes_of("clean.py", tmp_path, deadline=5)
    assert len(outcomes) >= 8
    assert not "".join(outcomes.values())
