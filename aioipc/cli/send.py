"""``aioipc send``: put messages into a queue, a FIFO or a UNIX socket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import click

import aioipc

from .address import Address, resolve_address, target_options
from .failure import CommandError, NothingError, errors_told, explain
from .messages import Message, from_record
from .output import open_missing_descriptors
from .parameters import SECONDS
from .senders import A_MOMENT, Sender, open_sender, waited
from .standard_streams import read_pieces


@dataclass(frozen=True, slots=True)
class SendSettings:
    """The command line, checked."""

    address: Address
    type: int | None
    priority: int | None
    texts: tuple[str, ...]
    whole: bool
    null: bool
    as_json: bool
    add_zero: bool
    wait: float | None
    """Seconds for each message; 0: not at all; None: for ever."""


@click.command("send", short_help="Put messages into a queue, a FIFO or a UNIX socket.")
@target_options
@click.option("-t", "--type", type=click.IntRange(min=1), metavar="TYPE", help="System V type.  [default: 1]")
@click.option(
    "--priority", type=click.IntRange(0, 32767), metavar="N", help="POSIX priority, higher first.  [default: 0]"
)
@click.option("-m", "--message", "texts", multiple=True, metavar="TEXT", help="A message; may be given again.")
@click.option("--whole", is_flag=True, help="Standard input is one message, to its end.")
@click.option("-0", "--null", is_flag=True, help="Messages in standard input end with a zero byte, not a newline.")
@click.option("--json", "--jsonl", "as_json", is_flag=True, help="Each line is a message as recv --json writes it.")
@click.option("--add-zero", is_flag=True, help="End each body with a zero byte, for C programs that expect a string.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="How long a message may wait for room.")
@click.option("--no-wait", is_flag=True, help="Do not wait for room: --timeout 0.")
def send_command(**options: Any) -> None:
    """Put messages into a System V queue (-i, -k, --ftok), a POSIX queue (-n), a FIFO or a UNIX socket (PATH).

    A message is what -m says, else each line of standard input. Through FIFOs and stream sockets it goes with its
    newline.

    Exit code: 0 all are sent, 1 there was no room in time, 2 wrong usage or another error, 130 and 143 after
    Ctrl-C and SIGTERM. Cancelled or timed out: the message was not sent.

    \b
      aioipc send -i 5 -t 123 -m "hello world"
      journalctl -f | aioipc send -n /lines
      aioipc send /tmp/hello --whole < file
    """
    settings = check_options(**options)
    if not settings.texts and sys.stdin is None:
        raise CommandError("standard input is closed: give messages with -m")
    open_missing_descriptors()
    if not settings.texts and os.isatty(0):
        click.echo("aioipc send: reading messages from the terminal, one a line; Ctrl-D ends the input", err=True)
    with errors_told():
        aioipc.run(send_all, settings)


def check_options(
    *,
    type: int | None,
    priority: int | None,
    texts: tuple[str, ...],
    whole: bool,
    null: bool,
    as_json: bool,
    add_zero: bool,
    timeout: float | None,
    no_wait: bool,
    **target: Any,
) -> SendSettings:
    """Turn the options into settings; `CommandError` where they do not go together."""
    if texts and (whole or null or as_json):
        raise CommandError("--whole, --null and --json are about standard input, which -m replaces")
    if whole + null + as_json > 1:
        raise CommandError("--whole, --null and --json exclude each other")
    if no_wait and timeout:
        raise CommandError("--no-wait and --timeout exclude each other")
    wait = 0.0 if no_wait else timeout
    address = resolve_address(**target)
    return SendSettings(address, type, priority, texts, whole, null, as_json, add_zero, wait)


async def send_all(settings: SendSettings) -> None:
    """Send every message, in order."""
    sent = 0
    try:
        with closing(await _open(settings)) as sender:
            async with aclosing(_messages(settings)) as messages:
                async for message in messages:
                    await _send(sender, message, settings.wait)
                    sent += 1
    except (OSError, aioipc.IPCError, ValueError, CommandError) as error:
        if not sent:
            raise
        before = f"{sent} message{'s' if sent > 1 else ''} went before"
        kind = NothingError if isinstance(error, NothingError) else CommandError
        text = error.message if isinstance(error, CommandError) else explain(error)
        raise kind(f"{text}; {before}") from error


async def _open(settings: SendSettings) -> Sender:
    try:
        async with asyncio.timeout(A_MOMENT if settings.wait == 0 else settings.wait):
            return await open_sender(
                settings.address, type=settings.type, priority=settings.priority, whole=settings.whole
            )
    except TimeoutError:
        raise NothingError(f"{settings.address.path}: nobody reads{waited(settings.wait)}") from None


async def _send(sender: Sender, message: Message, wait: float | None) -> None:
    try:
        if wait == 0 or not await _sent_in_time(sender, message, wait):
            await sender.send_now(message)
    except (TimeoutError, aioipc.WouldBlock):
        raise NothingError(f"not sent: {sender.full}{waited(wait)}") from None


async def _sent_in_time(sender: Sender, message: Message, wait: float | None) -> bool:
    """Send it; False where it is worth to try a last time, since the time was over before the machine came to look."""
    try:
        async with asyncio.timeout(wait):
            await sender.send(message)
    except TimeoutError:
        if sender.is_queue:
            return False
        raise
    return True


async def _messages(settings: SendSettings) -> AsyncGenerator[Message, None]:
    end = b"\0" if settings.add_zero else b""
    if settings.texts:
        for text in settings.texts:
            yield Message(os.fsencode(text) + end)
        return
    separator = None if settings.whole else b"\0" if settings.null else b"\n"
    number = 0
    async with aclosing(read_pieces(0, separator)) as pieces:
        async for piece in pieces:
            number += 1
            if not settings.as_json:
                yield Message(piece + end)
            elif piece.strip():
                yield _described(piece, number, end)


def _described(line: bytes, number: int, end: bytes) -> Message:
    try:
        message = from_record(line)
    except ValueError as error:
        raise CommandError(f"standard input, line {number}: {error}") from None
    return message._replace(body=message.body + end)
