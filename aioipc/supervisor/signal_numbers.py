"""Signals by name or number, as people write them (pure)."""

from __future__ import annotations

import signal


def signal_number(value: str | int) -> int:
    """Return the number of a signal: 1, "1", "HUP" or "SIGHUP".

    Raises ValueError where there is none of that name; a number is not checked.
    """
    text = str(value).upper()
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except KeyError:
        raise ValueError(f"there is no signal {value!r}") from None
