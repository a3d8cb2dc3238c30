"""Every option of a pool is looked at before anything is started, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import inspect
import math
import os
from typing import Any

import pytest

import aioipc
from aioipc.pool.options import check_count, check_fraction, check_positive_seconds, check_seconds

from ..harness.processes import descendants

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE")
COUNTS = ("workers", "min_workers", "max_tasks", "max_memory", "max_pending", "max_pending_bytes")
MAY_BE_ZERO = ("idle_timeout", "grace", "shutdown", "spin")
MORE_THAN_ZERO = ("boot_timeout", "max_age")


def refused(**options: Any) -> Exception:
    with pytest.raises((TypeError, ValueError)) as caught:
        aioipc.Pool(**options)
    return caught.value


@pytest.mark.parametrize("name", [*COUNTS, "concurrency"])
def test_whole_numbers(name: str) -> None:
    for bad in (1.0, "1", True, b"1", [1]):
        error = refused(**{name: bad})
        assert type(error) is TypeError, bad
        assert str(error) == f"{name} must be a whole number, not {bad!r}"
    for bad in (0, -1):
        error = refused(**{name: bad})
        assert type(error) is ValueError, bad
        assert str(error) == f"{name} must be at least 1, not {bad}"
    aioipc.Pool(**{"workers": 1, name: 1})  # type: ignore[arg-type]
    if name in COUNTS:
        aioipc.Pool(**{name: None})  # type: ignore[arg-type]
    else:
        assert type(refused(**{name: None})) is TypeError


@pytest.mark.parametrize("name", [*MAY_BE_ZERO, *MORE_THAN_ZERO, "heartbeat_timeout"])
def test_seconds(name: str) -> None:
    for bad in ("1", True, b"", [1.0], 1j):
        error = refused(**{name: bad})
        assert type(error) is TypeError, bad
        assert str(error) == f"{name} must be a number of seconds, not {bad!r}"
    for bad in (-1, -0.001, math.inf, -math.inf, math.nan):
        error = refused(**{name: bad})
        assert type(error) is ValueError, bad
        assert str(error).startswith(f"{name} must be at least")
    if name == "heartbeat_timeout":
        assert "at least 4 s" in str(refused(heartbeat_timeout=3.99))
    elif name in MORE_THAN_ZERO:
        assert str(refused(**{name: 0})) == f"{name} must be more than 0 s"
    else:
        aioipc.Pool(**{name: 0})  # type: ignore[arg-type]
    aioipc.Pool(**{name: 5})  # type: ignore[arg-type]
    aioipc.Pool(**{name: 5.5})  # type: ignore[arg-type]
    if name == "max_age":
        aioipc.Pool(max_age=None)
    else:
        assert type(refused(**{name: None})) is TypeError


def test_jitter() -> None:
    for bad in ("0", True, None, [0]):
        assert str(refused(jitter=bad)) == f"jitter must be a number, not {bad!r}"
    for bad in (-0.1, 1.1, math.nan, math.inf):
        assert str(refused(jitter=bad)) == f"jitter must be between 0 and 1, not {bad}"
    for good in (0, 0.5, 1, 1.0):
        aioipc.Pool(jitter=good)


def test_functions() -> None:
    for name in ("initializer", "finalizer"):
        for bad in (1, "module:function", [], {}):
            error = refused(**{name: bad})
            assert type(error) is TypeError
            assert str(error) == f"{name} must be a function, not {bad!r}"
    bad_arguments: Any
    for bad_arguments in ([1], 1, "ab", None, {1: 2}):
        error = refused(initializer=print, initargs=bad_arguments)
        assert type(error) is TypeError
        assert str(error) == f"initargs must be a tuple, not {bad_arguments!r}"
    error = refused(initargs=(1,))
    assert type(error) is ValueError
    assert "initargs without an initializer" in str(error)
    aioipc.Pool(initializer=print, initargs=(1,), finalizer=print)


def test_context_variables() -> None:
    bad: Any
    for bad in (1, None, VARIABLE):
        error = refused(contextvars=bad)
        assert type(error) is TypeError
        assert str(error) == f"contextvars must be a sequence of ContextVar objects, not {bad!r}"
    for bad in ("name", [1], [VARIABLE, "name"]):
        error = refused(contextvars=bad)
        assert type(error) is TypeError
        assert str(error).startswith("contextvars must be ContextVar objects, not ")
    aioipc.Pool(contextvars=[VARIABLE])
    aioipc.Pool(contextvars=())


def test_names() -> None:
    bad: Any
    for bad in ("json", 1, None, [1], ["json", None]):
        error = refused(preload=bad)
        assert type(error) is TypeError, bad
        assert str(error) == f"preload must be a sequence of module names, not {bad!r}"
    for bad in ("fork", "", None, 1):
        error = refused(start_method=bad)
        assert type(error) is ValueError
        assert str(error) == f"start_method must be 'zygote' or 'spawn', not {bad!r}"


def test_what_fits_not_together(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(workers=2, min_workers=3)
    assert type(error) is ValueError
    assert str(error) == "min_workers is 3, more than the 2 workers"
    aioipc.Pool(workers=3, min_workers=3)
    assert type(refused(nonsense=1)) is TypeError


def test_a_spec_takes_what_a_pool_takes() -> None:
    assert inspect.signature(aioipc.Pool) == inspect.signature(aioipc.PoolSpec)
    options: dict[str, Any] = {"min_workers": 1, "preload": ["json"], "contextvars": [VARIABLE], "capture": print}
    spec = aioipc.PoolSpec(2, **options)
    assert spec == aioipc.PoolSpec(workers=2, **options)
    assert (spec.preload, spec.contextvars) == (("json",), (VARIABLE,))
    assert repr(spec.new_pool()) == "<Pool of 2, not open>"
    assert repr(aioipc.PoolSpec(3, grace=1)) == "PoolSpec(workers=3, grace=1)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.workers = 3  # type: ignore[misc]
    assert dataclasses.replace(spec, workers=3).workers == 3
    with pytest.raises(ValueError, match="min_workers is 3, more than the 2 workers"):
        dataclasses.replace(spec, min_workers=3)
    with pytest.raises(TypeError):
        aioipc.PoolSpec(nonsense=1)  # type: ignore[call-arg]


def test_nothing_was_started() -> None:
    for options in ({"jitter": 2}, {"contextvars": [1]}, {"boot_timeout": 0}, {"max_pending": 0}):
        refused(**options)
    assert not descendants(os.getpid())


def test_the_checks_return_what_they_checked() -> None:
    assert check_count("n", 3) == 3
    for check in (check_seconds, check_positive_seconds, check_fraction):
        assert check("n", 1) == 1.0
        assert type(check("n", 1)) is float


async def test_more_workers_at_least_than_there_are_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """``min_workers`` alone does not make the pool larger than its default."""
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    async with asyncio.timeout(30), aioipc.Pool(min_workers=5) as pool:
        assert len(pool.statistics().workers) == 1
