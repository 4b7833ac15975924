"""Pictures of masks, drawn from tile classes: text, PNG and SVG, for any number of tokens."""

from __future__ import annotations

from attngen.draw.bitmap import png
from attngen.draw.picture import Picture, pictures
from attngen.draw.terminal import ascii
from attngen.draw.vector import svg

__all__ = ["Picture", "ascii", "pictures", "png", "svg"]
