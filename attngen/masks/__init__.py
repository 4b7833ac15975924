"""Masks: which keys a query sees. Combine with `&`, `|`, `~`; the docstring of each says how many keys a row sees."""

from __future__ import annotations

from attngen.masks.causal import causal
from attngen.masks.chunked import chunked
from attngen.masks.dilated import dilated
from attngen.masks.document import document
from attngen.masks.full import full
from attngen.masks.lengths import lengths
from attngen.masks.mask import Mask
from attngen.masks.neighborhood import neighborhood
from attngen.masks.prefix import prefix
from attngen.masks.sink import sink
from attngen.masks.sliding_window import sliding_window
from attngen.masks.window import window
from attngen.suggest import missing

__all__ = [
    "Mask",
    "causal",
    "chunked",
    "dilated",
    "document",
    "full",
    "lengths",
    "neighborhood",
    "prefix",
    "sink",
    "sliding_window",
    "window",
]

__getattr__ = missing(__name__, __all__)
