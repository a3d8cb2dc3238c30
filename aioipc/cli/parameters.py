"""What several commands take as options: keys, sizes, permissions, times; and the pure functions that read them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

T = TypeVar("T")

_SIZE = re.compile(r"(?P<number>\d+)\s*(?:(?P<prefix>[kmgtpe])(?P<unit>ib|b)?|b)?", re.IGNORECASE)
_PART = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_number(text: str) -> int:
    """A number as C writes it: decimal, ``0x`` hexadecimal, ``0`` octal. `ValueError` for anything else."""
    try:
        return int(text, 8) if re.fullmatch(r"-?0[0-7]+", text) else int(text, 0)
    except ValueError:
        raise ValueError("a number is decimal, 0x hexadecimal or 0 octal") from None


def parse_key(text: str) -> int:
    """The key of a System V object: any 32 bits but 0."""
    key = parse_number(text)
    if not -(1 << 31) <= key < 1 << 32:
        raise ValueError("a key has 32 bits")
    if key == 0:
        raise ValueError("the key 0 is that of all private objects: name one by its id")
    return key


def parse_size(text: str) -> int:
    """Bytes: ``10``, ``10K`` and ``10KiB`` (1024 each), ``10KB`` (1000 each), up to E."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size is a number of bytes: 4096, 4K (4096), 4KB (4000), 1M, 1G")
    power = " kmgtpe".index((match["prefix"] or " ").lower())
    base = 1000 if (match["unit"] or "").lower() == "b" else 1024
    return int(match["number"]) * int(base**power)


def parse_mode(text: str) -> int:
    """Permissions in octal, as chmod(1) takes them."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ValueError("permissions are an octal number up to 777, such as 0600")
    return mode


def parse_duration(text: str) -> float:
    """Seconds: ``90``, ``90s``, ``1.5h``, ``1h30m``, ``2d``, ``1w``."""
    total, end = 0.0, 0
    for part in _PART.finditer(text := text.strip()):
        if part.start() != end:
            break
        total += float(part["number"]) * _SECONDS[part["unit"].lower()]
        end = part.end()
    if not text or end != len(text):
        raise ValueError("a time is a number of seconds, or one with s, m, h, d or w: 90, 30m, 1h30m, 2d")
    return total


def parse_counts(text: str) -> list[int]:
    """Numbers with commas between them."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError("these are numbers with commas between them: 1,2,3") from None


def reading(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """Return what click calls with a value: a usage error says what ``parse`` says with its `ValueError`."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}", context, parameter) from None

    return read


def reading_each(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[T]]:
    """Return the same for an option that may be given again."""
    read_one = reading(parse)

    def read(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[T]:
        found = [read_one(context, parameter, value) for value in values]
        return [each for each in found if each is not None]

    return read


ID = click.IntRange(min=0, max=(1 << 31) - 1)


class Seconds(click.FloatRange):
    """A number of seconds, which is finite."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's types do it."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


SECONDS = Seconds(min=0)
