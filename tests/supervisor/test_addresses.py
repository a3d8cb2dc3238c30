"""Addresses of listeners: what they mean, and what is wrong with those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioipc.supervisor.addresses import Address, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("tcp://localhost:0", TcpAddress("localhost", 0)),
        ("tcp://:65535", TcpAddress("", 65535)),
        ("tcp://[::1]:80", TcpAddress("::1", 80)),
        ("tcp://[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        ("tcp://my-host.example.com.:1", TcpAddress("my-host.example.com.", 1)),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
        ("unix://app.sock", UnixAddress("app.sock")),
        ("unix:///a b#c%20:1", UnixAddress("/a b#c%20:1")),
        ("unix:///run/app.sock?mode=660", UnixAddress("/run/app.sock", 0o660)),
    ],
)
def test_meaning(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no address; it must be 'tcp://host:port'"),
        ("127.0.0.1:80", "it must be 'tcp://host:port'"),
        ("http://host:80", "it must be 'tcp://host:port'"),
        ("TCP://host:80", "it must be"),
        ("tcp:host:80", "it must be"),
        ("tcp://host", "'tcp://host' is no address: it has no port"),
        ("tcp://[::1]", "it has no port"),
        ("tcp://host:", "the port must be a number between 0 and 65535, not ''"),
        ("tcp://host:http", "not 'http'"),
        ("tcp://host:-1", "not '-1'"),
        ("tcp://host:65536", "the port must be between 0 and 65535, not 65536"),
        ("tcp://host:\uff11", "the port must be a number"),
        ("tcp://host:80/path", "not '80/path'"),
        ("tcp://::1:80", "an IPv6 address stands in brackets, as in 'tcp://[::1]:8000'"),
        ("tcp://[::x]:80", "'[::x]' holds no IPv6 address"),
        ("tcp://1.2.3:80", "'1.2.3' is neither the name nor the address of a host"),
        ("tcp://1.2.3.400:80", "is neither"),
        ("tcp://a b:80", "is neither"),
        ("tcp://-a:80", "is neither"),
        ("tcp://a..b:80", "is neither"),
        ("tcp://user@host:80", "is neither"),
        ("unix://", "cannot be the path of a socket"),
        ("unix:///" + "x" * 107, "may have 107 bytes, not 108"),
        ("unix:///a\0b", "cannot be the path of a socket"),
        ("unix://?mode=660", "cannot be the path of a socket"),
        ("unix:///a?mode=1777", "permissions between 0 and 0o777, not 0o1777"),
        ("unix:///a?mode=rw", "in octal, as in '?mode=660', not 'mode=rw'"),
        ("unix:///a?mode=680", "not 'mode=680'"),
        ("unix:///a?group=www", "not 'group=www'; a path with a '?' in it cannot be written here"),
        ("unix:///a?", "not ''"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"is no address") as caught:
        parse_address(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", ["660", "0660", "0o660"])
def test_permissions_are_octal(mode: str) -> None:
    assert parse_address(f"unix://a?mode={mode}") == UnixAddress("a", 0o660)


@pytest.mark.parametrize("value", [None, 80, b"tcp://:80", ("host", 80)])
def test_no_text(value: Any) -> None:
    with pytest.raises(TypeError, match="an address must be a str such as"):
        parse_address(value)


@given(st.text(st.sampled_from("tcpunix:/.[]0159ae-% \0?mod="), max_size=20))
def test_any_text_is_an_address_or_a_clear_error(rest: str) -> None:
    for text in (rest, f"tcp://{rest}", f"unix://{rest}"):
        try:
            address = parse_address(text)
        except ValueError:
            continue
        assert parse_address(str(address)) == address
