"""From ``package.module:function`` to a callable, or to one line that helps."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioipc.cli.target import TargetError, check_target, is_async, load_target

SOURCE = """
LIMIT = 3

def count_words(line): return len(line.split())

class Tools:
    @staticmethod
    def shout(line): return line.upper()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with modules, first on sys.path."""
    (tmp_path / "sample_jobs.py").write_text(SOURCE)
    (tmp_path / "sample_broken.py").write_text("\nimport sample_that_is_missing\n")
    (tmp_path / "sample_syntax.py").write_text("def f(:\n")
    (tmp_path / "sample_exit.py").write_text("raise SystemExit(4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_functions_are_found(directory: Path) -> None:
    assert check_target("sample_jobs:count_words", str(directory))("a b c") == 3
    assert check_target("sample_jobs:Tools.shout", str(directory))("a") == "A"
    assert check_target("os.path:basename", str(directory))("/a/b") == "b"


def test_workers_find_the_same(directory: Path) -> None:
    assert load_target("sample_jobs:Tools.shout")("a") == "A"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("sample_jobs", "is not of the form package.module:function"),
        (":f", "is not of the form package.module:function"),
        ("sample_jobs:", "is not of the form package.module:function"),
        ("tools/jobs.py:f", "names a file; name the module instead: tools.jobs:f"),
        ("./jobs.py", "names a file; name the module instead: jobs:FUNCTION"),
        ("sample_job:f", "no module named 'sample_job' (looked in DIR first); did you mean 'sample_jobs'?"),
        ("sample_jobs.more:f", "no module named 'sample_jobs.more' (looked in DIR first)"),
        ("sample_jobs:count_word", "'sample_jobs' has no function 'count_word'; did you mean 'count_words'?"),
        ("sample_jobs:Tools.shot", "'sample_jobs:Tools' has no function 'shot'; did you mean 'shout'?"),
        ("sample_jobs:xyz", "'sample_jobs' has no function 'xyz'"),
        ("sample_jobs:LIMIT", "'sample_jobs:LIMIT' is no function but of type int: 3"),
        (
            "sample_broken:f",
            "cannot import 'sample_broken': ModuleNotFoundError: No module named 'sample_that_is_missing'"
            " (DIR/sample_broken.py, line 2)",
        ),
        (
            "sample_syntax:f",
            "cannot import 'sample_syntax': SyntaxError: invalid syntax (DIR/sample_syntax.py, line 1)",
        ),
        ("sample_exit:f", "importing 'sample_exit' ended the program (exit code 4)"),
    ],
)
def test_mistakes_are_told_in_one_line(directory: Path, target: str, text: str) -> None:
    with pytest.raises(TargetError) as caught:
        check_target(target, str(directory))

    assert str(caught.value).endswith(text.replace("DIR", str(directory)))
    assert "\n" not in str(caught.value)


def test_async_functions_are_recognised() -> None:
    async def function(task: object) -> None: ...

    class Callable:
        async def __call__(self, task: object) -> None: ...

    assert is_async(function)
    assert is_async(functools.partial(function, 1))
    assert is_async(Callable())
    assert not is_async(len)
    assert not is_async(Callable)
