"""The protocol of sd_notify: what is written, what is understood, and that no garbage is too much."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.wire.sd_notify import LARGEST, Notification, decode

WORDS = st.sampled_from(
    [
        b"READY",
        b"STATUS",
        b"WATCHDOG",
        b"ERRNO",
        b"EXTEND_TIMEOUT_USEC",
        b"MAINPID",
        b"=",
        b"1",
        b"\n",
        b"\0",
        b"-",
        b"trigger",
    ]
)
NOTIFICATIONS = st.builds(
    Notification,
    ready=st.booleans(),
    reloading=st.booleans(),
    stopping=st.booleans(),
    status=st.none()
    | st.lists(st.text(st.characters(categories=["L", "N", "P"])), max_size=5).map(" ".join).map(str.strip),
    watchdog=st.sampled_from([None, "alive", "trigger"]),
    extend_timeout=st.none() | st.integers(0, 10**9).map(float),
    main_pid=st.none() | st.integers(1, 2**22),
    errno=st.none() | st.integers(0, 133),
    monotonic=st.none() | st.integers(0, 10**9).map(float),
    barrier=st.booleans(),
)


def test_written() -> None:
    assert Notification(ready=True, status="3 of 4\nup  now").encode() == b"READY=1\nSTATUS=3 of 4 up now\n"
    assert Notification(reloading=True, monotonic=12.5).encode() == b"RELOADING=1\nMONOTONIC_USEC=12500000\n"
    assert Notification(stopping=True, extend_timeout=30).encode() == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n"
    assert Notification(watchdog="alive").encode() == b"WATCHDOG=1\n"
    assert len(Notification(status="x" * 9999).encode()) < LARGEST
    assert Notification(status="\ud800").encode() == b"STATUS=?\n"


def test_understood() -> None:
    assert decode(b"READY=1\nSTATUS=up\nX_OWN=7\n") == Notification(ready=True, status="up")
    assert decode(b"READY=1\0") == Notification(ready=True)
    assert decode(b"READY=0\nREADY=1") == Notification()
    assert decode(b"STATUS=\n") == Notification(status="")
    assert decode(b"STATUS=\x1b[31mred") == Notification(status="�[31mred")
    assert decode(b"EXTEND_TIMEOUT_USEC=18446744073709551615\nMAINPID=0\nERRNO=-1") == Notification()


def test_not_understood() -> None:
    for garbage in (b"", b"READY", b"READY=yes", b"READY=1\0READY=1", b"READY=1\n" + b"x" * LARGEST, b"STATUS=\xff"):
        assert decode(garbage) == Notification()


@settings(deadline=None)
@given(NOTIFICATIONS)
def test_comes_back(notification: Notification) -> None:
    if notification.status is not None:
        assert decode(notification.encode()).status == " ".join(notification.status.split())[:1024]
    found = decode(notification.encode())
    for name in ("ready", "reloading", "stopping", "watchdog", "extend_timeout", "main_pid", "errno", "monotonic"):
        assert getattr(found, name) == getattr(notification, name)


@settings(deadline=None)
@given(st.binary(max_size=300) | st.lists(WORDS, max_size=30).map(b"".join))
def test_garbage_is_read(datagram: bytes) -> None:
    found = decode(datagram)
    assert found.status is None or found.status == "" or found.status.isprintable() or "�" in found.status
    assert decode(found.encode()).ready == found.ready
