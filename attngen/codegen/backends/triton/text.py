"""Pieces of generated Python."""

from __future__ import annotations

from textwrap import indent

from attngen.codegen.printers.triton import Printer
from attngen.codegen.printers.triton_values import Axes

OUTSIDE = (Axes.NONE, Axes.ROW)
INSIDE = (Axes.KEY, Axes.PAIR)


def before(*printers: Printer) -> list[str]:
    """The statements that stand in front of a loop over keys."""
    return [line for printer in printers for place in OUTSIDE for line in printer.lines[place]]


def within(*printers: Printer) -> list[str]:
    """The statements that stand in a loop over keys."""
    return [line for printer in printers for place in INSIDE for line in printer.lines[place]]


def block(text: str, depth: int = 1) -> str:
    """The lines of a text that hold anything, `depth` levels in."""
    return indent("\n".join(line for line in text.splitlines() if line.strip()), "    " * depth)
