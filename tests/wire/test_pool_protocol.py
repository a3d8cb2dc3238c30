"""What master and worker say comes through unchanged; anything else is a ProtocolError and nothing worse."""

from __future__ import annotations

import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.wire import pool_protocol as protocol
from aioipc.wire.framing import Buffer, Frame, FrameDecoder, ProtocolError
from aioipc.wire.pool_protocol import ATTACH_FROM, NAMES, RESULTS, TASKS, ResultItem, TaskItem

NO_ATTACHMENTS = memoryview(b"")

SIZES = st.one_of(st.integers(0, 100), st.integers(ATTACH_FROM - 1, ATTACH_FROM + 1), st.integers(0, 300_000))
PAYLOADS = st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(0, 255))
NUMBERS = st.integers(0, 2**63)
TASK_LISTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 3), PAYLOADS), max_size=6)
RESULT_LISTS = st.lists(st.tuples(NUMBERS, st.integers(0, 2), NUMBERS, PAYLOADS), max_size=6)
FUNCTION_LISTS = st.lists(st.tuples(NUMBERS, st.binary(max_size=100)), max_size=3)


def transfer(pieces: list[Buffer]) -> Frame:
    """The frame as the other side decodes it."""
    decoder = FrameDecoder()
    data = b"".join(pieces)
    frames: list[Frame] = []
    while data:
        room = decoder.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        frames += decoder.received(count)
        data = data[count:]
    [frame] = frames
    return frame


def frame_of(kind: int, value: object, attachments: bytes = b"") -> Frame:
    return Frame(kind, memoryview(pickle.dumps(value, 5)), memoryview(attachments))


def with_bytes(items: list[TaskItem] | list[ResultItem]) -> list[tuple[object, ...]]:
    """The items with their payloads, which may be views, as bytes."""
    return [(*item[:-1], bytes(item[-1])) for item in items]  # type: ignore[arg-type]


@settings(deadline=None)
@given(FUNCTION_LISTS, TASK_LISTS)
def test_tasks(functions: list[tuple[int, bytes]], tasks: list[TaskItem]) -> None:
    frame = transfer(protocol.encode_tasks(functions, tasks))
    assert frame.kind == TASKS
    there, items = protocol.decode_tasks(frame)
    assert there == functions
    assert with_bytes(items) == tasks


@settings(deadline=None)
@given(RESULT_LISTS)
def test_results(results: list[ResultItem]) -> None:
    frame = transfer(protocol.encode_results(results))
    assert frame.kind == RESULTS
    assert with_bytes(protocol.decode_results(frame)) == results


@given(st.sampled_from(sorted(NAMES)), st.one_of(st.none(), NUMBERS, st.lists(NUMBERS)))
def test_plain_values(kind: int, value: object) -> None:
    frame = transfer(protocol.encode_plain(kind, value))
    assert frame.kind == kind
    assert protocol.decode_plain(frame) == value


def test_boot_settings() -> None:
    settings = {"environ": {"PATH": "/bin"}, "umask": 0o22, "argv": ["a", "b"], "cwd": None}
    frame = transfer(protocol.encode_boot(settings))
    assert frame.kind == protocol.BOOT
    assert protocol.decode_plain(frame) == settings


def test_large_payloads_are_sent_as_they_are() -> None:
    small, large, larger = b"s" * (ATTACH_FROM - 1), b"l" * ATTACH_FROM, bytearray(b"L" * 1_000_000)
    pieces = protocol.encode_results([(0, 0, 0, large), (1, 0, 0, small), (2, 0, 0, larger)])
    assert len(pieces) == 3
    assert pieces[1] is large
    assert pieces[2] is larger
    assert b"sss" in bytes(pieces[0])
    assert len(pieces[0]) < 2 * ATTACH_FROM


def test_payloads_keep_their_place() -> None:
    results: list[ResultItem] = [(i, 0, 0, bytes([i]) * (ATTACH_FROM if i % 2 else 10)) for i in range(6)]
    assert with_bytes(protocol.decode_results(transfer(protocol.encode_results(results)))) == results


