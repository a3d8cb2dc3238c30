"""What to say where there is no free descriptor: how many there may be, and who has said so."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def naming_the_limit(what: str) -> Iterator[None]:
    """Name the limit in the `OSError` of a body that gets no descriptor for ``what``; other errors pass."""
    try:
        yield
    except OSError as error:
        if (text := descriptor_limit(error.errno)) is None:
            raise
        raise OSError(error.errno, f"no descriptor is free for {what}: {text}") from None


def descriptor_limit(number: int | None) -> str | None:
    """Return which limit an errno speaks of, or ``None`` where it has nothing to do with descriptors."""
    if number == errno.EMFILE:
        return f"this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} (RLIMIT_NOFILE, ulimit -n)"
    return "all that the system may have are in use (fs.file-max)" if number == errno.ENFILE else None
