"""What an option may be, with errors that name it and say what is allowed (pure)."""

from __future__ import annotations

import math

MAX_REPLICAS = 1000
"""More is taken for a slip: the master looks at all of them at each event, and would do nothing else."""


def check_count(name: str, value: object) -> int:
    """Return the whole number; raises TypeError where it is none, ValueError below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def check_replicas(value: object) -> int:
    """Return the number of replicas; raises TypeError where it is none, ValueError where it is not 1 to 1000."""
    number = check_count("replicas", value)
    if number > MAX_REPLICAS:
        raise ValueError(f"replicas must be at most {MAX_REPLICAS}, not {number}")
    return number


def check_seconds(name: str, value: object, least: float = 0.0) -> float:
    """Return the number of seconds; raises TypeError where it is none, ValueError below ``least`` or without end."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not value >= least or math.isinf(value):
        raise ValueError(f"{name} must be at least {least:g} s and finite, not {value}")
    return float(value)


def check_positive_seconds(name: str, value: object) -> float:
    """The same for a time that cannot be 0."""
    if not check_seconds(name, value):
        raise ValueError(f"{name} must be more than 0 s")
    return float(value)  # type: ignore[arg-type]


def check_fraction(name: str, value: object) -> float:
    """Return the number between 0 and 1; raises TypeError or ValueError where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, not {value}")
    return float(value)
