"""What each mechanism is asked in vain: the use, the error, and what its text must say.

A table in a file of its own, and long because there is much that can be wrong. `TABLE` is by mechanism, then by what
is wrong: a type, a value (negative, zero, unknown, contradictory), or a length (too long, too many).
"""

# mypy: disable-error-code="arg-type, call-overload, list-item, call-arg, type-var, no-any-return"

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from aioipc import (
    FileLock,
    GuardedMemory,
    MappedFile,
    PacketSocket,
    PipeReceiveStream,
    PosixMessageQueue,
    PosixSemaphore,
    RecordLog,
    SharedMemory,
    SocketStream,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    connect_tcp,
    connect_unix,
    create_pipe,
    create_socketpair,
    ftok,
    listen_tcp,
    listen_unix,
    open_datagram_socket,
    open_fifo_reader,
    open_fifo_writer,
)

KEY, NAME, PATH = 0x41494F70, "/aioipc-bad-input", "aioipc-bad-input"
STRIDED = memoryview(b"abcd")[::2]

Row = tuple[Callable[[Any], object], type[Exception], str]
Rows = dict[str, list[Row]]

NO_BYTES: list[Row] = [
    (lambda e: e.send(5), TypeError, "bytes-like"),
    (lambda e: e.send("text"), TypeError, "bytes-like"),
    (lambda e: e.send_nowait(None), TypeError, "bytes-like"),
]
SENDING: Rows = {"type": NO_BYTES, "value": [(lambda e: e.send(STRIDED), ValueError, "not contiguous")]}
RECEIVING: Rows = {
    "type": [
        (lambda e: e.receive(1.5), TypeError, "max_bytes must be an int, not float"),
        (lambda e: e.receive_nowait(True), TypeError, "max_bytes must be an int, not bool"),
        (lambda e: e.receive_into(b"abcd"), TypeError, "writable buffer"),
        (lambda e: e.lines(max_line="1"), TypeError, "max_line must be an int"),
    ],
    "value": [
        (lambda e: e.receive(0), ValueError, "max_bytes must be at least 1, not 0"),
        (lambda e: e.receive_nowait(-1), ValueError, "max_bytes must be at least 1"),
        (lambda e: e.receive_into(bytearray()), ValueError, "is empty"),
        (lambda e: e.receive_into(memoryview(bytearray(4))[::2]), ValueError, "not contiguous"),
        (lambda e: e.lines(encoding="nonsense"), LookupError, "nonsense"),
    ],
}


def both(*tables: Rows) -> Rows:
    """Join the rows of each kind."""
    kinds = dict.fromkeys(kind for table in tables for kind in table)
    return {kind: [row for table in tables for row in table.get(kind, [])] for kind in kinds}


def posix_names(use: Callable[[Any], object]) -> Rows:
    """Names that no POSIX object can have."""
    return {
        "type": [
            (lambda _: use(b"/x"), TypeError, "name must be a str"),
            (lambda _: use(5), TypeError, "name must be"),
        ],
        "value": [
            (lambda _, name=name: use(name), ValueError, "a slash and a word")
            for name in ("", "/", "x", "/a/b", "/a\0b", "/..", "/../etc")
        ],
        "length": [(lambda _: use("/" + "x" * 251), ValueError, "250 bytes behind its slash, not 251")],
    }


def paths(use: Callable[[Any], object]) -> Rows:
    """Paths that no UNIX socket can have."""
    return {
        "type": [(lambda _: use(5), TypeError, "path must be"), (lambda _: use([]), TypeError, "path must be")],
        "value": [(lambda _, path=path: use(path), ValueError, "cannot be the path") for path in ("", "a\0b")],
        "length": [
            (lambda _: use("x" * 108), ValueError, "107 bytes, not 108"),
            (lambda _: use("ü" * 60), ValueError, "107 bytes, not 120"),
        ],
    }


def modes(use: Callable[[Any], object]) -> Rows:
    """Permissions that cannot be any."""
    return {
        "type": [(lambda _, mode=mode: use(mode), TypeError, "mode must be an int") for mode in ("rw", True, None)],
        "value": [(lambda _, mode=mode: use(mode), ValueError, "mode must be") for mode in (-1, 0o1000)],
    }


