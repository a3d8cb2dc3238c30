"""Which child uses which held listeners: taken before a spec takes effect, given back when nothing needs it any more.

A lease is known by who has it and what for, and not by a generation: a reload that changes nothing of the listeners of
a child goes on with the very same sockets, and while old and new listeners differ there are two leases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from .held_listeners import HeldListeners, ListenerLease
from .spec import ChildSpec, SupervisorSpec
from .tree import Tree

Path = tuple[str, ...]


class Key(NamedTuple):
    """Who listens where."""

    path: Path
    listeners: tuple[tuple[str, str], ...]
    reuse_port: bool

    @classmethod
    def of(cls, path: Path, spec: ChildSpec) -> Key:
        """Return the key of the lease that the processes of this spec need."""
        return cls(path, tuple(sorted(spec.listeners.items())), spec.reuse_port)


class Leases:
    """The leases of all children of one tree."""

    def __init__(self, held: HeldListeners) -> None:
        self._held = held
        self._leases: dict[Key, ListenerLease] = {}
        self._pending: list[Key] = []
        self._slots: dict[Key, set[int]] = {}

    @asynccontextmanager
    async def acquired(self, path: Path, specs: tuple[ChildSpec, ...]) -> AsyncIterator[None]:
        """Lease what these children, below the supervisor at ``path``, need and nobody has leased yet.

        In the block the specs are to take effect; afterwards, whether they did or not, `keep` is to be called. Raises
        as `HeldListeners.lease`; what was leased until then goes with `keep`.
        """
        keys: list[Key] = []
        try:
            for key, spec in _processes(path, specs):
                keys.append(key)
                self._pending.append(key)
                if spec.listeners and key not in self._leases:
                    lease = await self._held.lease(key.path, spec)
                    if key in self._leases:  # somebody else was quicker
                        lease.close()
                    else:
                        self._leases[key] = lease
            yield
        finally:
            for key in keys:
                self._pending.remove(key)

    def descriptors(self, path: Path, spec: ChildSpec, slot: int) -> dict[str, int]:
        """Return the descriptors for a process; raises OSError where a socket of its own cannot be made."""
        if not spec.listeners:
            return {}
        key = Key.of(path, spec)
        self._slots.setdefault(key, set()).add(slot)
        return self._leases[key].descriptors(slot)

    def addresses(self, path: Path, spec: ChildSpec) -> dict[str, str]:
        """Return where a child listens, by name."""
        lease = self._leases.get(Key.of(path, spec))
        return {} if lease is None else lease.addresses

    def keep(self, tree: Tree) -> None:
        """Give back what neither a process of the tree uses nor a spec of it may come to use."""
        if not self._leases:
            return
        needed = {key: slots for key, slots in _needed(tree).items() if key in self._leases}
        for key in self._leases.keys() - needed.keys() - set(self._pending):
            self._slots.pop(key, None)
            self._leases.pop(key).close()
        for key, slots in needed.items():
            for slot in self._slots.get(key, set()) - slots if key.reuse_port else ():
                self._slots[key].discard(slot)
                self._leases[key].drop_slot(slot)

    def close(self) -> None:
        """Stop listening everywhere."""
        self._leases.clear()
        self._held.close()


def _processes(path: Path, specs: tuple[ChildSpec, ...]) -> Iterator[tuple[Key, ChildSpec]]:
    """Go through all that run in processes, at any depth."""
    for spec in specs:
        below = (*path, spec.name)
        if spec.supervisor is not None:
            yield from _processes(below, tuple(spec.supervisor.children))
        else:
            yield Key.of(below, spec), spec


def _needed(tree: Tree) -> dict[Key, set[int]]:
    """Return what the tree needs, with the slots that there are."""
    found: dict[Key, set[int]] = {}
    for path, node in tree.nodes.items():
        for child in node.state.children:
            specs = [child.spec, *(process.spec for process in child.processes())]
            if child.roll is not None:
                specs.append(child.roll.spec)
            slots = {slot.number for slot in child.slots}
            for key, _ in _processes(path, tuple(specs)):
                found.setdefault(key, set()).update(slots)
        for reload in (node.state.reload, node.state.next_reload):
            spec: SupervisorSpec | None = None if reload is None else reload.spec
            for key, _ in _processes(path, tuple(spec.children) if spec is not None else ()):
                found.setdefault(key, set())
    return found
