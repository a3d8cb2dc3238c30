"""Imports point downward: the floor plan of the package, held to.

Exempt are imports for type checkers alone, and the top-level ``__init__``, which hands out all names.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import aioipc

from .harness.imports import Import, cycles, imports, modules

FLOORS = {
    "exceptions": 0,
    "abc": 0,
    "_sys": 1,
    "wire": 1,
    "_loop": 2,
    "kernel": 3,
    "sync": 4,
    "channels": 4,
    "objects": 4,
    "rpc": 5,
    "supervisor": 6,
    "master": 7,
    "pool": 7,
    "monitor": 8,
    "cli": 9,
    "__main__": 9,
    "testing": 9,
}
MODULES = modules(Path(aioipc.__file__).parent)
CLI_MAY_USE = {"click", "rich", *sys.stdlib_module_names}


def room(module: str) -> str:
    """The part after ``aioipc.``; empty for the top level itself."""
    return module.split(".")[1] if "." in module else ""


def own_imports() -> list[tuple[Import, str]]:
    """Every run-time import of one of our modules by another, with the module that it reaches."""
    found = []
    for module, path in MODULES.items():
        for each in imports(module, path):
            if module != "aioipc" and not each.typing_only and each.target.split(".")[0] == "aioipc":
                inner = f"{each.target}.{each.name}"
                found.append((each, inner if inner in MODULES else each.target))
    return found


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} - {""} <= set(FLOORS)


def test_imports_point_downward() -> None:
    upward = []
    for each, target in own_imports():
        here, there = room(each.module), room(target)
        if here in ("cli", "__main__") and there in ("", "cli"):
            continue  # they stand on the public names
        if not there or (here != there and FLOORS[there] >= FLOORS[here]):
            upward.append(str(each))
    assert not upward, "\n".join(upward)


def test_no_circles() -> None:
    edges: defaultdict[str, set[str]] = defaultdict(set)
    for each, target in own_imports():
        if target not in ("aioipc", each.module):
            edges[each.module].add(target)
    circles = cycles(edges)
    assert not circles, "\n".join(" -> ".join(circle) for circle in circles)


def test_exceptions_import_nothing_of_ours() -> None:
    assert not [str(each) for each, _ in own_imports() if room(each.module) == "exceptions"]


def test_nothing_imports_testing() -> None:
    users = [str(each) for each, target in own_imports() if room(target) == "testing" != room(each.module)]
    assert not users, "\n".join(users)


def test_command_line_stands_on_the_public_api() -> None:
    wrong = []
    for module, path in MODULES.items():
        if room(module) != "cli":
            continue
        for each in imports(module, path):
            ours = each.target == "aioipc" and each.name in {"", "__version__", *aioipc.__all__}
            if not ours and room(each.target) != "cli" and each.target.split(".")[0] not in CLI_MAY_USE:
                wrong.append(str(each))
    assert not wrong, "\n".join(wrong)


def test_finds_upward_imports_and_circles(tmp_path: Path) -> None:
    """The walk itself: relative, absolute, inside functions, for type checkers only."""
    source = {
        "__init__": "from .a import x",
        "a": "from . import b\nimport p.c as c\ndef f():\n    from .sub import d",
        "b": "import typing\nif typing.TYPE_CHECKING:\n    from .a import x\nelse:\n    import json",
        "sub/__init__": "from ..a import x",
        "sub/d": "from . import e\nfrom .. import b",
    }
    (tmp_path / "p/sub").mkdir(parents=True)
    for name, text in source.items():
        (tmp_path / f"p/{name}.py").write_text(text)
    found = modules(tmp_path / "p")
    assert set(found) == {"p", "p.a", "p.b", "p.sub", "p.sub.d"}
    seen = [(each.module, each.target, each.name) for name in found for each in imports(name, found[name])]
    assert seen == [
        ("p", "p.a", "x"),
        ("p.a", "p", "b"),
        ("p.a", "p.c", ""),
        ("p.a", "p.sub", "d"),
        ("p.b", "typing", ""),
        ("p.b", "p.a", "x"),
        ("p.b", "json", ""),
        ("p.sub", "p.a", "x"),
        ("p.sub.d", "p.sub", "e"),
        ("p.sub.d", "p", "b"),
    ]
    assert [each.typing_only for each in imports("p.b", found["p.b"])] == [False, True, False]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c", "b"]]
