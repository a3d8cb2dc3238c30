"""Who imports whom in a package, read from the source: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One name that one module imports: ``from target import name``, or ``import target`` with no name.

    ``typing_only``: it stands under ``if TYPE_CHECKING:``.
    """

    module: str
    line: int
    target: str
    name: str
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name} from {self.target}".replace(" None from", "")


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file, of a package and all below it; the package's own directory names the root."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> Iterator[Import]:
    """All imports of a module, also those inside functions."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    yield from _walk(ast.parse(path.read_bytes()), module, package, typing_only=False)


def _walk(node: ast.AST, module: str, package: str, typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module, node.lineno, alias.name, "", typing_only)
    elif isinstance(node, ast.ImportFrom):
        target = _absolute(node, package)
        for alias in node.names:
            yield Import(module, node.lineno, target, alias.name, typing_only)
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        for child in node.body:
            yield from _walk(child, module, package, typing_only=True)
        for child in node.orelse:
            yield from _walk(child, module, package, typing_only)
    else:
        for below in ast.iter_child_nodes(node):
            yield from _walk(below, module, package, typing_only)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *filter(None, [node.module])])


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other in a circle: one path for each circle that is found."""
    found: list[list[str]] = []
    finished: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in finished:
            for target in sorted(edges.get(module, ())):
                visit(target, [*way, module])
            finished.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found
