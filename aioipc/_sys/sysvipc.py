"""The tables of System V objects in ``/proc/sysvipc`` (``proc(5)``): also of those that one may not use."""

from __future__ import annotations

from typing import Literal

from .exhaustion import raise_if_exhausted

Row = dict[str, int]


def table(kind: Literal["msg", "sem", "shm"]) -> list[Row] | None:
    """Return the objects of this IPC namespace, a row each by the kernel's names; None where there is no such table.

    ``key`` is signed as in C, ``perms`` without its type; process numbers are as /proc counts them, 0 for none.
    """
    try:
        with open(f"/proc/sysvipc/{kind}", "rb") as file:
            head, *lines = file.read().decode().splitlines()
    except ValueError:
        return None
    except OSError as error:
        raise_if_exhausted(error)
        return None
    names = head.split()
    return [_row(names, line.split()) for line in lines]


def _row(names: list[str], fields: list[str]) -> Row:
    return {name: int(field, 8 if name == "perms" else 10) for name, field in zip(names, fields, strict=True)}
