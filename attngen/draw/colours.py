"""The colours of tile classes, shared by PNG and SVG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attngen.codegen.analysis import TileClass
from attngen.draw.cells import Cells

NEVER = (250, 250, 250)
ALWAYS = (33, 102, 172)
FAINT = (253, 224, 190)
STRONG = (230, 120, 30)
GAP = (205, 205, 205)
LEGEND = (("always", ALWAYS), ("sometimes", STRONG), ("never", NEVER))
STEPS = 8
"""Shades of a cell that is sometimes visible; few, so that neighbours join into one rectangle."""


def colours(cells: Cells) -> NDArray[np.uint8]:
    """The colour of each cell, (rows, columns, 3)."""
    shade = np.round(cells.shares * STEPS)[..., None] / STEPS
    mixed = np.asarray(FAINT) + shade * (np.asarray(STRONG) - np.asarray(FAINT))
    classes = cells.classes[..., None]
    image = np.where(classes == TileClass.ALWAYS, ALWAYS, np.where(classes == TileClass.NEVER, NEVER, np.rint(mixed)))
    return image.astype(np.uint8)


def hexadecimal(colour: tuple[int, ...]) -> str:
    """`#rrggbb`."""
    return "#" + "".join(f"{c:02x}" for c in colour)
