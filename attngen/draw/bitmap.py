"""Masks as PNG, written by hand: a header, one compressed block of rows, an end."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attngen.draw.colours import GAP, colours
from attngen.draw.picture import pictures

if TYPE_CHECKING:
    from attngen.spec import Spec

SIDE = 512
MOST_CELLS = 256
SIGNATURE = b"\x89PNG\r\n\x1a\n"
Pixels = NDArray[np.uint8]


def png(spec: Spec, n_q: int | None = None, n_k: int | None = None, **options: Any) -> bytes:
    """The masks of a spec as a PNG file, side by side, each at most 512 pixels wide; options as in `pictures`.

    Blue is always, white never visible; between them orange, the darker the more is visible.
    """
    images = [_scaled(colours(picture.cells)) for picture in pictures(spec, n_q, n_k, raster=raster, **options)]
    height = max(image.shape[0] for image in images)
    parts: list[Pixels] = []
    for image in images:
        if parts:
            parts.append(np.full((height, 8, 3), GAP, np.uint8))
        canvas = np.full((height, image.shape[1], 3), GAP, np.uint8)
        canvas[: image.shape[0]] = image
        parts.append(canvas)
    return encode(np.concatenate(parts, 1))


def raster(n_q: int, n_k: int, tile: int) -> tuple[int, int]:
    """Queries and keys of a cell: square, at most 256 cells along the longer side."""
    side = tile * -(-max(n_q, n_k) // (tile * MOST_CELLS))
    return side, side


def encode(pixels: Pixels) -> bytes:
    """A PNG file of (height, width, 3) bytes."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # every row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 9)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scaled(image: Pixels) -> Pixels:
    factor = max(1, SIDE // max(image.shape[:2]))
    return np.repeat(np.repeat(image, factor, 0), factor, 1)
