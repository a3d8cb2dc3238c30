"""Addresses of sockets that the service manager has passed: what is understood, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.supervisor.addresses import PassedAddress, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("fd://web", PassedAddress("web")),
        ("fd://3", PassedAddress("3")),
        ("fd://my.app-1.socket", PassedAddress("my.app-1.socket")),
        ("tcp://127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
    ],
)
def test_means(text: str, address: object) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_numbers_of_passed_descriptors() -> None:
    assert PassedAddress("3").number == 3
    assert PassedAddress("web").number is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fd://", "1 to 255 printable characters without ':', not ''"),
        ("fd://a:b", "without ':', not 'a:b'"),
        ("fd://2", "begin with 3, not 2"),
        ("fd://99999999999999", "begin with 3"),
        ("http://x:1", "it must be 'tcp://host:port' .*'unix:///path' or 'fd://name'"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address(text)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for prefix in ("", "fd://", "tcp://", "unix://"):
        try:
            found = parse_address(prefix + text)
        except ValueError:
            continue
        assert parse_address(str(found)) == found
