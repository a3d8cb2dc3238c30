"""The listening sockets that the master holds and its children share.

The master binds each address once, before it starts anybody. It never accepts: it holds the socket, so that whoever
connects waits in the queue while workers come and go, and a reload that names the same address keeps the very same
socket. What a child uses of them is its lease. A socket is closed, and its path removed, with the last lease.

The path of a UNIX socket has permissions: those that its address names, else the master's. Those who share one may
leave them open, but not want different ones. They change when the one child that uses it asks for others in a reload.

Who shares: all that name the same TCP port of the same address, the same path, the same passed socket. Port 0 is a free
port for each child and listener name; its next lease gets the same one again.

With ``reuse_port`` each replica of a child has a socket of its own (SO_REUSEPORT), and the kernel deals out the
connections. The master holds these too, one for each slot: whoever is started in place of a worker that died finds the
connections that came meanwhile. Only when a slot is given up for good is its socket closed, and those that still wait
there are reset, unless ``net.ipv4.tcp_migrate_req`` is 1 (``ip-sysctl``): then the others get them.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from ..kernel.listeners import listen_unix
from ..kernel.names import check_mode, check_range
from .addresses import Address, PassedAddress, TcpAddress, UnixAddress, parse_address
from .held_sockets import HeldSocket, OneForAll, OneForEach, OnePath, Passed, Path
from .listen_errors import explained
from .listening import BACKLOG, Place, listen_at, resolve
from .socket_activation import PassedSocket, PassedSockets
from .spec import ChildSpec

MODE = 0o600
"""The permissions of the path of a UNIX socket: who may write may connect."""


class ListenerLease:
    """What one child uses of the held listeners; `HeldListeners.lease` makes it, `close` gives it back."""

    def __init__(self, owner: HeldListeners, path: Path, held: Mapping[str, HeldSocket]) -> None:
        self._owner = owner
        self._held = held
        self.path: Path = path
        """The names that lead to the child."""

    @property
    def addresses(self) -> dict[str, str]:
        """Where the child's listeners are, by name; with the real port where a free one was asked for."""
        return {name: held.address for name, held in self._held.items()}

    def descriptors(self, slot: int) -> dict[str, int]:
        """Return the descriptors of the listeners for the process in a slot, by name.

        They are non-blocking, close-on-exec, and stay the master's: pass copies. With ``reuse_port`` those of a slot
        are made when they are first asked for; raises `OSError` where that fails.
        """
        return {name: held.descriptor(self.path, slot) for name, held in self._held.items()}

    def drop_slot(self, slot: int) -> None:
        """Close what only this slot uses (``reuse_port``), for nobody is going to accept there any more."""
        for held in self._held.values():
            held.drop_slot(self.path, slot)

    def close(self) -> None:
        """Give the listeners back; those that nobody else uses are closed. Closed already: do nothing."""
        held, self._held = self._held, {}
        self._owner._give_back(self.path, held.values())


class _Wanted(NamedTuple):
    """A listener that somebody asks for."""

    path: Path
    name: str
    address: Address
    reuse_port: bool

    @property
    def where(self) -> str:
        return f"child {'/'.join(self.path)!r}: listeners[{self.name!r}]"

    @property
    def mode(self) -> int | None:
        """The permissions that are asked for, of a UNIX socket."""
        return self.address.mode if isinstance(self.address, UnixAddress) else None

    @property
    def one_for_each(self) -> bool:
        """Whether each replica is to have a socket of its own."""
        return self.reuse_port and isinstance(self.address, TcpAddress)

    @property
    def key(self) -> Hashable:
        """Who has the same shares the socket, whatever else it is known by."""
        match self.address:
            case TcpAddress(port=0):
                return (self.path, self.name, self.address)
            case UnixAddress(path=path):
                return os.path.abspath(path)
        return self.address


