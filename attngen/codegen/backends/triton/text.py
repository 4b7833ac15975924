"""Pieces of generated Python."""

from __future__ import annotations

from textwrap import indent

from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes

PLACES = {0: ((Axes.NONE, Axes.ROW), (Axes.KEY, Axes.PAIR)), 1: ((Axes.NONE, Axes.KEY), (Axes.ROW, Axes.PAIR))}
"""By the axis of a tile that holds the rows: what stands outside of the loop along the other axis, and what inside."""


def before(*printers: Printer) -> list[str]:
    """The statements that stand in front of the loop."""
    return [line for p in printers for place in PLACES[p.layout.row_axis][0] for line in p.lines[place]]


def within(*printers: Printer) -> list[str]:
    """The statements that stand in the loop."""
    return [line for p in printers for place in PLACES[p.layout.row_axis][1] for line in p.lines[place]]


def block(text: str, depth: int = 1) -> str:
    """The lines of a text that hold anything, `depth` levels in."""
    return indent("\n".join(line for line in text.splitlines() if line.strip()), "    " * depth)
