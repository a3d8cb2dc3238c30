"""Lists leave out what they may not look at, but not what they cannot look at for want of descriptors or memory.

Else a process that has run out of descriptors would find nobody, and take what is in use for left behind.
"""

from __future__ import annotations

import errno

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def raise_if_exhausted(error: OSError) -> None:
    """Raise the error again if it says that this process or system has run out of something."""
    if error.errno in _EXHAUSTED:
        raise error