class HeldListeners:
    """The listening sockets of a master; ``passed`` are those that it was started with, which it owns from now on.

    ``backlog`` is how many connections wait at each (at most ``net.core.somaxconn``), ``mode`` the permissions of the
    paths of UNIX sockets whose address names none, whatever the umask. Raises `TypeError` or `ValueError` for wrong
    ones.
    """

    def __init__(self, passed: PassedSockets | None = None, *, backlog: int = BACKLOG, mode: int = MODE) -> None:
        self.passed: PassedSockets = passed if passed is not None else PassedSockets()
        """What the service manager has passed."""
        self._backlog = check_range("backlog", backlog, 0, (1 << 31) - 1)
        self._mode = check_mode(mode)
        self._held: list[HeldSocket] = []

    async def lease(self, path: Path, spec: ChildSpec) -> ListenerLease:
        """Listen wherever a child wants, as far as nobody does yet; ``path`` are the names that lead to it.

        Raises `OSError` with the number that ``getaddrinfo(3)``, ``bind(2)`` or ``listen(2)`` gave, `ValueError` where
        a socket was not passed, or an address is in use with another ``reuse_port``. The error names the child, the
        listener, its address and what to do. Failed or cancelled: what was not held before is not held.
        """
        wanted = [_Wanted(path, name, parse_address(text), spec.reuse_port) for name, text in spec.listeners.items()]
        places = await self._resolve(wanted)
        found: dict[str, HeldSocket] = {}  # no await from here on
        try:
            for each in wanted:
                found[each.name] = self._take(each, places.get(each.address, []))
        except BaseException:
            self._give_back(path, found.values())
            raise
        return ListenerLease(self, path, found)

    def close(self) -> None:
        """Close everything, leased or not."""
        held, self._held = self._held, []
        for each in held:
            each.close()
        self.passed.close()

    async def _resolve(self, wanted: list[_Wanted]) -> dict[Address, list[Place]]:
        """Look up what is not held under its name: a held one is kept, whatever the name means by now."""
        places: dict[Address, list[Place]] = {}
        while unknown := [each for each in wanted if each.address not in places and self._find([each.key]) is None]:
            for each in unknown:  # meanwhile another lease may end: look again
                try:
                    places[each.address] = await resolve(each.address)
                except OSError as error:
                    raise explained(error, each.address, each.where) from None
        return places

    def _take(self, wanted: _Wanted, places: list[Place]) -> HeldSocket:
        held = self._find([wanted.key, *places]) or self._passed(wanted, places) or self._bind(wanted, places)
        if isinstance(held, OneForEach) != wanted.one_for_each:
            raise ValueError(_mixed(wanted, held))
        if isinstance(held, OnePath):
            self._set_mode(wanted, held)
        if held not in self._held:
            self._held.append(held)
        held.keys.add(wanted.key)
        held.users[wanted.path] += 1
        return held

    def _set_mode(self, wanted: _Wanted, held: OnePath) -> None:
        """Have the path's permissions be those that are wanted, unless another child relies on those it has."""
        if held.users.keys() <= {wanted.path}:
            try:
                held.change_mode(self._mode if wanted.mode is None else wanted.mode)
            except OSError as error:
                raise explained(error, wanted.address, wanted.where) from None
        elif wanted.mode not in (None, held.mode):
            who = ", ".join(repr("/".join(path)) for path in held.users)
            raise ValueError(f"{wanted.where}: {wanted.address} is held with mode={held.mode:o} by {who}; use the same")

    def _find(self, keys: Iterable[Hashable]) -> HeldSocket | None:
        return next((held for key in keys for held in self._held if key in held.keys), None)

    def _passed(self, wanted: _Wanted, places: list[Place]) -> HeldSocket | None:
        try:
            if isinstance(wanted.address, PassedAddress):
                found: PassedSocket | None = self.passed.named(wanted.address)
            else:
                found = self.passed.bound_to(wanted.address, places)
        except ValueError as error:
            raise ValueError(f"{wanted.where}: {error}") from None
        if found is None or found.sock is None:
            return None
        return self._find([found]) or Passed(found, found.sock)

    def _bind(self, wanted: _Wanted, places: list[Place]) -> HeldSocket:
        try:
            return self._bound(wanted, wanted.address, places)
        except OSError as error:
            raise explained(error, wanted.address, wanted.where) from None
        except ValueError as error:
            raise ValueError(f"{wanted.where}: {error}") from None

    def _bound(self, wanted: _Wanted, address: Address, places: list[Place]) -> HeldSocket:
        if isinstance(address, UnixAddress):
            path = os.path.abspath(address.path)
            mode = self._mode if address.mode is None else address.mode
            return OnePath(listen_unix(path, mode=mode, backlog=self._backlog), path, mode)
        assert isinstance(address, TcpAddress)
        sock = listen_at(places, backlog=self._backlog, reuse_port=wanted.reuse_port)
        if wanted.reuse_port:
            return OneForEach(sock, address, (wanted.path, 0), self._backlog)
        return OneForAll(sock, address)

    def _give_back(self, path: Path, held: Iterable[HeldSocket]) -> None:
        for each in held:
            if each in self._held and each.forget(path):
                self._held.remove(each)
                each.close()


def _mixed(wanted: _Wanted, held: HeldSocket) -> str:
    """Say that one address cannot be one socket for some and one for each for others, nor change while it is held."""
    if isinstance(held, Passed):
        return f"{wanted.where}: {wanted.address} was passed as one socket: leave reuse_port out"
    who = ", ".join(repr("/".join(path)) for path in held.users)
    how = "without" if wanted.one_for_each else "with"
    return f"{wanted.where}: {wanted.address} is held {how} reuse_port by {who}; take another port, or stop that first"
