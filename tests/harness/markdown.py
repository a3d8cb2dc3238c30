"""Fenced blocks of a Markdown page; those of Python made into one program that keeps the page's line numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\b[^\n]*\n(?P<code>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
_NOT_RUN = re.compile(r"<!--\s*not run: (?P<reason>.*?)\s*-->\s*$", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its first line in the page, its text, why it is not run (or None)."""

    line: int
    code: str
    skipped: str | None


def python_blocks(text: str) -> list[Block]:
    """All ```` ```python ```` blocks of a page, in order."""
    return blocks(text, "python")


def blocks(text: str, language: str) -> list[Block]:
    """All blocks of a page in this language, in order."""
    found = []
    for match in _FENCE.finditer(text):
        if match["language"] != language:
            continue
        before = text[: match.start()]
        skipped = _NOT_RUN.search(before)
        indent = len(match["indent"])
        code = "".join(line[indent:] or "\n" for line in match["code"].splitlines(keepends=True))
        found.append(Block(before.count("\n") + 2, code, skipped["reason"] if skipped else None))
    return found


def program(page: Path) -> str:
    """A script that runs the page's blocks in order in one namespace, that of ``__main__``.

    `await` may stand at the top of a block; such blocks share one loop. The others run outside of it, so that
    a page can show `run` itself.
    """
    wanted = [(block.line, block.code) for block in python_blocks(page.read_text()) if block.skipped is None]
    return f"""
import ast, asyncio, __main__

def run_block(runner, page, line, code):
    tree = ast.increment_lineno(ast.parse(code, page), line - 1)
    result = eval(compile(tree, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), vars(__main__))
    if result is not None:
        runner.run(result)

if __name__ == "__main__":
    with asyncio.Runner() as runner:
        for line, code in {wanted!r}:
            run_block(runner, {str(page)!r}, line, code)
"""
