"""The language of --where: what holds, and what is said where something is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc import KernelObject, ObjectOpener, SemaphoreState
from aioipc.cli.columns import COLUMNS
from aioipc.cli.where import WhereError, parse_where

NOW = 1_000_000.0
MEMORY = KernelObject(
    kind="posix-memory",
    name="/my-app-1",
    uid=0,
    mode=0o600,
    size=10240,
    used=4096,
    openers=(ObjectOpener(5, "python3", "rwm"),),
    changed=NOW - 5400,
    in_use=True,
)
BANK = KernelObject(
    kind="sysv-semaphores", id=7, key=-1, count=1, semaphores=(SemaphoreState(3, 2, 1),), changed=NOW - 10, orphan=True
)


@pytest.mark.parametrize(
    ("text", "memory", "bank"),
    [
        ("age>1h", True, False),
        ("age > 1h30m", False, False),
        ("age>=1h30m", True, False),
        ("age<=10s", False, True),
        ("size=10K", True, False),
        ("size==10240 and openers==1", True, False),
        ("size<1M", True, False),  # a set of semaphores has no size
        ("not size<1M", False, True),
        ("size==none", False, True),
        ("size != none", True, False),
        ("size!=4K", True, True),
        ("in_use", True, False),
        ("in-use = no", False, True),
        ("ORPHAN or in_use==yes", True, True),
        ("orphan and in_use", False, False),
        ("name~'/my-*'", True, False),
        ('name =~ "*app*" or waiting==3', True, True),
        ("kind==sysv-semaphores", False, True),
        ("key==0xffffffff", False, True),
        ("mode==0600", True, False),
        ("not (age>1h or orphan)", False, False),
        ("age<1h and not in_use or size>1", True, True),
        ("age<1h and (not in_use or size>1)", False, True),
        ("not not in_use", True, False),
        ("status=='in use'", True, False),
    ],
)
def test_what_holds(text: str, memory: bool, bank: bool) -> None:
    condition = parse_where(text)
    assert (condition(MEMORY, NOW), condition(BANK, NOW)) == (memory, bank)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("", "a condition is missing, such as age>1h", 0),
        ("opener==0", "there is no field 'opener'; did you mean 'openers'?", 0),
        ("age>1h and x==1", "there is no field 'x'; there are kind, name, ", 11),
        ("age>1y", "'1y' is no value of age: a time is", 4),
        ("size > lots", "'lots' is no value of size: a size is", 7),
        ("openers==many", "'many' is no value of openers: it is a number", 9),
        ("orphan==maybe", "'maybe' is no value of orphan: it is yes or no", 8),
        ("age>", "a value is missing after '>'", 4),
        ("age> and orphan", "a value is missing after '>'", 5),
        ("age>1h or", "a field is missing here", 9),
        ("(age>1h", "a ')' is missing", 7),
        ("age>1h)", "there is an end, 'and' or 'or' missing before ')'", 6),
        ("age>1h orphan", "there is an end, 'and' or 'or' missing before 'orphan'", 7),
        ("name>x", "name is a text, which '>' does not compare", 4),
        ("size~4K", "size is no text, which '~' compares with a pattern", 4),
        ("name=='x", '"\'" means nothing here', 6),
        ("'age'>1h", "a field is missing here", 0),
        ("__import__('os')", "there is no field '__import__'", 0),
        ("(" * 100 + "orphan", "more than 50 conditions are inside each other", 50),
    ],
)
def test_what_is_wrong(text: str, message: str, place: int) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(text)
    assert str(caught.value.args[0]).startswith(message)
    assert caught.value.place == place
    assert str(caught.value).splitlines()[-1] == "  " + " " * place + "^"


WORDS = st.sampled_from(
    ["and", "or", "not", "(", ")", "==", "<", "~", "1h", "4K", "'", '"x"', "none", "\u00e9", *COLUMNS]
)


@given(st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
def test_any_text_is_a_condition_or_says_where_it_is_none(text: str) -> None:
    place = 0
    try:
        condition = parse_where(text)
    except WhereError as error:
        place = error.place
    else:
        assert condition(MEMORY, NOW) in (True, False)
        assert condition(BANK, NOW) in (True, False)
    assert 0 <= place <= len(text)