def keys(use: Callable[[Any], object]) -> Rows:
    """Keys that no System V object can have."""
    return {
        "type": [(lambda _, key=key: use(key), TypeError, "key must be an int") for key in ("key", True, 1.5)],
        "value": [
            (lambda _: use(0), ValueError, "IPC_PRIVATE.*give None, or no key"),
            (lambda _: use(1 << 32), ValueError, "key must be between"),
            (lambda _: use(-(1 << 31) - 1), ValueError, "key must be between"),
        ],
    }


PIPE: Rows = both(
    SENDING,
    RECEIVING,
    {
        "type": [
            (lambda e: create_pipe("1"), TypeError, "capacity must be an int"),
            (lambda e: PipeReceiveStream("3"), TypeError, "must be an int"),
        ],
        "value": [
            (lambda e: create_pipe(0), ValueError, "capacity must be at least 1"),
            (lambda e: PipeReceiveStream(-1), ValueError, "must be 3 or more"),
            (lambda e: PipeReceiveStream(0), ValueError, "must be 3 or more"),
        ],
        "length": [(lambda e: create_pipe(1 << 40), ValueError, "capacity")],
    },
)
FIFO: Rows = both(
    SENDING,
    RECEIVING,
    modes(lambda mode: open_fifo_reader(PATH, create=True, mode=mode)),
    modes(lambda mode: open_fifo_writer(PATH, create=True, mode=mode)),
    {
        "type": [
            (lambda e: open_fifo_reader(5), TypeError, "str, bytes or os.PathLike"),
            (lambda e: open_fifo_writer(None), TypeError, "str, bytes or os.PathLike"),
        ],
        "value": [
            (lambda e: open_fifo_reader(""), ValueError, "cannot be the path of a FIFO"),
            (lambda e: open_fifo_writer("a\0b"), ValueError, "cannot be the path of a FIFO"),
            (lambda e: open_fifo_reader(PATH, remove=True), ValueError, "nothing to remove"),
            (lambda e: open_fifo_reader(PATH), FileNotFoundError, PATH),
        ],
        "length": [(lambda e: open_fifo_reader("x" * 300, create=True), OSError, "too long: '.*xxx'")],
    },
)
SOCKET_STREAM: Rows = both(
    SENDING,
    RECEIVING,
    paths(listen_unix),
    paths(connect_unix),
    modes(lambda mode: listen_unix(PATH, mode=mode)),
    {
        "type": [
            (lambda e: SocketStream(5), TypeError, r"must be a socket\.socket, not int"),
            (lambda e: listen_unix(PATH, backlog="1"), TypeError, "backlog must be an int"),
        ],
        "value": [
            (lambda e: create_socketpair("datagram"), ValueError, "'stream' or 'packets', not 'datagram'"),
            (lambda e: create_socketpair([]), ValueError, "'stream' or 'packets'"),
            (lambda e: connect_unix(PATH, None), ValueError, "'stream' or 'packets'"),
            (lambda e: listen_unix(PATH, 5), ValueError, "'stream' or 'packets'"),
            (lambda e: listen_unix(PATH, backlog=-1), ValueError, "backlog must be between 0"),
            (lambda e: connect_unix(PATH), FileNotFoundError, PATH),
        ],
    },
)
PACKETS: Rows = both(
    {
        "type": [
            *NO_BYTES,
            (lambda e: e.send(b"x", descriptors=0), TypeError, "descriptors must be a sequence of int, not int"),
            (lambda e: e.send(b"x", descriptors=b"12"), TypeError, "descriptors must be a sequence of int"),
            (lambda e: e.send(b"x", descriptors=["1"]), TypeError, "a descriptor must be an int"),
            (lambda e: PacketSocket(None), TypeError, r"must be a socket\.socket"),
        ],
        "value": [
            (lambda e: e.send(b""), ValueError, "empty packet"),
            (lambda e: e.send(STRIDED), ValueError, "not contiguous"),
            (lambda e: e.send(b"x", descriptors=[-1]), ValueError, "a descriptor must be between 0"),
            (lambda e: e.send(b"x", descriptors=[1 << 40]), ValueError, "a descriptor must be between 0"),
            (lambda e: e.send(b"x", descriptors=[9999]), OSError, "Bad file descriptor"),
        ],
        "length": [
            (lambda e: e.send(bytes(10_000_000)), ValueError, r"packet of 10000000 bytes does not fit .*SO_SNDBUF"),
            (lambda e: e.send(b"x", descriptors=[0] * 254), ValueError, "253 descriptors can go with a packet"),
        ],
    },
)
DATAGRAMS: Rows = both(
    paths(lambda path: open_datagram_socket(path)),
    modes(lambda mode: open_datagram_socket(PATH, mode=mode)),
    {
        "type": [
            (lambda e: e.send(5, PATH), TypeError, "bytes-like"),
            (lambda e: e.send_nowait("text", PATH), TypeError, "bytes-like"),
            (lambda e: e.send(b"x", None), TypeError, "path must be"),
        ],
        "value": [
            (lambda e: e.send(b"x", ""), ValueError, "cannot be the path"),
            (lambda e: e.send(b"x", PATH), FileNotFoundError, PATH),
        ],
        "length": [
            (lambda e: e.send(bytes(10_000_000), e.path), ValueError, r"10000000 bytes does not fit .*SO_SNDBUF"),
            (lambda e: e.send(b"x", "x" * 200), ValueError, "107 bytes, not 200"),
        ],
    },
)
TCP: Rows = {
    "type": [
        (lambda e: connect_tcp(None, 80), TypeError, "host must be a str, not NoneType"),
        (lambda e: listen_tcp(b"localhost", 0), TypeError, "host must be a str, not bytes"),
        (lambda e: connect_tcp("127.0.0.1", "80"), TypeError, "port must be an int, not str"),
        (lambda e: listen_tcp("127.0.0.1", 1.5), TypeError, "port must be an int"),
        (lambda e: listen_tcp("127.0.0.1", 0, backlog=None), TypeError, "backlog must be an int"),
    ],
    "value": [
        (lambda e: connect_tcp("", 80), ValueError, "host must be a name or an address, not ''"),
        (lambda e: listen_tcp("a\0b", 0), ValueError, "host must be a name or an address"),
        (lambda e: connect_tcp("127.0.0.1", 0), ValueError, "port must be between 1 and 65535, not 0"),
        (lambda e: listen_tcp("127.0.0.1", -1), ValueError, "port must be between 0"),
        (lambda e: connect_tcp("999.1.1.1", 80), socket.gaierror, r"999\.1\.1\.1 port 80"),
    ],
    "length": [
        (lambda e: connect_tcp("x" * 300, 80), ValueError, "host must be a name or an address"),
        (lambda e: connect_tcp("127.0.0.1", 65_536), ValueError, "port must be between 1 and 65535"),
    ],
}
SYSV_QUEUE: Rows = both(
    keys(SysVMessageQueue.create),
    keys(SysVMessageQueue.open),
    modes(lambda mode: SysVMessageQueue.create(KEY + 1, mode=mode)),
    {
        "type": [
            *NO_BYTES,
            (lambda e: e.send(b"", type="1"), TypeError, "type must be an int, not str"),
            (lambda e: e.send_nowait(b"", type=True), TypeError, "type must be an int, not bool"),
            (lambda e: e.receive(1.0), TypeError, "type must be an int, not float"),
            (lambda e: e.receive_nowait(None), TypeError, "type must be an int"),
            (lambda e: e.receive(max_size="1"), TypeError, "max_size must be an int"),
            (lambda e: e.receive_many(None), TypeError, "max_messages must be an int"),
            (lambda e: e.set_max_bytes(1.5), TypeError, "max_bytes must be an int"),
            (lambda e: SysVMessageQueue.open(id="1"), TypeError, "id must be an int"),
            (lambda e: ftok("/", "1"), TypeError, "id must be an int"),
            (lambda e: ftok(None, 1), TypeError, "path"),
            (lambda e: ftok(1, 1), TypeError, "path must be .* not an int"),
        ],
        "value": [
            (lambda e: e.send(STRIDED), ValueError, "not contiguous"),
            (lambda e: e.send(b"", type=0), ValueError, "type must be between 1 and"),
            (lambda e: e.send(b"", type=-3), ValueError, "type must be between 1 and"),
            (lambda e: e.send(b"", type=1 << 63), ValueError, "type must be between 1 and"),
            (lambda e: e.receive(1 << 63), ValueError, "type must be between"),
            (lambda e: e.receive(except_type=0), ValueError, "except_type must be between 1"),
            (lambda e: e.receive(except_type=-1), ValueError, "except_type must be between 1"),
            (lambda e: e.receive(3, except_type=4), ValueError, "exclude each other"),
            (lambda e: e.receive(max_size=-1), ValueError, "max_size must be between 0"),
            (lambda e: e.receive_many_nowait(0), ValueError, "max_messages must be between 1"),
            (lambda e: e.peek(-1), ValueError, "index must be between 0"),
            (lambda e: e.set_max_bytes(0), ValueError, "max_bytes must be between 1"),
            (lambda e: SysVMessageQueue.create(KEY + 1, max_bytes=0), ValueError, "max_bytes"),
            (lambda e: SysVMessageQueue.open(), ValueError, "key or by its id"),
            (lambda e: SysVMessageQueue.open(1, id=1), ValueError, "key or by its id"),
            (lambda e: SysVMessageQueue.open(id=-1), ValueError, "id must be between 0"),
            (lambda e: SysVMessageQueue.open(id=2**31 - 1), FileNotFoundError, "no System V message queue with the id"),
            (lambda e: SysVMessageQueue.open(KEY + 1), FileNotFoundError, "with the key 0x41494f71"),
            (lambda e: ftok("/", 256), ValueError, "low 8 bits"),
            (lambda e: ftok("/", 0), ValueError, "low 8 bits"),
            (lambda e: ftok("/nonexistent/file", 1), FileNotFoundError, "nonexistent"),
        ],
        "length": [
            (lambda e: e.send(bytes(1 << 22)), OSError, r"4194304 bytes .*kernel\.msg(max|mnb)"),
            (lambda e: e.set_max_bytes(1 << 40), ValueError, "max_bytes must be between 1"),
        ],
    },
)
SEMAPHORE_SET: Rows = both(
    keys(lambda key: SysVSemaphoreSet.create(key, [1])),
    keys(SysVSemaphoreSet.open),
    modes(lambda mode: SysVSemaphoreSet.create(KEY + 1, [1], mode=mode)),
    {
        "type": [
            (lambda e: e.acquire(1.0), TypeError, "n must be an int, not float"),
            (lambda e: e.release(True), TypeError, "n must be an int, not bool"),
            (lambda e: e.acquire_nowait(index="0"), TypeError, "index must be an int"),
            (lambda e: e.operate(None), TypeError, "operations must be a sequence"),
            (lambda e: e.operate_nowait([0]), TypeError, r"an operation is \(index, number\), not 0"),
            (lambda e: e.operate([(0, "1")]), TypeError, "what to add must be an int"),
            (lambda e: e.set_values(None), TypeError, "values must be a sequence of int"),
            (lambda e: SysVSemaphoreSet.create(None, "ab"), TypeError, "each of values"),
            (lambda e: SysVSemaphoreSet.create(None, 5), TypeError, "values must be a sequence of int, not int"),
        ],
        "value": [
            (lambda e: e.acquire(0), ValueError, "n must be between 1 and 32767, not 0"),
            (lambda e: e.acquire_nowait(-1), ValueError, "n must be between 1 and 32767"),
            (lambda e: e.acquire(index=2), ValueError, "index must be between 0 and 1, not 2"),
            (lambda e: e.acquire_nowait(index=-1), ValueError, "index must be between 0 and 1"),
            (lambda e: e.release(0), ValueError, "n must be between 1"),
            (lambda e: e.held(0), ValueError, "n must be between 1"),
            (lambda e: e.held(index=9), ValueError, "index must be between 0"),
            (lambda e: e.operate([]), ValueError, "no operation"),
            (lambda e: e.operate([(7, 1)]), ValueError, "index must be"),
            (lambda e: e.operate([(0, 1, 2)]), TypeError, "an operation is"),
            (lambda e: e.set_value(-1), ValueError, "value must be between 0 and 32767"),
            (lambda e: e.set_value(1, 2), ValueError, "index must be"),
            (lambda e: e.set_values([1]), ValueError, "has 2 semaphores, not 1"),
            (lambda e: e.value(5), ValueError, "index must be"),
            (lambda e: e.wait_zero(5), ValueError, "index must be"),
            (lambda e: SysVSemaphoreSet.create(None, []), ValueError, "1 to 65535 semaphores, not 0"),
            (lambda e: SysVSemaphoreSet.create(None, [-1]), ValueError, "each of values must be between 0 and 32767"),
            (lambda e: SysVSemaphoreSet.open(), ValueError, "key or by its id"),
            (lambda e: SysVSemaphoreSet.open(KEY + 1), FileNotFoundError, "semaphore set with the key 0x41494f71"),
            (lambda e: SysVSemaphoreSet.open(id=2**31 - 1), FileNotFoundError, "semaphore set with the id"),
        ],
        "length": [
            (lambda e: e.acquire(32768), ValueError, "n must be between 1 and 32767"),
            (lambda e: e.release(32767), OSError, "cannot count beyond 32767"),
            (lambda e: e.operate([(0, 40000)]), ValueError, "what to add must be between -32767"),
            (lambda e: e.operate([(0, 1)] * 20_000), OSError, r"too many at once: half the third .* kernel\.sem"),
            (lambda e: e.set_values([1, 40000]), ValueError, "each of values must be"),
            (lambda e: SysVSemaphoreSet.create(None, [0] * 32001), ValueError, r"first number of kernel\.sem"),
        ],
    },
)
POSIX_QUEUE: Rows = both(
    posix_names(PosixMessageQueue.create),
    posix_names(PosixMessageQueue.open),
    modes(lambda mode: PosixMessageQueue.create(NAME + "1", mode=mode)),
    {
        "type": [
            *NO_BYTES,
            (lambda e: e.send(b"", priority="1"), TypeError, "priority must be an int"),
            (
                lambda e: PosixMessageQueue.create(NAME + "1", max_messages=True),
                TypeError,
                "max_messages must be an int",
            ),
            (lambda e: PosixMessageQueue.create(NAME + "1", max_message_size="1"), TypeError, "size must be an int"),
        ],
        "value": [
            (lambda e: e.send(STRIDED), ValueError, "not contiguous"),
            (lambda e: e.send(b"", priority=-1), ValueError, "priority must be between 0"),
            (lambda e: e.send_nowait(b"", priority=32768), ValueError, "priority must be between 0 and 32767"),
            (lambda e: PosixMessageQueue.create(NAME + "1", max_messages=0), ValueError, "between 1 and"),
            (lambda e: PosixMessageQueue.create(NAME + "1", max_message_size=0), ValueError, "between 1 and"),
            (lambda e: PosixMessageQueue.open(NAME, access="rw"), ValueError, "access must be"),
            (lambda e: PosixMessageQueue.open(NAME + "1"), FileNotFoundError, "no POSIX queue of this name"),
        ],
        "length": [
            (lambda e: e.send(bytes(101)), ValueError, r"101 bytes.* takes 100 at most .*msgsize_max"),
            (lambda e: e.send_nowait(bytes(101)), ValueError, r"101 bytes.* takes 100 at most"),
            (lambda e: PosixMessageQueue.create(NAME + "1", max_messages=1 << 31), ValueError, "between 1 and"),
            (lambda e: PosixMessageQueue.create(NAME + "1", max_message_size=1 << 70), ValueError, "between 1 and"),
        ],
    },
)
POSIX_SEMAPHORE: Rows = both(
    posix_names(PosixSemaphore.create),
    posix_names(PosixSemaphore.open),
    modes(lambda mode: PosixSemaphore.create(NAME + "1", mode=mode)),
    {
        "type": [
            (lambda e: PosixSemaphore.create(NAME + "1", 1.5), TypeError, "value must be an int"),
            (lambda e: PosixSemaphore.create(NAME + "1", True), TypeError, "value must be an int"),
        ],
        "value": [
            (lambda e: PosixSemaphore.create(NAME + "1", -1), ValueError, "value must be between 0 and"),
            (lambda e: PosixSemaphore.open(NAME + "1"), FileNotFoundError, "no POSIX semaphore of this name"),
        ],
        "length": [
            (lambda e: PosixSemaphore.create(NAME + "1", 1 << 31), ValueError, "value must be between 0 and"),
            (lambda e: PosixSemaphore.create(NAME + "1", 1 << 70), ValueError, "value must be between 0 and"),
        ],
    },
)
SHARED_MEMORY: Rows = both(
    posix_names(lambda name: SharedMemory.create(10, name=name)),
    posix_names(SharedMemory.open),
    modes(lambda mode: SharedMemory.create(10, name=NAME + "1", mode=mode)),
    {
        "type": [
            (lambda e: SharedMemory.create(1.0), TypeError, "size must be an int"),
            (lambda e: SharedMemory.create(True), TypeError, "size must be an int"),
            (lambda e: SharedMemory.from_descriptor("3"), TypeError, "fd must be an int"),
            (lambda e: GuardedMemory(None, asyncio.Lock()), TypeError, "memory"),
            (lambda e: GuardedMemory(e, 5), TypeError, "lock"),
        ],
        "value": [
            (lambda e: SharedMemory.create(0), ValueError, "size must be between 1"),
            (lambda e: SharedMemory.create(-5), ValueError, "size must be between 1"),
            (lambda e: SharedMemory.from_descriptor(-1), ValueError, "fd must be between 0"),
            (lambda e: SharedMemory.from_descriptor(9999), OSError, "Bad file descriptor"),
            (lambda e: SharedMemory.open(NAME + "1"), FileNotFoundError, "no shared memory of this name"),
        ],
        "length": [
            (lambda e: SharedMemory.create(1 << 62), ValueError, "size must be between 1"),
            (lambda e: SharedMemory.create(1 << 55), OSError, r"more than the \d+ bytes that are available"),
            (lambda e: SharedMemory.create(1 << 55, name=NAME + "1"), OSError, r"more than the \d+ bytes"),
            (lambda e: SharedMemory.create(10_000, name=NAME, exist_ok=True), ValueError, "has 1000 bytes, not 10000"),
        ],
    },
)
SYSV_SHARED_MEMORY: Rows = both(
    keys(lambda key: SysVSharedMemory.create(key, 10)),
    keys(SysVSharedMemory.open),
    modes(lambda mode: SysVSharedMemory.create(KEY + 1, 10, mode=mode)),
    {
        "type": [
            (lambda e: SysVSharedMemory.create(None, 1e3), TypeError, "size must be an int"),
            (lambda e: SysVSharedMemory.open(), TypeError, "a key or an id"),
            (lambda e: SysVSharedMemory.open(KEY, id=5), TypeError, "a key or an id"),
            (lambda e: SysVSharedMemory.open(id="5"), TypeError, "id must be an int"),
        ],
        "value": [
            (lambda e: SysVSharedMemory.create(None, 0), ValueError, "size must be between 1"),
            (lambda e: SysVSharedMemory.create(None, -1), ValueError, "size must be between 1"),
            (lambda e: SysVSharedMemory.open(id=-1), ValueError, "id must be between"),
            (lambda e: SysVSharedMemory.open(KEY + 1), FileNotFoundError, "no System V shared memory with this key"),
            (lambda e: SysVSharedMemory.open(id=2**31 - 1), OSError, "no System V shared memory with id"),
        ],
        "length": [
            (lambda e: SysVSharedMemory.create(None, 1 << 64), ValueError, "size must be between 1"),
            (lambda e: SysVSharedMemory.create(None, 1 << 61), OSError, r"kernel\.shmmax = \d+"),
            (lambda e: SysVSharedMemory.create(KEY, 10_000, exist_ok=True), ValueError, "has less than 10000 bytes"),
        ],
    },
)


