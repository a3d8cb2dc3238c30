"""What is different in a new specification of a whole tree (pure), for whoever reloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .spec import ChildSpec, SupervisorSpec

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpecChanges:
    """The children of two specs of a tree, by the names that lead to them; each is in one of the four.

    A supervisor is there itself, before its children, and has changed where anything but its children has; the root,
    the empty path, too. What has gone is in the order of the old spec, all others in that of the new one.
    """

    added: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()
    changed: tuple[Path, ...] = ()
    same: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        """In words, such as ``added web; changed backend/db``."""
        parts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        named = (
            f"{what} {', '.join('/'.join(path) or 'the supervisor' for path in paths)}"
            for what, paths in parts
            if paths
        )
        return "; ".join(named) or "nothing changed"


def compare_specs(old: SupervisorSpec, new: SupervisorSpec) -> SpecChanges:
    """Return what is different in the new spec. Functions are the same only where they are the same object."""
    before, after = dict(_flat(old)), dict(_flat(new))
    both = [path for path in after if path in before]
    return SpecChanges(
        added=tuple(path for path in after if path not in before),
        removed=tuple(path for path in before if path not in after),
        changed=tuple(path for path in both if before[path] != after[path]),
        same=tuple(path for path in both if before[path] == after[path]),
    )


def _flat(spec: SupervisorSpec, path: Path = ()) -> Iterator[tuple[Path, ChildSpec | SupervisorSpec]]:
    """Yield a supervisor without its children, and all that is below it."""
    if not path:
        yield path, replace(spec, children=())
    for child in spec.children:
        below = (*path, child.name)
        if child.supervisor is None:
            yield below, child
        else:
            yield below, replace(child, target=replace(child.supervisor, children=()))
            yield from _flat(child.supervisor, below)
