"""Fixtures of the tests of the command line."""

from __future__ import annotations

import pytest

from .in_process import Command


@pytest.fixture
def aioipc_command(capfd: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process."""
    return Command(capfd)
