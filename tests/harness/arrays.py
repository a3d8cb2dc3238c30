"""NumPy without the threads that its algebra library starts on import, which the leak check would find."""

from __future__ import annotations

import os
from typing import Any

import pytest


def import_numpy() -> Any:
    """Return the module; skip the test where it is not installed."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return pytest.importorskip("numpy")
