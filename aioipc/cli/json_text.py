"""Any Python value as one line of strict JSON.

What JSON has a word for is written as that. The rest is written as users of ``json.dumps(default=str)``
know it, and a little better:

===============================  ==========================================
value                            JSON
===============================  ==========================================
NaN, infinities                  ``null``
dataclass                        object of its fields
mapping                          object; keys that are no strings become ``str(key)``
set, generator, sequence, deque  array (sets sorted where that is possible)
NumPy scalar or array            what ``tolist()`` gives
date, time, datetime             ISO 8601 text
enum member                      its value
bytes                            text, UTF-8, undecodable bytes as ``\\xNN``
anything else                    ``str(value)``
===============================  ==========================================
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from typing import Any

_PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ASCII = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def to_json(value: object) -> bytes:
    """``value`` as JSON in UTF-8, without a line break.

    ``RecursionError`` where a value contains itself.
    """
    try:
        text = _PLAIN.encode(value)
    except (TypeError, ValueError):
        text = _PLAIN.encode(_simplify(value))
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, of bytes that are not UTF-8: only ASCII JSON holds them
        return _ASCII.encode(json.loads(text)).encode()


def _simplify(value: Any) -> Any:
    """``value`` with everything that JSON cannot say replaced by something that it can."""
    if isinstance(value, enum.Enum):
        return _simplify(value.value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _simplify(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _simplify(item) for key, item in value.items()}
    return _simplify_object(value)


def _simplify_object(value: Any) -> Any:
    if isinstance(value, type):
        return str(value)
    if callable(method := getattr(value, "tolist", None)) or callable(method := getattr(value, "isoformat", None)):
        return _simplify(method())
    if isinstance(value, set | frozenset):
        return [_simplify(item) for item in _sorted(value)]
    if isinstance(value, Set | Sequence | Iterator | ValuesView):
        return [_simplify(item) for item in value]
    return str(value)


def _key(key: object) -> str:
    if isinstance(key, enum.Enum):
        return _key(key.value)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return key if isinstance(key, str) else str(key)


def _sorted(values: Iterable[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)
