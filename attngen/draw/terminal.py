"""Masks as text: `#` always, `+` sometimes, `.` never visible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.codegen.analysis import TileClass
from attngen.draw.picture import Picture, pictures

if TYPE_CHECKING:
    from attngen.spec import Spec

COLUMNS = 64
MOST_ROWS = 64
SPACED = 32
"""Up to so many columns a blank follows every cell, which makes it about square in a terminal."""

SIGNS = {TileClass.NEVER: ".", TileClass.SOMETIMES: "+", TileClass.ALWAYS: "#"}
LEGEND = "# always   + sometimes   . never visible"


def ascii(spec: Spec, n_q: int | None = None, n_k: int | None = None, **options: Any) -> str:
    """The masks of a spec as text, queries downwards, keys to the right, with a legend and the visible share.

    Any size: a picture has at most 64 columns. Options are `n_b`, `n_h`, `tile` and `values`, as in `pictures`.
    """
    found = pictures(spec, n_q, n_k, raster=raster, **options)
    return "\n\n".join(text(spec.ir.name, picture) for picture in found) + f"\n{LEGEND}"


def raster(n_q: int, n_k: int, tile: int) -> tuple[int, int]:
    """Queries and keys of a character: twice as many queries where characters are not spaced."""
    width = tile * -(-n_k // (tile * COLUMNS))
    height = width if -(-n_k // width) <= SPACED else 2 * width
    return max(height if n_q > height or height == width else n_q, tile * -(-n_q // (tile * MOST_ROWS))), width


def text(name: str, picture: Picture) -> str:
    """One picture: what it shows, the cells, the share."""
    classes = picture.cells.classes
    gap = " " if classes.shape[1] <= SPACED else ""
    lines = [f"{': '.join(filter(None, (name, picture.title)))}   {picture.size()}"]
    lines += [gap.join(SIGNS[TileClass(kind)] for kind in row) for row in classes.tolist()]
    lines.append(picture.visible())
    if picture.undecided:
        lines.append(f"undecided without values of: {', '.join(picture.undecided)}")
    return "\n".join(lines)
