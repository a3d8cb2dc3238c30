"""Cells as aligned text that fits the width: what may be cut is cut first, then columns are left out from the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

GAP = "  "
LEAST = 10
"""How narrow a column may be cut."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a column looks."""

    heading: str
    right: bool = False
    flexible: bool = False


def lay_out(
    shapes: Sequence[Shape],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    headings: bool = True,
    droppable: bool = False,
) -> list[str]:
    """The lines, the headings first. ``width`` None: as wide as it needs to be, for a file or a pipe.

    ``droppable``: columns may be left out that do not fit, the first two never.
    """
    texts = [[shape.heading for shape in shapes], *rows] if headings else list(rows)
    wanted = [max((cell_len(row[place]) for row in texts), default=0) for place in range(len(shapes))]
    widths = wanted if width is None else _fitted(shapes, wanted, width, droppable)
    return [_line(shapes, row, widths, width) for row in texts]


def _fitted(shapes: Sequence[Shape], wanted: Sequence[int], width: int, droppable: bool) -> list[int]:
    """The widths of the columns from the left that are shown."""
    widths = list(wanted)
    while True:
        excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
        flexible = [place for place in range(len(widths)) if shapes[place].flexible]
        least = [min(wanted[place], LEAST) for place in flexible]
        room = sum(widths[place] for place in flexible) - sum(least)
        if excess <= room or not droppable or len(widths) <= 2:
            _shrink(widths, flexible, max(0, min(excess, room)))
            return widths
        widths.pop()


def _shrink(widths: list[int], places: list[int], excess: int) -> None:
    """Take the excess from the widest, a cell at a time."""
    for _ in range(excess):
        widest = max(places, key=lambda place: widths[place])
        widths[widest] -= 1


def _line(shapes: Sequence[Shape], row: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    cells = []
    for shape, text, cell in zip(shapes, row, widths, strict=False):
        cut = text if cell_len(text) <= cell else set_cell_size(text, max(0, cell - 1)) + "…"
        space = " " * (cell - cell_len(cut))
        cells.append(space + cut if shape.right else cut + space)
    line = GAP.join(cells).rstrip()
    return line if width is None or cell_len(line) <= width else set_cell_size(line, max(0, width - 1)) + "…"
