"""The language of ``--where``: ``age>1h and (openers==0 or not in_use)``, read here and never by ``eval``.

    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = field [ operator value ]
    operator    = "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"

A field is a column. A value is read as its type wants it: ``4K`` is a size, ``1h30m`` a time, ``none`` nothing. ``~``
compares a text with a pattern (fnmatch(3)). Of a field that an object does not have no comparison holds but
``== none``; ``!=`` holds.
"""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from aioipc import KernelObject

from .columns import COLUMNS, Column, Value, find_column
from .parameters import parse_duration, parse_number, parse_size

Condition = Callable[[KernelObject, float], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>'[^']*'|\"[^\"]*\")|(?P<operator>==|!=|<=|>=|=~|[=<>~])|(?P<bracket>[()])|(?P<word>[^\s()=!<>~'\"]+))"
)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DEEPEST = 50
_WORDS = {"and", "or", "not"}


class WhereError(ValueError):
    """What is wrong with a condition, and at which character of it."""

    def __init__(self, message: str, text: str, place: int) -> None:
        super().__init__(message)
        self.text = text
        self.place = place

    def __str__(self) -> str:
        return f"{self.args[0]}\n  {self.text}\n  {' ' * self.place}^"


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def parse_where(text: str) -> Condition:
    """Read a condition; `WhereError` where it is none."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text.rstrip()
        self._tokens = self._read()
        self._at = 0
        self._depth = 0

    def parse(self) -> Condition:
        if not self._tokens[0].text:
            raise self._error("a condition is missing, such as age>1h", self._tokens[0])
        found = self._condition()
        if (token := self._tokens[self._at]).text:
            raise self._error(f"there is an end, 'and' or 'or' missing before {token.text!r}", token)
        return found

    def _read(self) -> list[_Token]:
        found, place = [], 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self._text[place:]) - len(self._text[place:].lstrip())
                raise WhereError(f"{self._text[start]!r} means nothing here", self._text, start)
            found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        return [*found, _Token("end", "", len(self._text))]

    def _error(self, message: str, token: _Token) -> WhereError:
        return WhereError(message, self._text, token.place)

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _takes(self, word: str) -> bool:
        token = self._tokens[self._at]
        if token.kind in ("word", "bracket") and token.text.lower() == word:
            self._at += 1
            return True
        return False

    def _condition(self) -> Condition:
        parts = [self._conjunction()]
        while self._takes("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda found, now: any(part(found, now) for part in parts)

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._takes("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda found, now: all(part(found, now) for part in parts)

    def _negation(self) -> Condition:
        token = self._tokens[self._at]
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} conditions are inside each other", token)
        try:
            if self._takes("not"):
                inner = self._negation()
                return lambda found, now: not inner(found, now)
            if self._takes("("):
                inner = self._condition()
                if not self._takes(")"):
                    raise self._error("a ')' is missing", self._tokens[self._at])
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        token = self._next()
        column = self._column(token)
        if self._tokens[self._at].kind != "operator":
            return lambda found, now: bool(column.value(found, now))
        sign = self._next()
        value = self._next()
        if value.kind not in ("word", "quoted") or (value.kind == "word" and value.text.lower() in _WORDS):
            raise self._error(f"a value is missing after {sign.text!r}", value)
        return self._compared(column, sign, value)

    def _column(self, token: _Token) -> Column:
        if token.kind != "word" or token.text.lower() in _WORDS:
            raise self._error("a field is missing here, such as age, openers or orphan", token)
        if (column := find_column(token.text)) is not None:
            return column
        close = difflib.get_close_matches(token.text.lower(), COLUMNS, 1)
        more = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(COLUMNS)}"
        raise self._error(f"there is no field {token.text!r}{more}", token)

    def _compared(self, column: Column, sign: _Token, token: _Token) -> Condition:
        if token.kind == "word" and token.text.lower() == "none":
            wanted: Value = None
        else:
            text = token.text[1:-1] if token.kind == "quoted" else token.text
            wanted = self._value(column, text, token)
        if sign.text in ("=", "=="):
            return lambda found, now: column.value(found, now) == wanted
        if sign.text == "!=":
            return lambda found, now: column.value(found, now) != wanted
        if sign.text in ("~", "=~"):
            return self._like(column, sign, wanted)
        if not isinstance(wanted, int | float) or isinstance(wanted, bool):
            raise self._error(f"{column.name} is a {column.type}, which {sign.text!r} does not compare", sign)
        return _ordered(column, _ORDER[sign.text], wanted)

    def _like(self, column: Column, sign: _Token, pattern: Value) -> Condition:
        if not isinstance(pattern, str):
            raise self._error(f"{column.name} is no text, which {sign.text!r} compares with a pattern", sign)
        return lambda found, now: fnmatch.fnmatchcase(str(column.value(found, now) or ""), pattern)

    def _value(self, column: Column, text: str, token: _Token) -> Value:
        try:
            return _READ[column.type](text)
        except ValueError as error:
            raise self._error(f"{text!r} is no value of {column.name}: {error}", token) from None


def _ordered(column: Column, compare: Callable[[float, float], bool], wanted: float) -> Condition:
    def holds(found: KernelObject, now: float) -> bool:
        value = column.value(found, now)
        return isinstance(value, int | float) and compare(value, wanted)

    return holds


def _flag(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
        raise ValueError("it is yes or no")
    return text.lower() in ("yes", "true", "1")


def _number(text: str) -> float:
    try:
        return parse_number(text)
    except ValueError:
        raise ValueError("it is a number") from None


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("it is a number of seconds since the epoch; age and idle are easier to ask for") from None


_READ: dict[str, Callable[[str], Value]] = {
    "text": str,
    "number": _number,
    "bytes": parse_size,
    "duration": parse_duration,
    "time": _time,
    "flag": _flag,
}
