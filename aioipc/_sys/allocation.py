"""Room for what is going to be written to a file (``fallocate(2)``, FALLOC_FL_KEEP_SIZE), and whether it may have it.

So a write either fails before anybody can see a part of it, or does not fail.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource

from .library import failure

_KEEP_SIZE = 1
_CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS}

_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def reserve(fd: int, offset: int, length: int) -> None:
    """Have the blocks of the disk for ``length`` bytes from ``offset`` on; the size of the file stays what it is.

    Raises `OSError` with ENOSPC or EDQUOT where there is no room, with EFBIG where the file may not be so large. File
    systems that cannot tell have no blocks to give beforehand: then it does nothing.
    """
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if most != resource.RLIM_INFINITY and offset + length > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    if _fallocate is not None and _fallocate(fd, _KEEP_SIZE, offset, length):
        error = failure()
        if error.errno not in _CANNOT:
            raise error
