"""Frames over real socket pairs, in both directions, up to the end of the one or the other side."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from aioipc.supervisor.link import FrameLink
from aioipc.wire.framing import HEADER_SIZE, SCRATCH_SIZE, Frame, ProtocolError, encode_frame

from ..harness.processes import eventually_async

MB = 1_000_000


class End:
    """One end of a pair with a link on it, and what was heard there."""

    def __init__(self, sock: socket.socket, on_frame: Callable[[Frame], None] | None = None) -> None:
        self.sock = sock
        self.bodies: list[bytes] = []
        self.attachments: list[memoryview] = []
        self.turns: list[int] = []
        self.lost: list[str] = []
        self.turn = 0
        self._also = on_frame
        self.link = FrameLink(asyncio.get_running_loop(), sock, self._on_frame, self.lost.append)

    def send(self, body: bytes, *attachments: bytes | bytearray) -> None:
        self.link.send(encode_frame(1, body, attachments))

    async def expect(self, count: int) -> None:
        await eventually_async(lambda: len(self.bodies) >= count or self.lost, message=f"{count} frames")
        assert len(self.bodies) >= count, self.lost

    async def expect_lost(self) -> str:
        await eventually_async(lambda: self.lost, message="the end of the link")
        await a_few_turns()
        assert len(self.lost) == 1, "the end is told once"
        return self.lost[0]

    def _on_frame(self, frame: Frame) -> None:
        self.bodies.append(bytes(frame.body))
        self.attachments.append(frame.attachments)
        self.turns.append(self.turn)
        if self._also is not None:
            self._also(frame)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A non-blocking pair with the smallest buffers there are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        yield ours, theirs


Sockets = tuple[socket.socket, socket.socket]


async def a_few_turns() -> None:
    """Let the loop look at its descriptors several times."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_frames_of_all_sizes_both_ways(sockets: Sockets) -> None:
    content = random.Random(1)
    bodies = [content.randbytes(size) for size in (0, 1, 5 * MB, 300, SCRATCH_SIZE - HEADER_SIZE, SCRATCH_SIZE, 7)]
    one, other = map(End, sockets)
    for body in bodies:
        one.send(body)
        other.send(body[::-1])
    await one.expect(len(bodies))
    await other.expect(len(bodies))
    assert other.bodies == bodies
    assert one.bodies == [body[::-1] for body in bodies]
    assert one.lost == other.lost == []
    one.link.close()
    other.link.close()


async def test_huge_attachments(sockets: Sockets) -> None:
    one, other = map(End, sockets)
    content = random.Random(2)
    attachments = [content.randbytes(5 * MB), b"x", content.randbytes(MB)]
    for attachment in attachments:
        one.send(b"body", attachment, b"+", attachment)
    await other.expect(3)
    assert other.bodies == [b"body"] * 3
    assert [bytes(each) for each in other.attachments] == [each + b"+" + each for each in attachments]
    one.link.close()
    other.link.close()


async def test_many_small_frames_keep_their_order(sockets: Sockets) -> None:
    one, other = map(End, sockets)
    for i in range(3000):
        one.send(b"%d" % i)
    await other.expect(3000)
    assert other.bodies == [b"%d" % i for i in range(3000)]
    one.link.close()
    other.link.close()


async def test_what_the_socket_takes_is_sent_at_once(sockets: Sockets) -> None:
    one = End(sockets[0])
    one.send(b"at once")
    assert sockets[1].recv(1000).endswith(b"at once")
    one.link.close()


async def test_the_loop_is_left_alone_when_all_is_sent(sockets: Sockets) -> None:
    """A writable socket with nothing to send is not watched: the loop would turn without end."""
    one, other = map(End, sockets)
    one.send(b"x" * MB)
    await other.expect(1)
    await a_few_turns()
    assert not asyncio.get_running_loop().remove_writer(sockets[0].fileno()), "there was none any more"
    one.send(b"again")
    await other.expect(2)
    one.link.close()
    other.link.close()


async def test_one_receive_per_turn(sockets: Sockets) -> None:
    """A flood on one link lets everybody else have a turn between two receives."""
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MB)
    frame = b"".join(encode_frame(1, b"x" * 1000))
    per_receive = SCRATCH_SIZE // len(frame) + 1
    waiting = sockets[0].send(frame * (4 * per_receive)) // len(frame)
    if waiting <= per_receive:
        pytest.skip("this machine allows no buffer that holds more than one receive")
    other = End(sockets[1])
    loop = asyncio.get_running_loop()

    def tick() -> None:
        other.turn += 1
        if len(other.bodies) < waiting:
            loop.call_soon(tick)

    tick()
    await other.expect(waiting)
    assert max(other.turns.count(turn) for turn in set(other.turns)) <= per_receive
    other.link.close()


# -- the end -----------------------------------------------------------------------------------------


async def test_end_of_file(sockets: Sockets) -> None:
    one = End(sockets[0])
    sockets[1].close()
    assert await one.expect_lost() == "end of file"


@pytest.mark.parametrize("count", [1, HEADER_SIZE, 1000, MB])
async def test_the_peer_closes_in_the_middle_of_a_frame(sockets: Sockets, count: int) -> None:
    one = End(sockets[0])
    sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MB)
    stream = b"".join(encode_frame(1, b"whole")) + b"".join(encode_frame(1, b"half" * MB))[:count]
    while stream:
        try:
            stream = stream[sockets[1].send(stream) :]
        except BlockingIOError:
            await asyncio.sleep(0)
    sockets[1].close()
    assert await one.expect_lost() == "end of file"
    assert one.bodies == [b"whole"]