def test_received_payloads_outlive_the_next_frame() -> None:
    decoder = FrameDecoder()

    def receive(results: list[ResultItem]) -> list[ResultItem]:
        data = b"".join(protocol.encode_results(results))
        decoder.buffer()[: len(data)] = data
        [frame] = decoder.received(len(data))
        return protocol.decode_results(frame)

    [first] = receive([(1, 0, 0, b"1" * ATTACH_FROM)])
    receive([(2, 0, 0, b"2" * ATTACH_FROM)])
    assert bytes(first[3]) == b"1" * ATTACH_FROM


# -- what is none of ours ----------------------------------------------------------------------------


@contextmanager
def little_memory() -> Iterator[None]:
    """Some bytes are a pickle that asks for much memory: let it be refused, not taken."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (128 << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@st.composite
def mutated(draw: st.DrawFn, pieces: list[Buffer]) -> Frame:
    """A good frame in which some bytes of the body were changed, dropped or added, or the attachments cut."""
    whole = transfer(pieces)
    body = bytearray(whole.body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.integers(0, 3)))
        body[at:end] = draw(st.binary(max_size=3))
    length = len(whole.attachments)
    kept = draw(st.sampled_from([length, length, length // 2, max(0, length - 1)]))
    return Frame(whole.kind, memoryview(bytes(body)), whole.attachments[:kept])


ONE_LARGE = [(1, 0, 3, b"small"), (2, 1, 4, b"L" * ATTACH_FROM), (3, 2, 5, b"")]


@settings(deadline=None, max_examples=300)
@given(mutated(protocol.encode_results(ONE_LARGE)))
def test_mutated_results_are_refused_or_results(frame: Frame) -> None:
    with little_memory():
        try:
            items = protocol.decode_results(frame)
        except ProtocolError:
            return
    for _slot, _status, _micros, _payload in items:
        pass


@settings(deadline=None, max_examples=300)
@given(mutated(protocol.encode_tasks([(7, b"function")], [(1, 0, 7, 0, b"small"), (2, 1, 0, 3, b"L" * ATTACH_FROM)])))
def test_mutated_tasks_are_refused_or_tasks(frame: Frame) -> None:
    with little_memory():
        try:
            _functions, items = protocol.decode_tasks(frame)
        except ProtocolError:
            return
    for _number, _slot, _function, _flags, _payload in items:
        pass


@given(st.sampled_from(sorted(NAMES)), st.binary(max_size=200))
def test_any_bytes_as_a_body(kind: int, body: bytes) -> None:
    with little_memory(), suppress(ProtocolError):
        protocol.decode_plain(Frame(kind, memoryview(body), NO_ATTACHMENTS))


@pytest.mark.parametrize("kind", [0, 8, 15, 20, 255])
def test_kinds_that_do_not_exist(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"there is no frame of kind {kind}"):
        protocol.decode_plain(frame_of(kind, None))


@pytest.mark.parametrize("value", [None, 0, -1, True, "7", [7]])
def test_bodies_that_are_no_process_id(value: object) -> None:
    with pytest.raises(ProtocolError, match="a process id was expected"):
        protocol.decode_pid(frame_of(protocol.READY, value))


NO_RESULTS = [
    None,
    5,
    "text",
    {"a": 1},
    [1],
    [None],
    ["text"],
    [(1, 2)],
    [(0, 0, 0, b"", 9)],
    [(0, 0, 0, b""), 5],
]


@pytest.mark.parametrize("attachments", [b"", b"attached"])
@pytest.mark.parametrize("value", NO_RESULTS)
def test_bodies_that_are_no_results(value: object, attachments: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed RESULTS frame"):
        protocol.decode_results(frame_of(RESULTS, value, attachments))


@pytest.mark.parametrize("attachments", [b"", b"attached"])
@pytest.mark.parametrize("value", [None, 5, (1, 2), ([], 5), ([], [1]), ([], [(1, 2)]), ([], [], []), []])
def test_bodies_that_are_no_tasks(value: object, attachments: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed TASKS frame"):
        protocol.decode_tasks(frame_of(TASKS, value, attachments))


@pytest.mark.parametrize(
    ("announced", "came"),
    [([10], b""), ([10], b"123456789"), ([10], b"12345678901"), ([], b"1"), ([4, 4], b"1234567"), ([-5, 10], b"12345")],
)
def test_attachments_of_another_length_than_announced(announced: list[int], came: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_results(frame_of(RESULTS, [(0, 0, 0, length) for length in announced], came))
