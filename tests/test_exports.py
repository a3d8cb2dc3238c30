"""The public names: three lists that agree, and an import that stays cheap."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import aioipc

from .harness.imports import imports
from .harness.scripts import run_script


def type_checker_names() -> dict[str, str]:
    """Name -> module, as type checkers read it."""
    found = imports("aioipc", Path(aioipc.__file__))
    return {each.name: each.target for each in found if each.typing_only}


def test_lists_agree() -> None:
    assert len(set(aioipc.__all__)) == len(aioipc.__all__)
    assert set(aioipc.__all__) == set(aioipc._HOME_OF)
    assert type_checker_names() == aioipc._HOME_OF


def test_dir_shows_them() -> None:
    assert set(aioipc.__all__) <= set(dir(aioipc))


@pytest.mark.parametrize("name", aioipc.__all__)
def test_name(name: str) -> None:
    value = getattr(aioipc, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == name
        assert value.__doc__, f"{name} has no docstring"


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="'aioipc' has no attribute 'nonsense'"):
        _ = aioipc.nonsense


def test_import_is_cheap() -> None:
    heavy = "asyncio uvloop anyio rich click msgspec cloudpickle sysv_ipc multiprocessing"
    source = f"import aioipc, sys; print(*sorted(set({heavy!r}.split()) & set(sys.modules)))"
    assert run_script(source).check().stdout == "\n"