async def test_what_was_sent_before_the_end_is_heard(sockets: Sockets) -> None:
    one, other = map(End, sockets)
    one.send(b"last words" * MB)
    await other.expect(1)
    one.send(b"really")
    one.link.close()
    sockets[0].close()
    assert await other.expect_lost() == "end of file"
    assert [len(body) for body in other.bodies] == [10 * MB, 6]


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000, struct.pack("<HBBIQ", 0xA1C0, 1, 0, 9, 2**63)]
)
async def test_garbage(sockets: Sockets, garbage: bytes) -> None:
    one = End(sockets[0])
    sent = sockets[1].send(garbage)
    assert (await one.expect_lost()).startswith("it sent garbage: ")
    if sent:
        sockets[1].send(b"more")
    one.link.drain_input()
    sockets[1].close()
    one.link.drain_input()
    await a_few_turns()
    assert len(one.lost) == 1
    assert one.bodies == []


async def test_a_frame_that_is_refused_by_its_receiver(sockets: Sockets) -> None:
    def refuse(frame: Frame) -> None:
        if frame.body == b"bad":
            raise ProtocolError("not in this state")

    one, other = End(sockets[0], refuse), End(sockets[1])
    for body in (b"good", b"bad", b"later"):
        other.send(body)
    assert await one.expect_lost() == "it sent garbage: not in this state"
    assert one.bodies == [b"good", b"bad"]
    other.link.close()


async def test_reset_by_a_peer_that_did_not_read(sockets: Sockets) -> None:
    """The kernel tells of it by an error where unread data is thrown away, else by the end of file."""
    one = End(sockets[0])
    one.send(b"never read")
    sockets[1].close()
    assert "reset" in (await one.expect_lost()) or one.lost == ["end of file"]


async def test_sending_to_a_peer_that_is_gone(sockets: Sockets) -> None:
    one = End(sockets[0])
    sockets[1].close()
    for _ in range(3):
        one.send(b"x" * MB)
    await one.expect_lost()
    one.send(b"ignored")
    await a_few_turns()
    assert len(one.lost) == 1


async def test_the_peer_goes_while_much_is_still_to_be_sent(sockets: Sockets) -> None:
    one = End(sockets[0])
    one.send(b"x" * MB)
    await a_few_turns()
    sockets[1].close()
    await one.expect_lost()


# -- drain_input and close ---------------------------------------------------------------------------


async def test_drain_input_hears_everything_now(sockets: Sockets) -> None:
    """What a dead peer left in the socket is heard before its death is dealt with, without a turn of the loop."""
    sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MB)
    one = End(sockets[0])
    for i in range(100):
        sockets[1].sendall(b"".join(encode_frame(1, b"%d" % i * 100)))
    sockets[1].close()
    one.link.drain_input()
    assert one.bodies == [b"%d" % i * 100 for i in range(100)]
    assert one.lost == ["end of file"]
    one.link.drain_input()
    await a_few_turns()
    assert one.lost == ["end of file"]


async def test_drain_input_does_not_wait(sockets: Sockets) -> None:
    one = End(sockets[0])
    one.link.drain_input()
    assert one.lost == []
    one.link.close()


async def test_closed_by_the_one_who_hears(sockets: Sockets) -> None:
    """After a close neither callback is called, not even for frames that came in the same receive."""

    def stop(frame: Frame) -> None:
        one.link.close()

    one, other = End(sockets[0], stop), End(sockets[1])
    other.link.send([b"".join(b"".join(encode_frame(1, body)) for body in (b"1", b"2", b"3"))])
    await one.expect(1)
    other.link.close()
    sockets[1].close()
    await a_few_turns()
    one.link.drain_input()
    assert one.bodies == [b"1"]
    assert one.lost == []


async def test_closed_by_the_one_who_then_refuses(sockets: Sockets) -> None:
    def stop(frame: Frame) -> None:
        one.link.close()
        raise ProtocolError("too late")

    one, other = End(sockets[0], stop), End(sockets[1])
    other.send(b"1")
    await one.expect(1)
    await a_few_turns()
    assert one.lost == []
    other.link.close()


async def test_close_leaves_the_socket_open(sockets: Sockets) -> None:
    one = End(sockets[0])
    attachment = bytearray(MB)
    one.send(b"x", attachment)
    one.link.close()
    one.link.close()
    attachment.append(0)  # nobody looks at it any more
    one.send(b"ignored")
    received = 0
    try:
        while data := sockets[1].recv(MB):
            received += len(data)
            await asyncio.sleep(0)
    except BlockingIOError:
        pass
    assert 0 < received < MB, "what waited to be sent is forgotten"
    sockets[0].send(b"by hand")
    assert sockets[1].recv(100) == b"by hand"


async def test_two_links_on_one_loop_do_not_mix(sockets: Sockets) -> None:
    first, second = End(sockets[0]), End(sockets[1])
    first.send(b"to second")
    second.send(b"to first")
    await first.expect(1)
    await second.expect(1)
    assert (first.bodies, second.bodies) == ([b"to first"], [b"to second"])
    first.link.close()
    second.link.close()
