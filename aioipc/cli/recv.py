"""``aioipc recv``: take messages out of a queue, a FIFO or a UNIX socket, and print them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import click

import aioipc

from .address import Address, resolve_address, target_options
from .exit_codes import EXIT_PIPE_CLOSED
from .failure import CommandError, NothingError, errors_told, explain
from .message_output import LAST_WRITE, MessageOutput
from .messages import Message, to_record
from .output import open_missing_descriptors
from .parameters import SECONDS
from .receivers import EndOfInput, ListenKind, Receiver, open_receiver
from .senders import waited


@dataclass(frozen=True, slots=True)
class RecvSettings:
    """The command line, checked."""

    address: Address
    type: int
    except_type: int | None
    listen: ListenKind | None
    peek: bool
    count: int | None
    """How many messages; None: as many as come."""
    follow: bool
    wait: float | None
    """Seconds for each message; 0: not at all; None: for ever."""
    as_json: bool
    null: bool
    strip_zeros: bool


@click.command("recv", short_help="Take messages out of a queue, a FIFO or a UNIX socket.")
@target_options
@click.option(
    "-t",
    "--type",
    type=int,
    default=0,
    metavar="TYPE",
    help="System V type: N exactly that one, -N the lowest up to N, 0 any.  [default: 0]",
)
@click.option("--except", "except_type", type=click.IntRange(min=1), metavar="TYPE", help="Any type but this one.")
@click.option("--peek", is_flag=True, help="Print copies; the messages stay. System V only; it never waits.")
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="How many messages.  [default: 1]")
@click.option("-a", "--all", "take_all", is_flag=True, help="All that are there now; of a stream, to its end.")
@click.option("-f", "--follow", is_flag=True, help="Go on for ever; a FIFO outlives its writers.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="How long to wait for a message.")
@click.option("--no-wait", is_flag=True, help="Do not wait for a message: --timeout 0.")
@click.option(
    "--listen",
    type=click.Choice(["stream", "packets", "datagram"]),
    help="Make a UNIX socket of this kind at PATH, and receive what others send there.",
)
@click.option(
    "--json", "--jsonl", "as_json", is_flag=True, help="A JSON object a line: type, priority, body, encoding."
)
@click.option("-0", "--null", is_flag=True, help="End each message with a zero byte, not a newline.")
@click.option("--strip-zeros", is_flag=True, help="Cut each body at its first zero byte: a C string in its buffer.")
def recv_command(**options: Any) -> None:
    """Take messages out of a System V queue (-i, -k, --ftok), a POSIX queue (-n), a FIFO or a UNIX socket (PATH).

    Each body is printed as it is, with a newline, at once. A message is taken only when it can be written; one that
    could not be written whole goes back to the end of its queue.

    Exit code: 0 all that were asked for came, 1 there was none (or not so many), 2 wrong usage or another error, 130
    and 143 after Ctrl-C and SIGTERM, 141 where the reader of the output has left.

    \b
      aioipc recv -i 5 -t 123
      aioipc recv -n /lines --follow | grep error
      aioipc recv -i 5 --all --json | aioipc send -i 6 --json
      aioipc recv inbox.sock --listen datagram --follow
    """
    settings = check_options(**options)
    if sys.stdout is None:
        raise CommandError("standard output is closed, so nothing was received")
    open_missing_descriptors()
    try:
        with errors_told():
            aioipc.run(Reception(settings).run)
    except BrokenPipeError:
        sys.exit(EXIT_PIPE_CLOSED)


def check_options(
    *,
    type: int,
    except_type: int | None,
    peek: bool,
    count: int | None,
    take_all: bool,
    follow: bool,
    timeout: float | None,
    no_wait: bool,
    listen: ListenKind | None,
    as_json: bool,
    null: bool,
    strip_zeros: bool,
    **target: Any,
) -> RecvSettings:
    """Turn the options into settings; `CommandError` where they do not go together."""
    if (count is not None) + take_all + follow > 1:
        raise CommandError("--count, --all and --follow exclude each other")
    if no_wait and (timeout or follow):
        raise CommandError("--no-wait excludes --timeout and --follow; --all takes what is there")
    if peek and (follow or timeout):
        raise CommandError("--peek never waits, so --follow and --timeout do not go with it")
    if type and except_type is not None:
        raise CommandError("--type and --except exclude each other")
    address = resolve_address(**target)
    if listen is not None and (address.path is None or take_all):
        raise CommandError("--listen takes a PATH, and --count or --follow")
    if take_all or follow:
        count = None
    elif count is None:
        count = 1
    wait = 0.0 if no_wait else timeout
    return RecvSettings(address, type, except_type, listen, peek, count, follow, wait, as_json, null, strip_zeros)


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await what must not be cancelled, and takes a limited time."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()


class Reception:
    """One run of the command."""

    def __init__(self, settings: RecvSettings, descriptor: int = 1) -> None:
        self._settings = settings
        self._descriptor = descriptor
        self._received = 0

    async def run(self) -> None:
        """Receive and print; `NothingError` where less came than was asked for."""
        task = asyncio.current_task()
        assert task is not None
        output = MessageOutput(self._descriptor, task.cancel)
        try:
            with closing(output), closing(await self._open()) as receiver:
                if self._settings.peek:
                    await self._peek(receiver, output)
                else:
                    await self._receive_all(receiver, output)
        except asyncio.CancelledError:
            if output.is_gone and not task.uncancel():  # nobody but us has cancelled it
                raise BrokenPipeError from None
            raise

    async def _open(self) -> Receiver:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.wait or None):
                return await open_receiver(
                    settings.address,
                    type=settings.type,
                    except_type=settings.except_type,
                    listen=settings.listen,
                    endless=settings.follow,
                    bytewise=settings.count is not None,
                )
        except TimeoutError:
            raise NothingError(f"{settings.address.path}: nobody answers{waited(settings.wait)}") from None

    async def _peek(self, receiver: Receiver, output: MessageOutput) -> None:
        found = receiver.peek()[: self._settings.count]
        for message in found:
            await output.wait_room()
            await output.write(self._line(message))
        self._received = len(found)
        self._check_enough(receiver.nothing)

    async def _receive_all(self, receiver: Receiver, output: MessageOutput) -> None:
        """Take each message only when it can be written."""
        try:
            while self._settings.count is None or self._received < self._settings.count:
                await output.wait_room()
                try:
                    message = await self._next(receiver)
                except (TimeoutError, aioipc.WouldBlock, EndOfInput) as end:
                    return self._check_enough(self._why(receiver, end))
                await self._print(receiver, output, message)
                self._received += 1
        except asyncio.CancelledError:
            await self._print_leftover(receiver, output)
            raise

    async def _next(self, receiver: Receiver) -> Message:
        settings = self._settings
        if settings.wait == 0 or (settings.count is None and not settings.follow and receiver.is_queue):
            return await receiver.receive_now()
        try:
            async with asyncio.timeout(settings.wait):
                return await receiver.receive()
        except TimeoutError:
            if not receiver.is_queue:
                raise
        return await receiver.receive_now()  # where the time was over before the machine came to look

    def _check_enough(self, nothing: str) -> None:
        if not self._received:
            raise NothingError(nothing)
        if self._settings.count is not None and self._received < self._settings.count:
            raise NothingError(f"{nothing}; {self._received} of {self._settings.count} came before")

    def _why(self, receiver: Receiver, end: Exception) -> str:
        if isinstance(end, EndOfInput):
            return f"{receiver.nothing}: the other side has ended"
        return receiver.nothing + waited(self._settings.wait)

    async def _print(self, receiver: Receiver, output: MessageOutput, message: Message) -> None:
        try:
            await output.write(self._line(message))
        except BaseException as error:
            if not output.wrote_all:
                await to_the_end(self._give_back(receiver, message))
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise CommandError(f"cannot write to standard output: {error.strerror}") from error
            raise

    async def _give_back(self, receiver: Receiver, message: Message) -> None:
        try:
            async with asyncio.timeout(LAST_WRITE):
                await receiver.give_back(message)
        except (TimeoutError, OSError, aioipc.IPCError) as error:
            why = explain(error) if str(error) else "there was no room"
            text = f"a message of {len(message.body)} bytes was neither written nor given back: {why}"
            raise CommandError(text) from error

    async def _print_leftover(self, receiver: Receiver, output: MessageOutput) -> None:
        """What was read from a stream beyond the messages printed cannot go back: print it, unless that takes long."""
        if output.is_gone:
            return
        try:
            async with asyncio.timeout(LAST_WRITE):
                for message in receiver.leftover():
                    await output.write(self._line(message))
        except (TimeoutError, OSError):
            pass

    def _line(self, message: Message) -> bytes:
        if self._settings.strip_zeros:
            message = message._replace(body=message.body.partition(b"\0")[0])
        end = b"\0" if self._settings.null else b"\n"
        return (to_record(message) if self._settings.as_json else message.body) + end
