"""HTTP clients that count every kind of failure: is a request lost while a server restarts?

python examples/http_load.py 127.0.0.1:8000 --seconds 10

Some clients keep their connections, some make a new one for each request, some ask for an answer that takes a while
(/slow), some send their request in pieces (POST). Without an address it loads a small server of its own.

What counts as a failure, and what does not: a server may close a connection on which nothing is going on, at any time
(RFC 9112, section 9.3), and a client that finds that out has lost nothing ("closed idle"). Where the end came when the
next request was on its way, the client sends that again on a new connection ("sent again"): legal, but a failure for
clients that do not. Everything else is a failure.
"""

import argparse
import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import aioipc

TIMEOUT = 20.0
"""Seconds that an answer may take."""
PAUSE = 0.03
"""Seconds between two pieces of a request."""
CLIENTS = {"kept": 4, "new": 3, "slow": 2, "pieces": 2}
"""How many clients there are of each kind."""


@dataclass
class Tally:
    """What has come of the requests."""

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By kind: refused, reset, empty (closed without an answer), cut (within an answer), wrong, timeout, other."""
    closed_idle: int = 0
    sent_again: int = 0
    slowest: float = 0.0
    """Seconds of the slowest answer."""
    processes: set[str] = field(default_factory=set)
    """Who has answered: the first word of each answer, which is a pid in the examples."""

    @property
    def failed(self) -> int:
        return self.failures.total()

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failures.most_common())
        return (
            f"answered {self.answered}, failed {self.failed}{f' ({kinds})' if kinds else ''}; "
            f"closed idle {self.closed_idle}, sent again {self.sent_again}, slowest {self.slowest:.2f} s"
        )


class Failure(Exception):
    """A request has failed; the argument is the kind. ``unseen``: the server may never have read it."""

    def __init__(self, kind: str, *, unseen: bool = False) -> None:
        super().__init__(kind)
        self.unseen = unseen


class Connection:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_fresh = True
        self.is_open = True

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        try:
            return cls(*await asyncio.open_connection(host, port))
        except ConnectionRefusedError:
            raise Failure("refused") from None
        except ConnectionResetError:
            raise Failure("reset") from None

    async def ask(self, pieces: Iterable[bytes]) -> str:
        """Send a request and return the body of the answer; raises Failure."""
        try:
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(PAUSE)
                if not self._writer.is_closing():  # if it is, reading tells why
                    self._writer.write(piece)
            return await self._answer()
        except asyncio.IncompleteReadError as error:
            kind = "cut" if error.partial else "empty"
            raise Failure(kind, unseen=not (self.is_fresh or error.partial)) from None
        except (ConnectionResetError, BrokenPipeError):
            raise Failure("reset", unseen=not self.is_fresh) from None

    async def _answer(self) -> str:
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        try:
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Failure("cut") from None
        if status.split()[1] != "200":
            raise Failure(f"wrong: {status}")
        self.is_fresh = False
        self.is_open = headers.get("connection", "").lower() != "close"
        return body.decode()

    @property
    def is_closed_by_server(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.close()


class Client:
    """Sends one request after the other until it is told to stop."""

    def __init__(self, host: str, port: int, pieces: list[bytes], tally: Tally, *, keep: bool) -> None:
        self._place = host, port
        self._pieces = pieces
        self._tally = tally
        self._keep = keep
        self._kept: Connection | None = None

    async def run(self, is_over: Callable[[], bool]) -> None:
        try:
            while not is_over():
                await self._request()
        finally:
            if self._kept is not None:
                self._kept.close()

    async def _request(self) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                body = await self._ask()
        except Failure as failure:
            self._tally.failures[str(failure)] += 1
            await asyncio.sleep(0.01)  # a server that is gone is not to be asked ten thousand times
        except TimeoutError:
            self._tally.failures["timeout"] += 1
        except OSError as error:
            self._tally.failures[f"other: {error.strerror}"] += 1
            await asyncio.sleep(0.01)
        else:
            self._tally.answered += 1
            self._tally.slowest = max(self._tally.slowest, time.monotonic() - started)
            self._tally.processes.add(body.partition(" ")[0])

    async def _ask(self) -> str:
        connection, self._kept = self._kept, None
        if connection is not None and connection.is_closed_by_server:
            self._tally.closed_idle += 1
            connection.close()
            connection = None
        if connection is not None:
            try:
                return await self._ask_on(connection)
            except Failure as failure:
                if not failure.unseen:
                    raise
                self._tally.sent_again += 1
        return await self._ask_on(await Connection.open(*self._place))

    async def _ask_on(self, connection: Connection) -> str:
        try:
            body = await connection.ask(self._pieces)
        except BaseException:
            connection.close()
            raise
        if self._keep and connection.is_open:
            self._kept = connection
        else:
            connection.close()
        return body


def clients(host: str, port: int, tally: Tally, counts: dict[str, int]) -> list[Client]:
    """Make so many clients of each kind."""
    kinds = {
        "kept": ([_request("GET /")], True),
        "new": ([_request("GET /", close=True)], False),
        "slow": ([_request("GET /slow")], True),
        "pieces": ([*_pieces(_request("POST /", body=b"x" * 2000, close=True))], False),
    }
    return [
        Client(host, port, pieces, tally, keep=keep)
        for kind, (pieces, keep) in kinds.items()
        for _ in range(counts.get(kind, 0))
    ]


def _request(line: str, *, body: bytes = b"", close: bool = False) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: example", *(["Connection: close"] if close else [])]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def _pieces(request: bytes) -> Iterable[bytes]:
    """The connection alone, half of the head, the rest of it with half of the body, the rest."""
    return b"", request[:20], request[20:1000], request[1000:]


async def load(
    host: str, port: int, during: Callable[[Tally], Awaitable[None]], counts: dict[str, int] = CLIENTS
) -> tuple[Tally, float]:
    """Have clients ask for as long as ``during`` takes; returns what has come of it, and how many seconds it took."""
    tally = Tally()
    is_over = asyncio.Event()
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for client in clients(host, port, tally, counts):
            group.create_task(client.run(is_over.is_set))
        try:
            await during(tally)
        finally:
            is_over.set()
    return tally, time.monotonic() - started


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the client closes, as the small server of this program does."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            _, _, length = head.lower().partition(b"content-length:")
            await reader.readexactly(int(length.split()[0]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhere 0")
            await writer.drain()
    writer.close()


async def main(address: str | None, seconds: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if address is None:
            server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        host, _, port = address.rpartition(":")
        tally, took = await load(host, int(port), lambda _: asyncio.sleep(seconds))
        print(f"{address}: {tally.answered / took:,.0f} requests/s; {tally}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    aioipc.run(main(options.address, options.seconds))