def files(use: Callable[[Any], object]) -> Rows:
    """Paths that no file can have."""
    return {
        "type": [(lambda _, path=path: use(path), TypeError, "str, bytes or os.PathLike") for path in (5, None, [])],
        "value": [(lambda _, path=path: use(path), ValueError, "cannot be the path of") for path in ("", "a\0b")],
        "length": [(lambda _: use("x" * 300), OSError, "too long: '.*xxx")],
    }


FILE_LOCK: Rows = both(
    files(FileLock.open),
    modes(lambda mode: FileLock.open("other", mode=mode)),
    {
        "type": [(lambda e: FileLock.open("other", kind="ofd", length="1"), TypeError, "length must be an int")],
        "value": [
            (lambda e: FileLock.open("other", kind="x"), ValueError, "'flock' or 'ofd', not 'x'"),
            (lambda e: FileLock.open("other", kind="ofd", start=-1), ValueError, "start must be between 0"),
            (lambda e: FileLock.open("other", start=5), ValueError, "kind='ofd'"),
            (lambda e: FileLock.open("none", create=False), FileNotFoundError, "/none'"),
            (lambda e: e.release(), RuntimeError, "is not held"),
        ],
        "length": [
            (lambda e: FileLock.open("other", kind="ofd", length=1 << 64), ValueError, "length must be between")
        ],
    },
)
MAPPED_FILE: Rows = both(
    files(lambda path: MappedFile.create(path, 10)),
    files(MappedFile.open),
    modes(lambda mode: MappedFile.create("other", 10, mode=mode)),
    {
        "type": [
            (lambda e: MappedFile.create("other", "10"), TypeError, "size must be an int"),
            (lambda e: e.resize("1"), TypeError, "size must be an int"),
        ],
        "value": [
            (lambda e: MappedFile.create("other", 0), ValueError, "size must be between 1"),
            (lambda e: MappedFile.open("none"), FileNotFoundError, "/none'"),
            (lambda e: e.resize(10), ValueError, "cannot be shortened to 10 bytes"),
        ],
        "length": [
            (lambda e: MappedFile.create("other", 1 << 64), ValueError, "size must be between 1"),
            (lambda e: MappedFile.create("other", 1 << 60), OSError, "/other'"),
        ],
    },
)
RECORD_LOG: Rows = both(
    files(RecordLog.open),
    modes(lambda mode: RecordLog.open("other", mode=mode)),
    {
        "type": [
            (lambda e: e.append(5), TypeError, "bytes-like"),
            (lambda e: e.append_nowait("text"), TypeError, "bytes-like"),
            (lambda e: e.append_many([None]), TypeError, "bytes-like"),
            (lambda e: e.follow("x"), TypeError, "position must be an int"),
            (lambda e: RecordLog.open("other", fsync="x"), TypeError, "fsync must be"),
            (lambda e: RecordLog.open("other", max_bytes="1"), TypeError, "max_bytes must be an int"),
        ],
        "value": [
            (lambda e: e.append(STRIDED), ValueError, "not contiguous"),
            (lambda e: e.follow(-1), ValueError, "position must be between 0"),
            (lambda e: e.follow(on_lost="x"), ValueError, "'raise' or 'skip', not 'x'"),
            (lambda e: RecordLog.open("other", max_bytes=0), ValueError, "max_bytes must be between 1"),
            (lambda e: RecordLog.open("other", keep=-1), ValueError, "keep must be between 0"),
            (lambda e: RecordLog.open("none", create=False), FileNotFoundError, "/none'"),
        ],
        "length": [(lambda e: e.append(bytes(2 << 20)), ValueError, "2097152 bytes is more than max_record=1048576")],
    },
)

TABLE: dict[str, Rows] = {
    "pipe": PIPE,
    "FIFO": FIFO,
    "socket stream": SOCKET_STREAM,
    "packet socket": PACKETS,
    "datagram socket": DATAGRAMS,
    "TCP": TCP,
    "System V queue": SYSV_QUEUE,
    "System V semaphores": SEMAPHORE_SET,
    "System V shared memory": SYSV_SHARED_MEMORY,
    "POSIX queue": POSIX_QUEUE,
    "POSIX semaphore": POSIX_SEMAPHORE,
    "shared memory": SHARED_MEMORY,
    "file lock": FILE_LOCK,
    "mapped file": MAPPED_FILE,
    "record log": RECORD_LOG,
}
