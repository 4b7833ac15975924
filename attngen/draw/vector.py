"""Masks as SVG: one rectangle for each run of equal cells, a title, a legend."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from attngen.draw.colours import GAP, LEGEND, NEVER, colours, hexadecimal
from attngen.draw.picture import Picture, pictures

if TYPE_CHECKING:
    from attngen.spec import Spec

SIDE = 512
MOST_CELLS = 128
HEAD, FOOT, MARGIN = 24, 44, 12


def svg(spec: Spec, n_q: int | None = None, n_k: int | None = None, **options: Any) -> str:
    """The masks of a spec as an SVG document, side by side with titles and a legend; options as in `pictures`."""
    found = pictures(spec, n_q, n_k, raster=raster, **options)
    step = SIDE + 2 * MARGIN
    width, height = step * len(found), HEAD + SIDE + FOOT + MARGIN
    bodies = [_one(spec.ir.name, picture) for picture in found]
    parts = [f'<g transform="translate({i * step + MARGIN} 0)">{body}</g>' for i, body in enumerate(bodies)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" shape-rendering="crispEdges">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def raster(n_q: int, n_k: int, tile: int) -> tuple[int, int]:
    """Queries and keys of a cell: square, at most 128 cells along the longer side."""
    side = tile * -(-max(n_q, n_k) // (tile * MOST_CELLS))
    return side, side


def _one(name: str, picture: Picture) -> str:
    image = colours(picture.cells)
    rows, columns = image.shape[:2]
    scale = SIDE / max(rows, columns)
    title = ": ".join(filter(None, (name, picture.title)))
    lines = [
        f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>',
        f'<g transform="translate(0 {HEAD}) scale({scale:g})">',
        f'<rect width="{columns}" height="{rows}" fill="{hexadecimal(NEVER)}"/>',
        *(line for y, row in enumerate(image.tolist()) for line in _runs(y, row)),
        "</g>",
        f'<rect y="{HEAD}" width="{columns * scale:g}" height="{rows * scale:g}" fill="none" '
        f'stroke="{hexadecimal(GAP)}"/>',
        *_legend(HEAD + SIDE + 16),
        f'<text x="0" y="{HEAD + SIDE + 36}">{escape(picture.visible())}; {escape(picture.size())}</text>',
    ]
    return "\n".join(lines)


def _runs(y: int, row: list[list[int]]) -> Iterator[str]:
    x = 0
    for colour, group in groupby(map(tuple, row)):
        length = len(list(group))
        if colour != NEVER:
            yield f'<rect x="{x}" y="{y}" width="{length}" height="1" fill="{hexadecimal(colour)}"/>'
        x += length


def _legend(y: int) -> Iterator[str]:
    for i, (word, colour) in enumerate(LEGEND):
        yield (
            f'<rect x="{i * 100}" y="{y - 10}" width="12" height="12" fill="{hexadecimal(colour)}" '
            f'stroke="{hexadecimal(GAP)}"/><text x="{i * 100 + 18}" y="{y}">{word}</text>'
        )
