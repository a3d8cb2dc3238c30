"""The plugin and the kit in somebody else's project: a folder with a conftest.py of its own, in a pytest of its own."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest

from ..harness.scripts import Finished, run_script

CONFTEST = 'pytest_plugins = ["aioipc.testing.plugin"]\n'


class Project:
    """A folder of tests; pytest runs there as its user would run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("conftest.py", CONFTEST)
        self.write("pytest.ini", "[pytest]\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text))

    def run(self, *options: str) -> Finished:
        source = "import pytest, sys; sys.exit(pytest.main())"
        return run_script(source, "-p", "no:cacheprovider", *options, timeout=50, cwd=self.folder, python=())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def counts(done: Finished) -> dict[str, int]:
    """What the last line of pytest says: outcome -> number."""
    return {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}


def test_a_leak_fails_the_test_and_names_what_leaked(project: Project) -> None:
    project.write("test_it.py", "import os\ndef test_it():\n    os.open('/dev/null', os.O_RDONLY)\n")
    done = project.run("-o", "aioipc_leak_deadline=0.01")
    assert done.returncode == 1, str(done)
    assert re.search(r"the test leaked\n +open descriptor \d+: /dev/null", done.stdout), str(done)
    assert "wider scope" not in done.stdout, str(done)


def test_what_a_test_may_leak(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import os, pytest, subprocess
        @pytest.mark.may_leak("open descriptor")
        def test_allowed():
            os.open("/dev/null", os.O_RDONLY)
        @pytest.mark.may_leak("thread", "signal handler", "process state", "descendant process")
        def test_other():
            os.open("/dev/null", os.O_RDONLY)
        @pytest.mark.may_leak("descriptor")
        def test_unknown():
            pass
        """,
    )
    done = project.run("--strict-markers", "-o", "aioipc_leak_deadline=0.01")
    assert re.search(r"test_other.*\n.*the test leaked\n +open descriptor", done.stdout), str(done)
    assert "there is no kind of leak 'descriptor'; there are open descriptor, thread" in done.stdout, str(done)
    assert counts(done)["error"] == 2, str(done)


@pytest.mark.parametrize("private", ["true", "false"])
@pytest.mark.parametrize("reaper", ["true", "false"])
def test_options(project: Project, private: str, reaper: str) -> None:
    project.write("pytest.ini", f"[pytest]\naioipc_private_ipc = {private}\naioipc_reaper = {reaper}\n")
    project.write(
        "test_it.py",
        """
        import os, pytest
        from aioipc.testing.plugin import ISOLATION
        from aioipc.testing.reaper import reaper_pid
        def test_it(request):
            print(request.config.stash[ISOLATION].private, reaper_pid() is not None)
        """,
    )
    done = project.run("-s").check()
    allowed = run_script("from aioipc.testing import namespaces as n; n.private_mounts(); n.unshare(n.CLONE_NEWIPC)")
    assert f"{private == 'true' and allowed.returncode == 0} {reaper == 'true'}" in done.stdout, str(done)


def test_without_pytest_asyncio(project: Project) -> None:
    project.write("test_it.py", "def test_it(kill_points):\n    assert kill_points.points == []\n")
    assert counts(project.run("-p", "no:asyncio").check()) == {"passed": 1}


def test_kill_points(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import os, aioipc, pytest
        @pytest.mark.asyncio
        async def test_a_crash_is_retried(kill_points):
            point = kill_points.arm("mid-task", "kill")
            async with aioipc.Pool(1) as pool:
                assert await pool.submit(len, "four", retries=1) == 4
                assert pool.statistics().crashes == 1
            assert point.was_hit
        @pytest.mark.asyncio
        async def test_held_and_disarmed(kill_points):
            point = kill_points.arm("task-received", "exit", held=True)
            async with aioipc.Pool(1) as pool:
                assert await pool.run(len, "four") == 4
                assert not point.was_hit
                point.release()
                assert await pool.run(len, "four") == 4
                assert point.was_hit
            kill_points.disarm()
            assert "AIOIPC_FAILPOINTS" not in os.environ
            with pytest.raises(ValueError, match="no kill point is called 'middle'; there are .*mid-task"):
                kill_points.arm("middle", "kill")
            with pytest.raises(ValueError, match="no action is called 'hurt'; there are kill, stop"):
                kill_points.arm_always("idle", "hurt")
        def test_environment_is_restored():
            assert "AIOIPC_FAILPOINTS" not in os.environ
        """,
    )
    assert counts(project.run().check()) == {"passed": 3}


def test_without_pytest_the_extra_is_named(tmp_path: Path) -> None:
    """With site-packages switched off (-S), and of what is there only what aioipc itself needs."""
    for name in ("aioipc", "anyio", "idna", "sniffio", "typing_extensions"):
        if spec := importlib.util.find_spec(name):
            place = Path(spec.origin or "")
            place = place.parent if place.name == "__init__.py" else place
            (tmp_path / place.name).symlink_to(place)
    source = """
        import aioipc.exceptions
        import aioipc.testing
    """
    done = run_script(source, python=("-S",), env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: aioipc.testing needs pytest; install it with: pip install 'aioipc[testing]'"


def test_the_room_is_not_imported_by_the_package() -> None:
    source = """
        import aioipc, sys
        for name in aioipc.__all__:
            getattr(aioipc, name)
        print([name for name in sys.modules if name.startswith(("aioipc.testing", "pytest", "_pytest"))])
    """
    assert run_script(source).check().stdout == "[]\n"


SUITE = """
    import aioipc, pytest
    from aioipc.testing.conformance import ByteStreamConformance

    @pytest.mark.{mark}
    class TestMine(ByteStreamConformance):
        test_statistics = None

        async def make_pair(self):
            receive, send = aioipc.create_pipe()
            return send, receive
"""
ANYIO = """
    import pytest

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""


@pytest.mark.parametrize("mark", ["asyncio", "anyio"])
def test_conformance_suites(project: Project, mark: str) -> None:
    """As plain classes under pytest-asyncio in its strict mode, and under anyio's plugin without the other."""
    project.write("test_it.py", SUITE.replace("{mark}", mark))
    if mark == "anyio":
        project.write("conftest.py", CONFTEST + textwrap.dedent(ANYIO))
    done = project.run(*(["-p", "no:asyncio"] if mark == "anyio" else []))
    assert counts(done.check()).keys() == {"passed", "skipped"}, str(done)
    assert counts(done)["passed"] > 25


def test_conformance_failures_say_what_was_wrong(project: Project) -> None:
    """The assertions in the suites are rewritten as those of a test file are."""
    project.write(
        "test_it.py",
        """
        import aioipc, pytest
        from aioipc.testing.conformance import ByteStreamConformance

        class Shouting(aioipc.PipeReceiveStream):
            async def receive(self, max_bytes=65536):
                return (await super().receive(max_bytes)).upper()

        @pytest.mark.asyncio
        class TestMine(ByteStreamConformance):
            async def make_pair(self):
                receive, send = aioipc.create_pipe()
                return send, Shouting(receive.detach())

        @pytest.mark.asyncio
        class TestUnfinished(ByteStreamConformance):
            pass
        """,
    )
    done = project.run("-k", "test_what_is_sent_is_received")
    assert "AssertionError: assert b'HELLO WORLD' == b'hello world'" in done.stdout, str(done)
    assert "NotImplementedError: a conformance class needs a method make_pair() -> (send, receive)" in done.stdout
