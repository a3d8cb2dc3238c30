"""Index the words of Python's own standard library on all cores, and lose a worker on the way.

    python examples/word_index.py [DIRECTORY] [--workers N] [--limit N] [--no-kill]

The master hands out one file at a time, the workers parse, the master merges what comes back. Half-way one
worker is killed with SIGKILL, as the kernel does when memory runs out: the file it had is tried again on
another worker and nothing is lost. To prove it, one process then does the same work alone, and the results
are compared.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import re
import signal
import sys
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import aioipc

console = Console(highlight=False)


# -- what a worker does: one file in, its facts out ---------------------------------------------------------


class Facts(TypedDict):
    """What we want to know about one file. A plain dict: quick to send from process to process."""

    lines: int
    words: Counter[str]
    functions: int
    comments: int
    longest: tuple[int, str, str]
    readable: bool


def read_facts(path: str) -> Facts:
    """Read and parse one file."""
    facts: Facts = {
        "lines": 0,
        "words": Counter(),
        "functions": 0,
        "comments": 0,
        "longest": (0, "", path),
        "readable": True,
    }
    try:
        with tokenize.open(path) as file:  # heeds the file's own "coding:" line
            text = file.read()
        facts["lines"] = text.count("\n")
        facts["words"] = Counter(re.findall(r"[A-Za-z]{3,}", text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        facts["comments"] = sum(token.type == tokenize.COMMENT for token in tokens)
    except (SyntaxError, ValueError, tokenize.TokenError):  # the library's tests keep broken files on purpose
        facts["readable"] = False
        return facts
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            facts["functions"] += 1
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            facts["longest"] = max(facts["longest"], (length, node.name, path))
    return facts


# -- what the master does: hand out the files, merge the facts ----------------------------------------------


@dataclass
class Index:
    """The facts of many files, merged. The order in which files arrive makes no difference."""

    files: int = 0
    unreadable: int = 0
    lines: int = 0
    functions: int = 0
    comments: int = 0
    longest: tuple[int, str, str] = (0, "", "")
    words: Counter[str] = field(default_factory=Counter)
    files_with: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Facts) -> None:
        self.files += 1
        self.unreadable += not facts["readable"]
        self.lines += facts["lines"]
        self.functions += facts["functions"]
        self.comments += facts["comments"]
        self.longest = max(self.longest, facts["longest"])
        self.words.update(facts["words"])
        self.files_with.update(facts["words"].keys())


async def index_in_pool(paths: list[str], workers: int | None, kill: bool) -> tuple[Index, aioipc.PoolStatistics]:
    index = Index()
    async with aioipc.Pool(workers) as pool:
        async with pool.map(read_facts, paths, ordered=False, retries=3) as results:
            with progress_bar("pool of workers", len(paths)) as advance:
                async for facts in results:
                    index.add(facts)
                    advance()
                    if kill and index.files == len(paths) // 2:
                        kill_a_worker(pool)
        return index, pool.statistics()


def kill_a_worker(pool: aioipc.Pool) -> None:
    """What the kernel's out-of-memory killer does: no warning, no clean-up."""
    victim = max(pool.statistics().workers, key=lambda worker: worker.in_flight)
    if victim.pid is not None:
        console.print(f"killing worker {victim.slot}, process {victim.pid}, with SIGKILL")
        os.kill(victim.pid, signal.SIGKILL)


def index_in_one_process(paths: list[str]) -> Index:
    index = Index()
    with progress_bar("one process", len(paths)) as advance:
        for path in paths:
            index.add(read_facts(path))
            advance()
    return index


# -- the rest: arguments, progress, the table ---------------------------------------------------------------


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(f"{title:16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        console.print(f"{title}: {total} files")
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda: progress.advance(bar)


def python_files(directory: Path, limit: int | None) -> list[str]:
    found = sorted(str(path) for path in directory.rglob("*.py") if "site-packages" not in path.parts)
    return found[:limit]


def show(index: Index, root: Path, statistics: aioipc.PoolStatistics, in_pool: float, alone: float) -> None:
    length, name, path = index.longest
    top_ten = index.words.most_common(10)
    table = Table(show_header=False)
    for label, value in {
        "files": f"{index.files:,}, {index.unreadable:,} of them broken",
        "lines": f"{index.lines:,}",
        "words": f"{index.words.total():,}, {len(index.words):,} different",
        "functions": f"{index.functions:,}",
        "comment lines": f"{index.comments:,}",
        "longest function": f"{name}, {length:,} lines, in {os.path.relpath(path, root)}",
        "most frequent words": "\n".join(
            f"{word:12} {count:>9,} in {index.files_with[word]:>5,} files" for word, count in top_ten
        ),
        "tasks retried": f"{statistics.retried:,}",
        "workers replaced": f"{statistics.restarts:,}",
        "pool of workers": f"{in_pool:.1f} s, {index.files / in_pool:,.0f} files/s",
        "one process": f"{alone:.1f} s, {index.files / alone:,.0f} files/s",
        "speed-up": f"{alone / in_pool:.1f} x with {len(statistics.workers)} workers",
    }.items():
        table.add_row(label, value)
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index the words of many Python files.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--workers", type=int, help="worker processes; by default one per CPU")
    parser.add_argument("--limit", type=int, help="take only so many files")
    parser.add_argument("--no-kill", action="store_true", help="spare the workers")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    paths = python_files(arguments.directory, arguments.limit)
    if not paths:
        console.print(f"no Python files in {arguments.directory}")
        return 1
    begin = time.perf_counter()
    index, statistics = aioipc.run(index_in_pool, paths, arguments.workers, not arguments.no_kill)
    in_pool = time.perf_counter() - begin
    begin = time.perf_counter()
    expected = index_in_one_process(paths)
    alone = time.perf_counter() - begin
    show(index, arguments.directory, statistics, in_pool, alone)
    if index != expected:
        console.print("the two results differ")
        return 1
    console.print("both results are equal: nothing was lost")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Ctrl-C in the part that uses no pool
        sys.exit(130)
