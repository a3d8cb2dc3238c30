"""A command run in this process, which is the same and much quicker than a process of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from aioipc.cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class Command:
    """Calls ``aioipc`` with words, split at spaces."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, words: str, *more: object) -> Ended:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as exit:
            main([*words.split(), *map(str, more)])
        out, err = self._capture.readouterr()
        assert isinstance(exit.value.code, int | None)
        return Ended(exit.value.code or 0, out, err)

    def ok(self, words: str, *more: object) -> str:
        """The output, without the last newline, of a command that must succeed in silence."""
        ended = self(words, *more)
        assert (ended.code, ended.stderr) == (0, ""), ended
        return ended.stdout.removesuffix("\n")

    def refused(self, words: str, *more: object, code: int = 2) -> str:
        """What it said, in one line, when it failed."""
        ended = self(words, *more)
        assert (ended.code, ended.stdout) == (code, ""), ended
        (line,) = ended.stderr.splitlines()
        return line
