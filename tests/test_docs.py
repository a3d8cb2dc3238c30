"""Every Python block of the documentation runs: those of one page in order, in one namespace. TOML is a configuration.

A block under an HTML comment ``<!-- not run: reason -->`` is left out. Links lead somewhere (`make docs` looks at their
anchors too), the site has all pages, and the reference all names.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import aioipc
from aioipc.supervisor.config import parse_config

from .harness.markdown import blocks, program, python_blocks
from .harness.scripts import ROOT, run_script

DOCS = ROOT / "docs"
PAGES = [page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if page.exists()]

SAMPLE = """
# Page

```python
import asyncio
async def double(x):
    return 2 * x
```
Prose.

```python
assert asyncio.run(double(1)) == 2
```

<!-- not run: it would take
a day -->
```python
raise SystemExit("was run")
```

1. In a list:

   ```python
   print(await double(21))
   ```

```console
$ not python
```

```python

raise ValueError("here")
```
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path) -> None:
    run_script(program(page), timeout=50, cwd=tmp_path).check()


def test_blocks() -> None:
    assert [(block.line, block.skipped) for block in python_blocks(SAMPLE)] == [
        (5, None),
        (12, None),
        (18, "it would take\na day"),
        (24, None),
        (32, None),
    ]


def test_a_failing_block_is_found_by_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SAMPLE)
    done = run_script(program(page))
    assert done.returncode == 1
    assert done.stdout == "42\n"
    assert f'File "{page}", line 33' in done.stderr
    assert "ValueError: here" in done.stderr


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("[CE]*.md"), *ROOT.glob("examples/*.md")], ids=str)
def test_links(page: Path) -> None:
    """Files exist; a page of the site does not lead out of it."""
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            target = (page.parent / link).resolve()
            assert target.exists(), link
            assert DOCS not in page.parents or DOCS in target.parents, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configurations(page: Path) -> None:
    """Every TOML block is one of ours that can be read."""
    for block in blocks(page.read_text(), "toml"):
        if block.skipped is None:
            assert parse_config(block.code, directory="/srv").children, f"{page}:{block.line}"


def nav_pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for item in nav:
            yield from nav_pages(item)
    elif isinstance(nav, dict):
        yield from nav_pages([*nav.values()])


def test_the_site_has_every_page() -> None:
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    assert sorted(nav_pages(project["nav"])) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name() -> None:
    text = "".join(page.read_text() for page in DOCS.glob("reference/*.md"))
    assert not [name for name in aioipc.__all__ if not re.search(rf"\b{name}\b", text)]
