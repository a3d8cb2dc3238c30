"""What is pushed arrives, all of it, in order, however little the socket takes at a time."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc._sys.send_queue import SendQueue

from ..harness.scripts import run_script


@contextmanager
def pair(buffer: int = 1) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A non-blocking pair; the kernel rounds the size of the sender's buffer up to its least."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def read(sock: socket.socket, limit: int = 1 << 30) -> bytes:
    """What has arrived, at most ``limit`` bytes of it."""
    data = b""
    with suppress(BlockingIOError):
        while len(data) < limit and (more := sock.recv(limit - len(data))):
            data += more
    return data


PIECES = st.lists(
    st.builds(
        lambda seed, size, kind: kind(random.Random(seed).randbytes(size)),
        st.integers(0, 2**32),
        st.one_of(st.integers(1, 50), st.integers(1, 20_000)),
        st.sampled_from([bytes, bytearray, memoryview]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(PIECES, st.integers(0, 5000)), max_size=6))
def test_all_arrives_in_order(pushes: list[tuple[list[bytes], int]]) -> None:
    sent, received = b"", b""
    with pair() as (ours, theirs):
        queue = SendQueue(ours)
        for pieces, taken in pushes:
            queue.push(pieces)
            sent += b"".join(pieces)
            assert queue.write() == (not queue)
            received += read(theirs, taken)
        while not queue.write():
            more = read(theirs)
            assert more, "what does not take more has something to be read"
            received += more
        assert len(queue) == 0
        assert received + read(theirs) == sent


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 5000])
def test_any_number_of_pieces(count: int) -> None:
    pieces = [str(i).encode() + b"," for i in range(count)]
    with pair(1 << 20) as (ours, theirs):
        queue = SendQueue(ours)
        queue.push(pieces)
        assert len(queue) == count
        assert queue.write()
        assert read(theirs) == b"".join(pieces)


def test_a_piece_is_sent_from_where_it_is_and_then_let_go() -> None:
    piece = bytearray(b"a" * 1_000_000)
    with pair() as (ours, theirs):
        queue = SendQueue(ours)
        queue.push([piece])
        assert not queue.write()
        with pytest.raises(BufferError):
            piece.append(0)
        piece[-1:] = b"z"
        received = read(theirs)
        while not queue.write():
            received += read(theirs)
        received += read(theirs)
        piece.append(0)
    assert received == b"a" * 999_999 + b"z"


class CountingSocket(socket.socket):
    """Refuses to be asked to send without end."""

    sends = 0

    def sendmsg(self, *arguments: Any) -> int:  # type: ignore[override]
        self.sends += 1
        assert self.sends < 100, "it is sending nothing, again and again"
        return super().sendmsg(*arguments)


@pytest.mark.parametrize("pieces", [[b""], [b"x", b""], [b"", b"x"], [b""] * 100 + [b"x"], [b"x", b"", b""]])
def test_empty_pieces(pieces: list[bytes]) -> None:
    with pair() as (ours, theirs), CountingSocket(fileno=ours.detach()) as counting:
        queue = SendQueue(counting)
        queue.push(pieces)
        assert queue.write()
        assert len(queue) == 0
        assert read(theirs) == b"".join(pieces)


def test_nothing_to_send() -> None:
    with pair() as (ours, _):
        assert SendQueue(ours).write()


def test_cleared() -> None:
    with pair() as (ours, theirs):
        queue = SendQueue(ours)
        queue.push([b"a" * 1_000_000, b"b"])
        assert not queue.write()
        first = read(theirs)
        queue.clear()
        assert len(queue) == 0
        queue.push([b"c"])
        assert queue.write()
        assert first.strip(b"a") == b""
        assert read(theirs) == b"c"


def test_the_other_end_is_gone() -> None:
    with pair() as (ours, theirs):
        queue = SendQueue(ours)
        theirs.close()
        queue.push([b"x"])
        with pytest.raises(BrokenPipeError):
            queue.write()


def test_the_other_end_goes_in_the_middle() -> None:
    with pair() as (ours, theirs):
        queue = SendQueue(ours)
        queue.push([b"x" * 1_000_000])
        assert not queue.write()
        theirs.close()
        with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
            queue.write()


def test_no_signal_ends_a_process_that_does_not_ignore_it() -> None:
    source = """
        import signal, socket
        from aioipc._sys.send_queue import SendQueue

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        ours, theirs = socket.socketpair()
        theirs.close()
        queue = SendQueue(ours)
        queue.push([b"x"])
        try:
            queue.write()
        except BrokenPipeError:
            print("broken")
        ours.close()
    """
    assert run_script(source).check().stdout == "broken\n"
