"""A real seccomp filter that refuses system calls by number, as container runtimes install them.

The filter cannot be taken back and goes on to all children, over fork and exec.
"""

from __future__ import annotations

import ctypes
import platform
import struct

from .linux import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

PIDFD_OPEN = 434
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_SECCOMP_MODE_FILTER = 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_AT_NUMBER, _AT_ARCHITECTURE = 0, 4  # offsets in struct seccomp_data


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse(numbers: list[int], errno: int) -> None:
    """From here on these system calls of this process and its children fail with the errno."""
    code = b"".join(_program(numbers, errno))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)


def refuse_pidfd_and_memfd(errno: int) -> None:
    """What an old or strict container runtime does to pidfd_open and memfd_create."""
    refuse([PIDFD_OPEN, MEMFD_CREATE[platform.machine()]], errno)


def _program(numbers: list[int], errno: int) -> list[bytes]:
    """Another architecture: allow. A number of the list: errno. All else: allow."""
    count = len(numbers)
    return [
        _instruction(_LOAD_WORD, _AT_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, _AUDIT_ARCH[platform.machine()], if_false=count + 1),
        _instruction(_LOAD_WORD, _AT_NUMBER),
        *(_instruction(_JUMP_IF_EQUAL, number, if_true=count - i) for i, number in enumerate(numbers)),
        _instruction(_RETURN, _RET_ALLOW),
        _instruction(_RETURN, _RET_ERRNO | errno),
    ]


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)
