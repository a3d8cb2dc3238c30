"""Programs that receive signals, for tests that send them: each runs on a loop of choice, alone in its process.

A process of its own has no threads but its own, so that signals with values can be received, and may die.
"""

from __future__ import annotations

import textwrap

import pytest

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

_HEAD = """
import asyncio, os, signal, sys, threading, time
import aioipc, uvloop

RT = signal.SIGRTMIN
FACTORY = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
"""
_TAIL = """
with asyncio.Runner(loop_factory=FACTORY[%r]) as runner:
    runner.run(main())
"""


def program(loop: str, body: str, before: str = "") -> str:
    """The source of a program with ``body`` as its async main, and ``before`` ahead of it."""
    main = "async def main():\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f"{_HEAD}\n{textwrap.dedent(before)}\n{main}\n{_TAIL % loop}"
