"""The testing kit: for the tests of programs and objects that use aioipc, and for aioipc's own.

    aioipc.testing.conformance   what every byte stream and every channel must do, as classes to inherit from
    aioipc.testing.kill_points   make workers die, stop or hang at named points of their lives
    aioipc.testing.plugin        a pytest plugin: no test leaves a process, descriptor, thread, file or object
    aioipc.testing.waiting       wait for something to become true, with a deadline and without a sleep
    aioipc.testing.processes     look at processes through /proc

It stands on pytest, which aioipc itself does not need: ``pip install 'aioipc[testing]'``. Nothing of aioipc
imports it.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ImportError("aioipc.testing needs pytest; install it with: pip install 'aioipc[testing]'")
