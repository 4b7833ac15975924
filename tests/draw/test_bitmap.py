from __future__ import annotations

import struct
import zlib

import numpy as np

import attngen
from attngen import draw, masks
from attngen.draw.bitmap import encode
from attngen.draw.colours import ALWAYS, NEVER


def decode(data: bytes) -> np.ndarray:
    """The pixels of a PNG with unfiltered rows, after checking every chunk."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_pixels_survive() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(decode(encode(pixels)), pixels)


def test_a_mask() -> None:
    image = decode(draw.png(attngen.Spec(mask=masks.causal()), 4))
    assert image.shape == (512, 512, 3)
    for row in range(4):
        for column in range(4):
            wanted = ALWAYS if column <= row else NEVER
            assert tuple(image[row * 128 + 64, column * 128 + 64]) == wanted


def test_large_and_several() -> None:
    image = decode(draw.png(attngen.mechanisms.dual_triangle(), 100_000))
    assert image.shape == (512, 512 + 8 + 512, 3) or image.shape[1] > image.shape[0]
    left, right = image[:, :500], image[:, -500:]
    assert tuple(left[400, 10]) == ALWAYS
    assert tuple(right[400, 10]) == NEVER
