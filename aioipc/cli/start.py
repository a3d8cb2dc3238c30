"""Where the command ``aioipc`` begins, before anything is imported that takes time.

A service manager or an impatient hand may send a signal to ``aioipc run`` right after it was started: that is to wait
until there is a master who hears it, and not to end the process halfway, or to stop it (SIGTTIN).
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

MASTER_SIGNALS = tuple(
    getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "USR1", "USR2", "WINCH")
)
"""What a master hears."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["run"]:
        hold_signals()
    from .main import main

    main()


def hold_signals() -> None:
    """Block the signals of a master, for good: what comes before and after it hears them waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, MASTER_SIGNALS)
